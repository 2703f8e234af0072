//! What is due when: the next copy, and the next look.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

use super::error::RunError;
use super::memory::Memory;
use super::round::Round;
use crate::api::duration;
use crate::api::failover_record::Role;
use crate::api::recovery_point::Consistency;
use crate::plan::failover::Action;
use crate::plan::failover::View;
use crate::plan::schedule;

impl Round {
    /// A copy of the running register, when one is due.
    pub async fn scheduled_copy(&mut self, memory: &mut Memory, view: &View) -> Result<(), RunError> {
        let record = &view.record;
        let runs = record.role == Role::Active && !record.held();
        if !runs || view.suspended {
            return Ok(());
        }
        match self.copy_due_first(memory, view) {
            Some((due_in, vault)) if due_in.is_zero() => self.copy(memory, &vault, Consistency::Fuzzy).await,
            _ => Ok(()),
        }
    }

    /// The vault in reach whose next copy is due first, and in what time.
    fn copy_due_first(&self, memory: &Memory, view: &View) -> Option<(Duration, String)> {
        let rpo = duration::parse(&self.embassy.spec.replication.rpo).unwrap_or_default();
        let due_in = |vault: &str| {
            let identity = format!("{}/{}/{vault}", self.owner.namespace, self.owner.name);
            let last = memory.ways.get(vault).and_then(|way| way.last(&view.record.epoch));
            let cut = last.map(|committed| committed.manifest.cut_time.0);
            schedule::due_in(cut, Timestamp::now(), schedule::interval(rpo, &identity))
        };
        let vaults = self.parties.vaults().into_iter().filter(|vault| self.reaches(vault));
        let mut first: Vec<(Duration, String)> = vaults.map(|vault| (due_in(&vault), vault)).collect();
        let soonest = first.iter().map(|(due_in, _)| *due_in).min()?;
        first.retain(|(due_in, _)| *due_in == soonest);
        // After a failure another vault's turn comes: one that takes nothing must not leave the others without copies.
        let turn = usize::try_from(memory.failures).unwrap_or_default() % first.len();
        Some(first.swap_remove(turn))
    }

    /// Nobody needs to be asked before this, unless a watch or the mail says so.
    pub(super) fn next_look(&self, memory: &Memory, view: &View, action: &Action) -> Duration {
        let interval = self.context.settings.report_interval;
        let sent = memory.ways.values().filter_map(|way| way.sent).min();
        let mut next = sent.map_or(interval, |sent| interval.saturating_sub(sent.elapsed()));
        if !matches!(action, Action::Nothing | Action::Wait(_)) {
            next = next.min(Duration::from_secs(2));
        }
        if view.record.role == Role::Active
            && let Some((due_in, _)) = self.copy_due_first(memory, view)
        {
            next = next.min(due_in);
        }
        if let Some(due) = self.verification_due_in(memory) {
            next = next.min(due);
        }
        if let Some(due) = self.thinning_due_in(memory, &view.record) {
            next = next.min(due);
        }
        if let Some(due) = self.drill_due(&view.record) {
            next = next.min(Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default());
        }
        // One that serves readers stays, and needs no looking after; two of them are an exchange.
        if self.open_drills().any(|drill| !drill.serves()) {
            next = next.min(Duration::from_secs(1));
        } else if self.open_drills().count() > 1 {
            next = next.min(Duration::from_secs(5));
        }
        if view.record.freeze.is_some() {
            next = next.min(Duration::from_secs(1));
        }
        if let Some(retry) = memory.retry_at {
            next = next.min(retry.saturating_duration_since(Instant::now()));
        }
        next.max(Duration::from_millis(500))
    }
}
