//! One look at one embassy: the cluster, the mail and the memory, made into what decisions stand on.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod},
    jiff::Timestamp,
};
use kube::ResourceExt;

use super::context::Context;
use super::link::{Distrust, Links};
use super::memory::Memory;
use super::parties::Parties;
use crate::api::DataEmbassy;
use crate::api::FENCE_ANNOTATION;
use crate::api::FENCED_LABEL;
use crate::api::Failover;
use crate::api::Site;
use crate::api::data_embassy::Activation;
use crate::api::data_embassy::Standby;
use crate::api::duration;
use crate::api::epoch::PointRef;
use crate::api::failover_record::FailoverRecordSpec;
use crate::observe::cluster::Seen;
use crate::observe::cluster::mounts;
use crate::plan::desired::Owner;
use crate::plan::failover::Order;
use crate::plan::failover::Peer;
use crate::plan::failover::View;
use crate::plan::failover::volumes;
use crate::plan::manifest::Manifest;
use crate::trust::signing::PublicKey;

/// Everything about one embassy at this moment.
pub struct Round {
    /// Shared things.
    pub context: Arc<Context>,
    /// Which embassy.
    pub owner: Owner,
    /// What people ask for.
    pub embassy: Arc<DataEmbassy>,
    /// The sites that take part.
    pub parties: Parties,
    /// Every `Site` here.
    pub sites: BTreeMap<String, Site>,
    /// What the cluster holds.
    pub seen: Seen,
    /// The ways to the vaults.
    pub links: Links,
}

/// The signing key of a site that this one believes: the one that a person wrote, or the one pinned at first contact.
#[must_use]
pub fn pinned_key(site: Option<&Site>) -> Option<PublicKey> {
    let site = site?;
    let status = site.status.as_ref().and_then(|status| status.public_key.as_ref());
    site.spec.public_key.as_ref().or(status)?.parse().ok()
}

/// The age recipient of a site that this one believes.
#[must_use]
pub fn pinned_recipient(site: Option<&Site>) -> Option<String> {
    let site = site?;
    let status = site.status.as_ref().and_then(|status| status.recipient.as_ref());
    site.spec.recipient.as_ref().or(status).cloned()
}

impl Round {
    /// What the decision stands on.
    #[must_use]
    pub fn view(&self, record: &FailoverRecordSpec, memory: &Memory, now: Timestamp) -> View {
        let boot_ids = self.seen.boot_ids.clone();
        let annotation = self.embassy.annotations().get(FENCE_ANNOTATION).map(String::as_str);
        View {
            cold_start: !record.boot_ids.is_empty()
                && !boot_ids.is_empty()
                && record.boot_ids.is_disjoint(&boot_ids),
            // Not one node in sight says nothing about the ones that were there.
            boot_ids: if boot_ids.is_empty() { record.boot_ids.clone() } else { boot_ids },
            pods: self.writable_pods(),
            started: self.started(record),
            peers: self.parties.others.iter().map(|site| (site.clone(), self.peer(memory, site))).collect(),
            own_point: memory
                .newest(|epoch| epoch.site == self.parties.me)
                .filter(|_| self.links.values().any(|link| link.reach))
                .map(Manifest::point),
            loss: memory.newest(|_| true).map(|manifest| age(manifest, now)),
            orders: self.seen.orders.iter().filter(|order| is_open(order)).map(|o| self.order(o)).collect(),
            fence_asked: annotation == Some("true"),
            lift_asked: annotation == Some("lift"),
            approved: self.embassy.spec.failover.approve_discard.clone(),
            suspended: self.embassy.spec.suspend,
            replaced: volumes::are_replaced(&record.volumes, &self.claim_uids()),
            sealed: self.is_sealed(),
            record: record.clone(),
        }
    }

    /// Whether a container with a protected volume runs or may run: a Pod has one, a silent node may have one left, or the
    /// namespace was still open when its Pods were listed.
    #[must_use]
    pub fn writable_pods(&self) -> bool {
        !self.is_closed()
            || self.seen.record.as_ref().is_some_and(|record| !record.spec.carriers.is_empty())
            || self.carrying().next().is_some()
    }

    /// Pods with a protected volume.
    pub(super) fn carrying(&self) -> impl Iterator<Item = &Pod> {
        self.seen.pods.iter().filter(|pod| mounts(pod, &self.seen.claims))
    }

    /// Each protected claim and its uid.
    #[must_use]
    pub fn claim_uids(&self) -> BTreeMap<String, String> {
        let uid = |claim: &PersistentVolumeClaim| Some((claim.name_any(), claim.uid()?));
        self.seen.claims.iter().filter_map(uid).collect()
    }

    /// Whether other sites' copies lie here without their keys.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.embassy.spec.standby == Standby::Sealed && !self.parties.at_home()
    }

    /// Whether the namespace carries the fence's label.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.seen.namespace.as_ref().is_some_and(|namespace| namespace.labels().contains_key(FENCED_LABEL))
    }

    fn started(&self, record: &FailoverRecordSpec) -> bool {
        !self.is_closed()
            && self.seen.workloads.iter().all(|workload| workload.former.is_none())
            && self.objects_due(record).is_none()
    }

    /// The recovery point whose captured objects the operator must apply before the register runs.
    #[must_use]
    pub fn objects_due<'a>(&self, record: &'a FailoverRecordSpec) -> Option<&'a PointRef> {
        record.objects_due().filter(|_| self.embassy.spec.failover.activation == Activation::Captured)
    }

    /// What is known of another site.
    fn peer(&self, memory: &Memory, site: &str) -> Peer {
        let vault = self.parties.vault_towards(site);
        let reach = self.reaches(vault);
        let within = self.context.settings.report_interval * 3;
        let shares_vault = self.parties.share_vault(site);
        // Passed on, an old letter could be shown again: what was read once is not unread.
        let read = self.seen.record.as_ref().and_then(|record| record.spec.peers.get(site).copied());
        let document = memory.report(&self.parties, site).map(|report| &report.document);
        Peer {
            document: document.filter(|d| shares_vault || d.revision >= read.unwrap_or(0)).cloned(),
            reach,
            drained: reach,
            recent: memory.silence(&self.parties, site).is_some_and(|silence| silence < within),
            shares_vault,
            point: memory.newest(|epoch| epoch.site == site).map(Manifest::point),
        }
    }

    /// Whether a vault answered every question of this round.
    #[must_use]
    pub fn reaches(&self, vault: &str) -> bool {
        self.links.get(vault).is_some_and(|link| link.reach)
    }

    /// What a vault showed that is not believed, if any did.
    #[must_use]
    pub fn distrust(&self) -> Option<&Distrust> {
        self.links.values().find_map(|link| link.distrust.as_ref())
    }

    fn order(&self, order: &Failover) -> Order {
        let limit = order.spec.max_data_loss.as_ref().unwrap_or(&self.embassy.spec.failover.max_data_loss);
        Order {
            name: order.name_any(),
            epoch: order.spec.epoch(),
            kind: order.spec.mode,
            ticket: order.spec.ticket.clone(),
            attestation: order.spec.attestation.as_ref().map(|attestation| attestation.peer),
            // An unreadable limit allows no loss at all.
            max_data_loss: duration::parse(limit).unwrap_or_default(),
        }
    }
}

fn is_open(order: &Failover) -> bool {
    let phase = order.status.as_ref().and_then(|status| status.phase);
    !phase.is_some_and(crate::api::failover::FailoverPhase::is_final)
}

fn age(manifest: &Manifest, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(manifest.cut_time.0)).unwrap_or_default()
}
