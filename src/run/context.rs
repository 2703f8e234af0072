//! What every reconcile shares.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::channel::mpsc;
use kube::{Api, Client, ResourceExt, api::ListParams, runtime::reflector::ObjectRef};
use tokio::sync::{Mutex, RwLock};

use super::keeper::{Access, Keeper, Keys};
use super::metrics::Metrics;
use crate::api::DataEmbassy;
use crate::api::Site;
use crate::api::epoch::PointRef;
use crate::observe::post::Committed;
use crate::observe::post::Mailbox;
use crate::plan::desired::Owner;
use crate::plan::status::Trouble;
use crate::vault::client::VaultClient;

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
}

/// Shared by all reconciles.
pub struct Context {
    /// For calls.
    pub client: Client,
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
    /// Counters.
    pub metrics: Metrics,
}

/// What is remembered of one embassy between reconciles.
#[derive(Default)]
pub struct Memory {
    /// The client of the vault and what it was made from.
    pub client: Option<(String, VaultClient)>,
    /// This site's own mailbox.
    pub own: Option<Mailbox>,
    /// The peer's.
    pub peer: Option<Mailbox>,
    /// Committed points.
    pub points: BTreeMap<PointRef, Committed>,
    /// When the last report was sent.
    pub sent: Option<Instant>,
    /// Sequence of the last mandate whose keys were kept.
    pub received: i64,
    /// The order that took effect in this very round; its status is newer than what was read.
    pub begun: Option<String>,
    /// Failures in a row, and when to try again.
    pub failures: u32,
    /// Not before this.
    pub retry_at: Option<Instant>,
    /// Why the last attempt failed.
    pub trouble: Option<Trouble>,
    /// Waits for the peer's mail.
    pub courier: Option<Courier>,
}

/// A task that waits for mail; it ends with this handle.
pub struct Courier(pub tokio::task::JoinHandle<()>);

impl Drop for Courier {
    fn drop(&mut self) {
        self.0.abort();
    }
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
        self.keeper.access(secret, &vault.url, &vault.ca_bundle).await.map_err(|error| error.to_string())
    }
}
