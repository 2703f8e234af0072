//! All that a decision stands on.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::document::Document;
use crate::api::{
    data_embassy::ApproveDiscard,
    epoch::Epoch,
    failover::{FailoverKind, PeerState},
    failover_record::{DataPoint, FailoverRecordSpec, VolumeCondition},
};

/// A committed recovery point: its signature and its place in the chain were checked.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Point {
    /// Which one, and what its volumes hold.
    pub data: DataPoint,
    /// The points on which its line of reigns was built, oldest first.
    pub ancestry: Vec<DataPoint>,
}

/// An order that was created at this site and has not ended.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Order {
    /// Name of the `Failover`.
    pub name: String,
    /// The epoch that it creates; its site is where the active role shall go.
    pub epoch: Epoch,
    /// Planned or forced.
    pub kind: FailoverKind,
    /// Forced: the ticket that it names.
    pub ticket: Option<String>,
    /// Forced: what it attests of every other site.
    pub attestation: Option<PeerState>,
    /// The most data that it may lose, as time.
    pub max_data_loss: Duration,
}

/// What this site knows of another one.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Peer {
    /// Its newest document that was read, from itself or passed on by home.
    pub document: Option<Document>,
    /// Whether the vault over which the two exchange mail answers.
    pub reach: bool,
    /// Whether every document of it in reach was read.
    pub drained: bool,
    /// Whether its last document is recent.
    pub recent: bool,
    /// Whether both use one vault. Two embassies share none: home passes their mail on, and no recovery points.
    pub shares_vault: bool,
    /// Its newest committed recovery point in reach.
    pub point: Option<Point>,
}

/// What this site knows at one moment.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct View {
    /// Its durable memory.
    pub record: FailoverRecordSpec,
    /// Whether every node has another boot id than the record says.
    pub cold_start: bool,
    /// Boot ids now.
    pub boot_ids: std::collections::BTreeSet<String>,
    /// Whether a Pod with a protected volume exists.
    pub pods: bool,
    /// Whether starting was carried out: the namespace is open, and what is to run was applied and scaled.
    pub started: bool,
    /// Every other site.
    pub peers: BTreeMap<String, Peer>,
    /// This site's newest committed recovery point in reach.
    pub own_point: Option<Point>,
    /// Age of the newest copy that this site could start from.
    pub loss: Option<Duration>,
    /// Orders, in any sequence.
    pub orders: Vec<Order>,
    /// A person fences this site.
    pub fence_asked: bool,
    /// A person asks to lift the fence.
    pub lift_asked: bool,
    /// What a person allows to discard.
    pub approved: Option<ApproveDiscard>,
    /// Whether the `DataEmbassy` is suspended: no new order takes effect.
    pub suspended: bool,
    /// Whether a claim that the record speaks of is not the one that is here.
    #[serde(default)]
    pub replaced: bool,
    /// Whether this site keeps no key of what the other ones copy: a person must bring it for each restore.
    #[serde(default)]
    pub sealed: bool,
}

impl View {
    /// Whether an epoch belongs to this site.
    #[must_use]
    pub fn mine(&self, epoch: &Epoch) -> bool {
        epoch.site == self.record.site
    }

    /// The newest documents of the other sites, each with its author.
    pub fn documents(&self) -> impl Iterator<Item = (&str, &Document)> {
        self.peers.iter().filter_map(|(site, peer)| Some((site.as_str(), peer.document.as_ref()?)))
    }

    /// The document of one site.
    #[must_use]
    pub fn document(&self, site: &str) -> Option<&Document> {
        self.peers.get(site)?.document.as_ref()
    }

    /// Whether the vault on the way to a site answers.
    #[must_use]
    pub fn reaches(&self, site: &str) -> bool {
        self.peers.get(site).is_some_and(|peer| peer.reach)
    }

    /// The newest recovery point in reach that another site made, by (epoch, sequence). A site that holds nothing at all counts
    /// its own as well, until its volumes are one of these.
    #[must_use]
    pub fn newest_point(&self) -> Option<&Point> {
        let volumes = &self.record.volumes;
        let own = self.own_point.as_ref().filter(|own| match volumes.condition {
            VolumeCondition::Empty => true,
            VolumeCondition::Restoring => {
                volumes.at.as_ref().is_some_and(|at| at.point.epoch == own.data.point.epoch)
            }
            VolumeCondition::Clean | VolumeCondition::Live => false,
        });
        let others = self.peers.values().filter(|peer| peer.reach).filter_map(|peer| peer.point.as_ref());
        others.chain(own).max_by(|one, other| one.data.point.cmp(&other.data.point))
    }

    /// The newest recovery point of a reign of another site, if it is in reach.
    #[must_use]
    pub fn point_of(&self, epoch: &Epoch) -> Option<&Point> {
        let peer = self.peers.get(&epoch.site).filter(|peer| peer.reach)?;
        peer.point.as_ref().filter(|point| point.data.point.epoch == *epoch)
    }
}

/// Nothing is asked for, and nothing runs here; every other site has just reported. For tests.
#[cfg(any(test, fuzzing))]
#[must_use]
pub fn quiet(record: FailoverRecordSpec, others: impl IntoIterator<Item = (String, Document)>) -> View {
    let peer = |(site, document)| {
        let document = Some(document);
        (site, Peer { document, reach: true, drained: true, recent: true, shares_vault: true, point: None })
    };
    View {
        cold_start: false,
        boot_ids: record.boot_ids.clone(),
        pods: false,
        started: false,
        peers: others.into_iter().map(peer).collect(),
        own_point: None,
        loss: None,
        orders: vec![],
        fence_asked: false,
        lift_asked: false,
        approved: None,
        suspended: false,
        replaced: false,
        sealed: false,
        record,
    }
}
