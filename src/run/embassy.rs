//! One reconcile of one embassy: observe, decide, act, write to the peer, report.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{api::batch::v1::Job, jiff::Timestamp};
use kube::{Resource, ResourceExt};

use super::context::Context;
use super::error::RunError;
use super::link::{self, Links};
use super::memory::Memory;
use super::parties::Parties;
use super::refusals::{older, residency, stop};
use super::round::Round;
use crate::act;
use crate::api::DataEmbassy;
use crate::api::FailoverRecord;
use crate::api::failover_record::{FailoverRecordSpec, VolumeCondition};
use crate::api::recovery_point::Consistency;
use crate::observe;
use crate::plan::desired::Owner;
use crate::plan::failover::Action;
use crate::plan::failover::View;
use crate::plan::failover::decide;
use crate::plan::failover::invariants;
use crate::plan::failover::trace::Did;
use crate::plan::failover::volumes;
use crate::plan::task::Task;

/// Most writes of the record in one reconcile; a protocol that needs more is looked at again at once.
const STEPS: usize = 8;

/// Reconciles; the answer is when to look again if nothing happens before.
pub async fn reconcile(embassy: Arc<DataEmbassy>, context: Arc<Context>) -> Result<Duration, RunError> {
    context.metrics.reconciles.inc();
    let owner = Owner { namespace: embassy.namespace().unwrap_or_default(), name: embassy.name_any() };
    let memory = context.memory(&owner).await;
    let mut memory = memory.lock().await;
    if embassy.metadata.deletion_timestamp.is_some() {
        return Ok(Duration::from_secs(30));
    }
    let Some(parties) = Parties::of(&embassy, &context.settings.site) else {
        let message = format!(
            "this cluster is site {}, which is neither spec.home nor spec.embassies: nothing is done here",
            context.settings.site
        );
        return stop(&context, &embassy, "NotASite", &message).await;
    };
    if let Some(first) = older(&context, &embassy).await? {
        let message = format!(
            "DataEmbassy {first} protects this namespace already: a namespace has one register and one fence. Delete \
             this one, or move its register into a namespace of its own"
        );
        return stop(&context, &embassy, "NamespaceTaken", &message).await;
    }
    let sites = context.sites().await.map_err(|error| RunError::Cluster("read Sites", error))?;
    if let Some(message) = residency(&embassy, &parties, &sites) {
        return stop(&context, &embassy, "Residency", &message).await;
    }
    let seen = Box::pin(observe::cluster::see(&context.client, &owner, &embassy)).await?;
    let mut round =
        Round { context: Arc::clone(&context), owner, embassy, parties, sites, seen, links: Links::new() };
    round.look_after_freeze(&mut memory).await?;
    round.fence_first(&mut memory).await?;
    round.links = link::open(&context, &round.owner, &round.parties, &round.sites, &mut memory).await;
    round.await_mail(&mut memory);
    Box::pin(round.run(&mut memory)).await
}

impl Round {
    /// Before the vault is even asked: a site that was started anew, that a person fences, or that is closed for any other
    /// reason lets nothing run. Its kubelets may have started the register by themselves, and every second counts.
    async fn fence_first(&mut self, memory: &mut Memory) -> Result<(), RunError> {
        self.remember_carriers().await?;
        let Some(record) = self.seen.record.clone() else { return Ok(()) };
        let view = self.view(&record.spec, memory, Timestamp::now());
        if (view.cold_start || (view.fence_asked && !record.spec.human_fence))
            && let Action::Write(spec, why) = decide(&view)
        {
            invariants::check_write(&record.spec, &spec)?;
            let wrote = self.write_record(&record, *spec, why).await?;
            self.trace(Some(&view), Did::Write(Box::new(wrote.spec.clone())));
            self.seen.record = Some(wrote);
        }
        let closed = self.seen.record.as_ref().is_some_and(|r| !r.spec.role.rules() || r.spec.held());
        if closed {
            self.look_after_freeze(memory).await?;
            self.close().await?;
            self.give_up_final_copies().await?;
        }
        Ok(())
    }

    async fn run(&mut self, memory: &mut Memory) -> Result<Duration, RunError> {
        if self.links.values().all(|link| link.distrust.is_some())
            && let Some(distrust) = self.distrust().cloned()
        {
            // Nothing is decided on mail that is not believed; what is closed stays closed, and what runs goes on.
            let runs = self.seen.record.as_ref().is_some_and(|r| r.spec.role.rules() && !r.spec.held());
            if runs && !self.is_closed() {
                self.permit().await?;
            }
            return stop(&self.context, &self.embassy, distrust.reason, &distrust.why).await;
        }
        self.receive_mandates(memory).await?;
        let mut record = match self.seen.record.clone() {
            Some(record) => self.adopted(memory, record).await?,
            None => match self.first_record(memory).await? {
                Ok(record) => record,
                Err(waiting) => return stop(&self.context, &self.embassy, "Joining", &waiting).await,
            },
        };
        self.seen.record = Some(record.clone());
        if let Some(written) = self.finish_movers(memory, &record).await? {
            record = written;
            self.seen.record = Some(record.clone());
        }
        self.provide_snapshots(memory, &record).await?;
        if !record.spec.role.rules() {
            self.standby_volumes(memory).await?;
        }
        memory.begun = None;
        let (view, action) = self.steps(memory, record).await?;
        self.perform(memory, &view, &action).await?;
        self.routine(memory, &view, &action).await?;
        self.verify_vault(memory).await?;
        self.drill(memory, &view.record).await;
        self.end_strays().await?;
        self.thin_out(memory, &view.record).await;
        self.write_mail(memory, &view.record).await?;
        self.keep_points(memory).await?;
        self.find_unkept_keys(memory, &view.record).await?;
        self.report(memory, &view, &action).await?;
        Ok(self.next_look(memory, &view, &action))
    }

    /// Decides and writes until an act, or nothing, is next.
    async fn steps(
        &mut self,
        memory: &mut Memory,
        mut record: FailoverRecord,
    ) -> Result<(View, Action), RunError> {
        for _ in 0..STEPS {
            self.seen.record = Some(record.clone());
            let view = self.view(&record.spec, memory, Timestamp::now());
            match (decide(&view), self.restore_under_way(memory, &record.spec)) {
                (Action::Write(spec, why), _) => {
                    invariants::check_write(&record.spec, &spec)?;
                    let spec = *spec;
                    self.begun(memory, &view, &spec).await?;
                    record = self.write_record(&record, spec, why).await?;
                    self.trace(Some(&view), Did::Write(Box::new(record.spec.clone())));
                }
                (Action::Note(spec), _) => {
                    self.tell_replaced(&view, &spec).await;
                    if let Some(written) = self.note(&record, *spec).await? {
                        record = written;
                    }
                }
                (Action::Restore { .. } | Action::Backup(_), _) if view.suspended => {
                    return Ok((view, Action::Wait("spec.suspend to become false")));
                }
                // Finished first: with copies that come faster than a restore takes, none would ever end.
                (Action::Restore { discard, .. }, Some(point)) => {
                    return Ok((view, Action::Restore { point: Box::new(point), discard }));
                }
                (Action::Restore { point, discard }, None) => {
                    invariants::check_restore(&record.spec, discard)?;
                    let spec = volumes::restoring(&record.spec, &point.data, &self.claim_uids());
                    match self.note(&record, spec).await? {
                        Some(written) => record = written,
                        None => return Ok((view, Action::Restore { point, discard })),
                    }
                }
                (action, _) => return Ok((view, action)),
            }
        }
        Err(RunError::Conflict)
    }

    /// A copy that somebody deleted is news, though it is made again.
    async fn tell_replaced(&self, view: &View, next: &FailoverRecordSpec) {
        let was_whole = volumes::clean_at(&view.record.volumes).is_some();
        if view.replaced && was_whole && next.volumes.condition == VolumeCondition::Restoring {
            let note =
                "a claim that held the copy here was deleted: it is copied again from the vault, whole";
            tracing::warn!(namespace = self.owner.namespace, name = self.owner.name, "{note}");
            self.event(true, "ClaimReplaced", "Restore", note).await;
        }
    }

    async fn perform(&mut self, memory: &mut Memory, view: &View, action: &Action) -> Result<(), RunError> {
        let record = &view.record;
        let closes = !record.role.rules() || record.held();
        if matches!(action, Action::Fence) || closes && !self.is_closed() {
            self.look_after_freeze(memory).await?;
            self.close().await?;
        }
        self.trace_act(memory, view, action);
        match action {
            Action::Start => {
                invariants::check_start(record)?;
                self.open(memory, record).await
            }
            Action::Restore { point, .. } => {
                let Some((_, committed)) = memory.committed(&point.data.point) else { return Ok(()) };
                let manifest = &committed.manifest;
                let here = |name: &String| self.seen.claims.iter().any(|claim| claim.name_any() == *name);
                if !manifest.claims.iter().all(here) {
                    return Ok(()); // they are being made; the next look finds them
                }
                self.ensure_mover(memory, &Task::Restore(Box::new(manifest.clone()))).await
            }
            Action::Backup(towards) => {
                let vault = self.parties.vault_towards(towards).to_owned();
                self.copy(memory, &vault, Consistency::Final).await
            }
            Action::Wait(_) if view.sealed => self.end_restores().await,
            _ => Ok(()),
        }
    }

    /// Where the site is sealed, a restore whose order was withdrawn would wait for its key for ever.
    async fn end_restores(&self) -> Result<(), RunError> {
        let restores = |job: &&Job| matches!(Task::of(job), Some(Task::Restore(_)));
        for job in self.seen.jobs.iter().filter(restores) {
            act::movers::remove(&self.context.client, job).await?;
        }
        Ok(())
    }

    /// An event beside the `DataEmbassy`.
    pub async fn event(&self, warning: bool, reason: &str, action: &str, note: &str) {
        let about = self.embassy.object_ref(&());
        act::report::event(&self.context.client, about, warning, reason, action, note).await;
    }
}
