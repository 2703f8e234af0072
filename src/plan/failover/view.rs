//! All that a decision stands on.

use std::time::Duration;

use super::document::Document;
use crate::api::{
    data_embassy::ApproveDiscard,
    epoch::Epoch,
    failover::{FailoverKind, PeerState},
    failover_record::{DataPoint, FailoverRecordSpec},
};

/// A committed recovery point: its signature and its place in the chain were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Which one, and what its volumes hold.
    pub data: DataPoint,
    /// The points on which its line of reigns was built, oldest first.
    pub ancestry: Vec<DataPoint>,
}

/// An order that was created at this site and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Name of the `Failover`.
    pub name: String,
    /// The epoch that it creates; its site is where the active role shall go.
    pub epoch: Epoch,
    /// Planned or forced.
    pub kind: FailoverKind,
    /// Forced: the ticket that it names.
    pub ticket: Option<String>,
    /// Forced: what it attests.
    pub attestation: Option<PeerState>,
    /// The most data that it may lose, as time.
    pub max_data_loss: Duration,
}

/// What this site knows at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The newest document of the peer that was read.
    pub document: Option<Document>,
    /// Whether every document in reach was read.
    pub drained: bool,
    /// Whether the vault answers.
    pub reach: bool,
    /// Whether the peer's last document is recent.
    pub peer_recent: bool,
    /// This site's newest committed recovery point.
    pub own_point: Option<Point>,
    /// The peer's newest committed recovery point.
    pub peer_point: Option<Point>,
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
}

impl View {
    /// Whether an epoch belongs to this site.
    #[must_use]
    pub fn mine(&self, epoch: &Epoch) -> bool {
        epoch.site == self.record.site
    }

    /// Whether an epoch belongs to the peer.
    #[must_use]
    pub fn theirs(&self, epoch: &Epoch) -> bool {
        epoch.site == self.record.peer
    }
}
