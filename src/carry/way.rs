//! The way to a vault, for blocking code that runs beside an asynchronous runtime.

use std::collections::BTreeMap;

use tokio::runtime::Handle;

use super::folder::Shelf;
use crate::api::epoch::Epoch;
use crate::trust::tls::{Forward, Material};
use crate::vault::client::{ClientError, RepositoryClient, VaultClient};

/// A vault, and what it is reached with.
#[derive(Debug, Clone)]
pub struct Way {
    /// `https://host:port`.
    pub url: String,
    /// The operator's certificate: manifests need it.
    pub operator: Material,
    /// The mover's certificate: repositories need no more.
    pub mover: Material,
    /// The local port that leads there, if there is one.
    pub forward: Option<Forward>,
    /// Where requests for documents run. Not to be blocked meanwhile.
    pub runtime: Handle,
}

impl Way {
    pub(super) fn repository(&self, at: &Shelf) -> Result<RepositoryClient, ClientError> {
        let path = format!("{}/{}/{}", at.namespace, at.embassy, at.epoch.slug());
        match &self.forward {
            None => RepositoryClient::new(&self.url, &path, &self.mover),
            Some(forward) => RepositoryClient::through(&self.url, &path, &self.mover, forward),
        }
    }

    fn documents(&self) -> Result<VaultClient, ClientError> {
        match &self.forward {
            None => VaultClient::new(&self.url, &self.operator),
            Some(forward) => VaultClient::through(&self.url, &self.operator, forward),
        }
    }

    /// The epochs that have points.
    pub(super) fn epochs(&self, namespace: &str, embassy: &str) -> Result<Vec<Epoch>, ClientError> {
        let client = self.documents()?;
        let stored = self.runtime.block_on(client.epochs(namespace, embassy))?;
        let read = |slug: &str| {
            let (number, site) = slug.split_once('-')?;
            format!("{number}/{site}").parse().ok()
        };
        Ok(stored.iter().filter_map(|stored| read(&stored.epoch)).collect())
    }

    /// The manifests of an epoch by their sequence.
    pub(super) fn points(&self, at: &Shelf) -> Result<BTreeMap<i64, String>, ClientError> {
        let client = self.documents()?;
        let slug = at.epoch.slug();
        let mut points = BTreeMap::new();
        loop {
            let after = points.keys().last().copied().unwrap_or(0);
            let page = client.points(&at.namespace, &at.embassy, Some(&slug), after);
            let page = self.runtime.block_on(page)?;
            let known = points.len();
            points.extend(page.into_iter().map(|stored| (stored.sequence, stored.text)));
            if points.len() == known {
                return Ok(points);
            }
        }
    }

    /// The newest order to give points up.
    pub(super) fn order(&self, at: &Shelf) -> Result<Option<String>, ClientError> {
        let client = self.documents()?;
        let stored = self.runtime.block_on(client.thinning(&at.namespace, &at.embassy))?;
        Ok(stored.map(|stored| stored.text))
    }

    pub(super) fn put_order(&self, at: &Shelf, sequence: i64, text: String) -> Result<(), ClientError> {
        let client = self.documents()?;
        self.runtime.block_on(client.put_thinning(&at.namespace, &at.embassy, sequence, text))
    }

    /// The site whose vault it is.
    pub(super) fn site(&self) -> Result<String, ClientError> {
        let client = self.documents()?;
        Ok(self.runtime.block_on(client.whoami())?.vault_site)
    }

    pub(super) fn put_point(&self, at: &Shelf, sequence: i64, text: String) -> Result<(), ClientError> {
        let client = self.documents()?;
        let slug = at.epoch.slug();
        self.runtime.block_on(client.put_point(&at.namespace, &at.embassy, &slug, sequence, text))
    }
}
