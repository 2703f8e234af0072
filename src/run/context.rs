//! What every reconcile shares.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::channel::mpsc;
use kube::{Api, Client, ResourceExt, api::ListParams, runtime::reflector::ObjectRef};
use tokio::sync::{Mutex, RwLock};

use super::keeper::{Access, Keeper, Keys};
use super::memory::Memory;
use super::metrics::Metrics;
use super::renewal::Renewals;
use crate::api::DataEmbassy;
use crate::api::Site;
use crate::plan::desired::Owner;

/// Which embassy is to be looked at again.
pub(super) fn target(owner: &Owner) -> ObjectRef<DataEmbassy> {
    ObjectRef::new(&owner.name).within(&owner.namespace)
}

/// How the controller was started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The site that it speaks for.
    pub site: String,
    /// Its own namespace.
    pub namespace: String,
    /// Between reports that say nothing new.
    pub report_interval: Duration,
    /// Image of the mover.
    pub image: String,
    /// Pull policy of that image.
    pub pull_policy: String,
    /// What stands behind `svc` in the names of this cluster's Services.
    pub cluster_domain: String,
}

/// Shared by all reconciles.
pub struct Context {
    /// For calls.
    pub client: Client,
    /// For what may be quiet for long.
    pub streams: Client,
    /// How the controller was started.
    pub settings: Settings,
    /// Makes and renews keys.
    pub keeper: Keeper,
    /// The keys, renewed now and then.
    pub keys: RwLock<Arc<Keys>>,
    /// What is remembered between reconciles; losing it costs time only.
    pub memories: Mutex<HashMap<Owner, Arc<Mutex<Memory>>>>,
    /// Asks for a reconcile.
    pub wake: mpsc::Sender<ObjectRef<DataEmbassy>>,
    /// Keys of sites that share no vault with this one, as home showed them; pinned where none is yet.
    pub introductions: Mutex<BTreeMap<String, (String, String)>>,
    /// Client certificates that are being renewed.
    pub renewals: Renewals,
    /// Counters.
    pub metrics: Metrics,
}

impl Context {
    /// The memory of one embassy.
    pub async fn memory(&self, owner: &Owner) -> Arc<Mutex<Memory>> {
        Arc::clone(self.memories.lock().await.entry(owner.clone()).or_default())
    }

    /// The current keys.
    pub async fn keys(&self) -> Arc<Keys> {
        Arc::clone(&*self.keys.read().await)
    }

    /// Every `Site`, by name.
    pub async fn sites(&self) -> Result<BTreeMap<String, Site>, kube::Error> {
        let sites: Api<Site> = Api::all(self.client.clone());
        let listed = sites.list(&ListParams::default()).await?;
        Ok(listed.items.into_iter().map(|site| (site.name_any(), site)).collect())
    }

    /// How to use the vault of a site: the local one, or one that its `Site` describes.
    pub async fn access(&self, site: Option<&Site>, name: &str) -> Result<Access, String> {
        let keys = self.keys().await;
        if name == self.settings.site {
            return keys.local.clone().ok_or_else(|| {
                "this site is the embassy and runs no vault: install the chart with vault.enabled: true"
                    .to_owned()
            });
        }
        let vault = site.and_then(|site| site.spec.vault.as_ref()).ok_or_else(|| {
            format!("there is no Site {name} with spec.vault here: apply what 'kubectl embassy invite {}' prints in {name}", self.settings.site)
        })?;
        let secret = &vault.client_tls_secret_ref.name;
        self.keeper
            .access(secret, name, &vault.url, &vault.ca_bundle)
            .await
            .map_err(|error| error.to_string())
    }
}
