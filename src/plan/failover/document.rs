//! What a site says of itself in signed mail: a snapshot of its record. Only the newest one that was read counts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::rules::{Rule, applies};
use crate::api::{
    epoch::Epoch,
    failover_record::{DataPoint, FailoverRecordSpec, Role},
};

/// Version of the document; a reader that does not know it stops and says so.
pub const DOCUMENT_VERSION: i64 = if cfg!(feature = "next-version") { 2 } else { 1 };

/// A snapshot of the author's record.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// `DOCUMENT_VERSION` of the author.
    pub version: i64,
    /// Revision of the author's record.
    pub revision: i64,
    /// Every other site, with the newest revision of its record that the author had read; 0 for none.
    pub echoes: BTreeMap<String, i64>,
    /// Role of the author.
    pub role: Role,
    /// Epoch of the author.
    pub epoch: Epoch,
    /// Demoted: the epoch that it gives away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Epoch>,
    /// Demoted: the epoch that it asks back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<Epoch>,
    /// Demoted: the data point that it hands over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<DataPoint>,
    /// Diverged: the epoch whose bytes only the author has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<Epoch>,
    /// Whether the author starts and promotes nothing.
    pub held: bool,
    /// Whether a person fenced the author and has not asked to lift that.
    pub human_fence: bool,
    /// Whether the author waits until every other site echoes its revision.
    pub asks: bool,
    /// Whether a Pod with a protected volume exists there.
    pub writable_pods: bool,
    /// The highest sequence of a recovery point that the author has begun in its epoch.
    pub sequence: i64,
    /// The point that its volumes equal, if they equal one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<DataPoint>,
}

impl Document {
    /// The revision of `site` that the author had read.
    #[must_use]
    pub fn echo(&self, site: &str) -> i64 {
        self.echoes.get(site).copied().unwrap_or(0)
    }

    /// Whether its author may be writing: by its role, or by a Pod that is left whatever the record says.
    #[must_use]
    pub fn rules(&self) -> bool {
        self.role.rules() || applies(Rule::PodsAreRuling, self.writable_pods)
    }
}

/// What this site's record says to the others.
#[must_use]
pub fn document(record: &FailoverRecordSpec, writable_pods: bool) -> Document {
    let demoted = record.role == Role::Demoted;
    let only_demoted = |epoch: &Option<Epoch>| epoch.clone().filter(|_| demoted);
    Document {
        version: DOCUMENT_VERSION,
        revision: record.revision,
        echoes: record.peers.clone(),
        role: record.role,
        epoch: record.epoch.clone(),
        intent: only_demoted(&record.intent),
        abort: only_demoted(&record.abort),
        handover: record.handover.clone().filter(|_| demoted),
        diverged: record.diverged.clone(),
        held: record.held(),
        human_fence: record.human_fence && !record.lifting,
        asks: record.cold_fence || record.lifting,
        writable_pods,
        sequence: record.sequence,
        at: super::volumes::clean_at(&record.volumes).cloned(),
    }
}

/// Whether `next` must be sent although the report interval has not passed: something changed, beside echoes and numbers of copies, or one
/// of `asking`, the sites that wait for an echo, gets a new one.
#[must_use]
pub fn is_due(last: Option<&Document>, next: &Document, asking: &[&str]) -> bool {
    let Some(last) = last else { return true };
    let (echoes, sequence) = (next.echoes.clone(), next.sequence);
    let same_but_echoes = Document { echoes, sequence, ..last.clone() } == *next;
    !same_but_echoes || asking.iter().any(|site| last.echo(site) != next.echo(site))
}
