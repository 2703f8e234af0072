//! The active site tells each vault, in a signed order, which recovery points it may give up.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::error::RunError;
use super::memory::Memory;
use super::round::{Round, pinned_key};
use crate::api::failover_record::FailoverRecordSpec;
use crate::api::failover_record::Role;
use crate::api::replication::Retention;
use crate::api::thinning::THINNING_VERSION;
use crate::api::thinning::Thinning;
use crate::observe::post::Correspondence;
use crate::plan::thinning::Standing;
use crate::plan::thinning::choose;
use crate::trust::envelope::Envelope;
use crate::trust::envelope::Purpose;
use crate::trust::signing::PublicKey;

/// How often it is looked what may be given up: in a quarter of `immutableFor`, within these bounds.
const OFTENEST: Duration = Duration::from_secs(10);
const SELDOMEST: Duration = Duration::from_hours(6);

/// What is remembered of one vault.
#[derive(Debug)]
pub struct Thinned {
    looked: Instant,
    retention: Retention,
    standing: Standing,
}

impl Memory {
    /// How far each vault was thinned out; nothing where another site rules.
    #[must_use]
    pub fn thinned(&self, record: &FailoverRecordSpec) -> BTreeMap<&str, &Standing> {
        let known = self.thinnings.iter().filter(|_| record.role == Role::Active);
        known.map(|(vault, thinned)| (vault.as_str(), &thinned.standing)).collect()
    }
}

impl Round {
    /// Signs an order for each vault for which one is due. A failure is told in the condition, and holds nothing else up.
    pub async fn thin_out(&self, memory: &mut Memory, record: &FailoverRecordSpec) {
        for vault in self.vaults_to_thin(record) {
            let due = self.due_at(memory, &vault).is_none_or(|due| due.is_zero());
            let post = self.links.get(&vault).and_then(|link| link.post.clone());
            // Without a copy there is nothing to be said yet.
            let copied = memory.ways.get(&vault).is_some_and(|way| !way.points.is_empty());
            let Some(post) = post.filter(|_| due && copied && self.reaches(&vault)) else { continue };
            let standing = match self.order_thinning(&post, &vault).await {
                Ok(standing) => standing,
                Err(error) => Standing::Failed(error.to_string()),
            };
            let before = memory.thinnings.get(&vault).map(|thinned| &thinned.standing);
            if before != Some(&standing) {
                self.tell_thinning(&standing).await;
            }
            let retention = self.embassy.spec.replication.retention.clone();
            memory.thinnings.insert(vault, Thinned { looked: Instant::now(), retention, standing });
        }
    }

    /// When the next order is due to be looked at; nothing where another site rules.
    #[must_use]
    pub fn thinning_due_in(&self, memory: &Memory, record: &FailoverRecordSpec) -> Option<Duration> {
        self.vaults_to_thin(record).iter().filter_map(|vault| self.due_at(memory, vault)).min()
    }

    fn vaults_to_thin(&self, record: &FailoverRecordSpec) -> Vec<String> {
        let rules = record.role == Role::Active && !record.held() && !self.embassy.spec.suspend;
        if rules { self.parties.vaults() } else { vec![] }
    }

    fn due_at(&self, memory: &Memory, vault: &str) -> Option<Duration> {
        let retention = &self.embassy.spec.replication.retention;
        let thinned = memory.thinnings.get(vault).filter(|thinned| thinned.retention == *retention)?;
        let seconds = u64::try_from(retention.immutable_seconds()).unwrap_or(0);
        let every = Duration::from_secs(seconds / 4).clamp(OFTENEST, SELDOMEST);
        Some(every.saturating_sub(thinned.looked.elapsed()))
    }

    async fn order_thinning(&self, post: &Correspondence, vault: &str) -> Result<Standing, RunError> {
        let keys = self.context.keys().await;
        let mut pinned: BTreeMap<String, PublicKey> = self
            .sites
            .iter()
            .filter_map(|(name, site)| Some((name.clone(), pinned_key(Some(site))?)))
            .collect();
        pinned.insert(self.parties.me.clone(), keys.signing.public());
        let again = |error: crate::observe::post::PostError| RunError::again(&error.to_string());
        let before = post.last_thinning(&pinned).await.map_err(again)?;
        let points = post.all_points(&pinned).await.map_err(again)?;
        let retention = &self.embassy.spec.replication.retention;
        let now = Timestamp::now();
        let epochs = match choose(&points, retention, before.as_ref().map(|(order, _)| order), now) {
            Ok(epochs) => epochs,
            Err(shrunk) => return Ok(Standing::Held(shrunk)),
        };
        let order = Thinning {
            version: THINNING_VERSION,
            namespace: self.owner.namespace.clone(),
            embassy: self.owner.name.clone(),
            vault: vault.to_owned(),
            sequence: before.as_ref().map_or(1, |(before, _)| before.sequence + 1),
            previous: before.as_ref().map_or_else(String::new, |(_, digest)| digest.clone()),
            time: Time(now),
            immutable_for: retention.immutable_seconds(),
            epochs,
        };
        let given_up = points.iter().filter(|manifest| order.gives_up(&manifest.point)).count();
        let standing = Standing::Ordered { given_up, stay: points.len() - given_up };
        let says_nothing_new = before.as_ref().is_some_and(|(before, _)| {
            before.epochs == order.epochs && before.immutable_for >= order.immutable_for
        });
        if says_nothing_new {
            return Ok(standing);
        }
        let payload = serde_json::to_string(&order).map_err(RunError::defect)?;
        let text = Envelope::sign(&keys.signing, &self.parties.me, Purpose::Thinning, payload).to_text();
        let (namespace, name) = (&self.owner.namespace, &self.owner.name);
        // Another order of this number means that another site ruled meanwhile: the next look reads it.
        let put = post.vault.put_thinning(namespace, name, order.sequence, text).await;
        put.map_err(|error| RunError::again(&error.to_string()))?;
        tracing::info!(
            namespace,
            name,
            vault,
            sequence = order.sequence,
            given_up,
            "told the vault which points it may give up"
        );
        Ok(standing)
    }

    async fn tell_thinning(&self, standing: &Standing) {
        match standing {
            Standing::Held(shrunk) => self.event(true, "PointShrank", "Thin", &shrunk.to_string()).await,
            Standing::Failed(why) => {
                tracing::warn!(
                    namespace = self.owner.namespace,
                    name = self.owner.name,
                    why,
                    "a vault was not told which points it may give up"
                );
            }
            Standing::Ordered { .. } => {}
        }
    }
}
