//! Mover Jobs: started with all they need, read when they end, removed when their outcome is recorded.

use std::{collections::BTreeMap, time::Instant};

use k8s_openapi::{
    ByteString,
    api::{batch::v1::Job, core::v1::Pod},
};
use kube::{Resource, ResourceExt};

use super::error::RunError;
use super::hold::observed;
use super::keeper::Access;
use super::memory::Memory;
use super::repository_keys;
use super::round::Round;
use super::snapshots::waits;
use crate::act;
use crate::api::FailoverRecord;
use crate::api::duration;
use crate::api::failover_record::FailoverRecordSpec;
use crate::mover::outcome::{Outcome, Reason};
use crate::observe::cluster::mounts;
use crate::plan::bandwidth::Hours;
use crate::plan::desired::jobs::{Verb, is_unstarted};
use crate::plan::failover::Point;
use crate::plan::failover::volumes;
use crate::plan::manifest::Manifest;
use crate::plan::schedule;
use crate::plan::status::Trouble;
use crate::plan::task::{Source, Task};

/// Whether a Job has ended, well or not.
#[must_use]
pub fn ended(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| {
        condition.status == "True" && matches!(condition.type_.as_str(), "Complete" | "Failed")
    })
}

/// What the Pod of a Job, one of `movers`, said at its end.
pub(super) fn outcome(job: &Job, movers: &[Pod]) -> Result<Outcome, String> {
    let name = job.name_any();
    let of_job =
        |pod: &&Pod| pod.labels().get("batch.kubernetes.io/job-name").is_some_and(|job| *job == name);
    let message = movers.iter().find(of_job).and_then(|pod| {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        statuses.first()?.state.as_ref()?.terminated.as_ref()?.message.clone()
    });
    let Some(message) = message else {
        return Err(format!(
            "mover {name} ended without saying how: it was killed or evicted; it is tried again"
        ));
    };
    Outcome::parse(&message).map_err(|error| error.to_string())
}

/// What a mover's Secret holds.
pub(super) fn credentials(access: &Access, key: Option<String>) -> BTreeMap<String, ByteString> {
    let way = [
        ("ca.crt", access.mover.ca.clone()),
        ("tls.crt", access.mover.certificate.clone()),
        ("tls.key", access.mover.key.clone()),
    ];
    let all = way.into_iter().chain(key.map(|key| ("repository-key", key)));
    all.map(|(name, value)| (name.to_owned(), ByteString(value.into_bytes()))).collect()
}

impl Round {
    /// Reads the outcome of every Job that ended, and removes those that an operator left before they began, if they wait for nothing. Returns the record
    /// if it changed.
    pub async fn finish_movers(
        &self,
        memory: &mut Memory,
        record: &FailoverRecord,
    ) -> Result<Option<FailoverRecord>, RunError> {
        let left = |job: &&Job| is_unstarted(job) && !waits(job, record);
        for job in self.seen.jobs.iter().chain(&self.seen.verifications).filter(left) {
            act::movers::remove(&self.context.client, job).await?;
        }
        for job in self.seen.jobs.iter().filter(|job| ended(job)) {
            let Some(task) = Task::of(job) else {
                act::movers::remove(&self.context.client, job).await?;
                continue;
            };
            let outcome = self.outcome(job);
            let written = self.conclude(memory, record, &task, outcome).await?;
            act::movers::remove(&self.context.client, job).await?;
            if written.is_some() {
                return Ok(written);
            }
        }
        Ok(None)
    }

    /// What the Job's Pod said at its end.
    pub fn outcome(&self, job: &Job) -> Result<Outcome, String> {
        outcome(job, &self.seen.movers)
    }

    async fn conclude(
        &self,
        memory: &mut Memory,
        record: &FailoverRecord,
        task: &Task,
        outcome: Result<Outcome, String>,
    ) -> Result<Option<FailoverRecord>, RunError> {
        let current = task.is_current(&record.spec);
        match (task, outcome) {
            (Task::Backup { vault, manifest, source }, Ok(Outcome::Backup(done))) if current => {
                let consistency = observed(&record.spec, manifest, *source);
                let manifest = Manifest { contents: done.into(), consistency, ..(**manifest).clone() };
                self.commit(memory, record, task, vault, manifest).await
            }
            (Task::Restore(manifest), Ok(Outcome::Restore(_))) if current => {
                succeeded(memory);
                self.verified(&manifest.point).await?;
                let spec = volumes::restored(&record.spec, &manifest.point());
                self.note(record, spec).await
            }
            (Task::Activate { .. }, Ok(Outcome::Activate(_))) if current => {
                succeeded(memory);
                self.note(record, volumes::activated(&record.spec)).await
            }
            (Task::Compare { kept, base }, Ok(Outcome::Compare(done))) if current => {
                succeeded(memory);
                self.differs(&kept.point, &base.point, done).await?;
                Ok(None)
            }
            (Task::Activate { .. }, Ok(Outcome::Failed(failed)))
                if current
                    && failed.reason == Reason::VolumesIncomplete
                    && self.carrying().next().is_none() =>
            {
                self.failed(memory, task.verb(), failed.reason.as_str(), failed.message).await;
                // Nothing of this reign has run on them: they are brought to the same point once more.
                self.note(record, volumes::replaced(&record.spec)).await
            }
            (_, Ok(Outcome::Failed(failed))) if current => {
                self.failed(memory, task.verb(), failed.reason.as_str(), failed.message).await;
                Ok(None)
            }
            (_, Err(message)) if current => {
                self.failed(memory, task.verb(), "Interrupted", message).await;
                Ok(None)
            }
            // The world moved on: what it did counts for nothing.
            _ => Ok(None),
        }
    }

    /// Says why a mover's work failed, and when it is tried again.
    pub(super) async fn failed(
        &self,
        memory: &mut Memory,
        verb: Verb,
        reason: &'static str,
        message: String,
    ) {
        let rpo = duration::parse(&self.embassy.spec.replication.rpo).unwrap_or_default();
        memory.failures += 1;
        memory.retry_at = Some(Instant::now() + schedule::retry_after(memory.failures, rpo));
        let verb = verb.as_str();
        tracing::warn!(
            namespace = self.owner.namespace,
            name = self.owner.name,
            verb,
            reason,
            message,
            "mover failed"
        );
        self.context.metrics.failure(&self.owner, reason);
        self.event(true, reason, verb, &format!("{verb} failed: {message}")).await;
        memory.trouble = Some(Trouble { reason, message: format!("{verb} failed: {message}") });
    }

    /// The point that a running Job brings the volumes to, as the record says.
    #[must_use]
    pub fn restore_under_way(&self, memory: &Memory, record: &FailoverRecordSpec) -> Option<Point> {
        self.seen.jobs.iter().filter(|job| !ended(job)).find_map(|job| {
            let task =
                Task::of(job).filter(|task| matches!(task, Task::Restore(_)) && task.is_current(record))?;
            memory.committed(&task.manifest().point).map(|(_, known)| known.manifest.point())
        })
    }

    /// Starts the task's Job, unless it runs already. A Job of another task that uses the volumes is ended first.
    pub async fn ensure_mover(&self, memory: &mut Memory, task: &Task) -> Result<(), RunError> {
        let runs = |job: &Job| Task::of(job).as_ref().is_some_and(|running| same(running, task));
        if self.seen.jobs.iter().any(runs) || !self.may_start(memory, task.uses_volumes()).await? {
            return Ok(());
        }
        self.start_mover(memory, task).await
    }

    /// Whether a mover may start now; Jobs of other tasks are ended first.
    pub(super) async fn may_start(&self, memory: &Memory, uses_volumes: bool) -> Result<bool, RunError> {
        for job in &self.seen.jobs {
            act::movers::remove(&self.context.client, job).await?;
        }
        // Two movers must never have the volumes at once, not even one that is being ended.
        let busy = self.seen.movers.iter().any(|pod| mounts(pod, &self.seen.claims) && !pod_ended(pod));
        let later = memory.retry_at.is_some_and(|at| at > Instant::now());
        Ok(self.seen.jobs.is_empty() && !(busy && uses_volumes) && !later)
    }

    pub(super) async fn start_mover(&self, memory: &mut Memory, task: &Task) -> Result<(), RunError> {
        let client = &self.context.client;
        let Some((access, key)) = self.provisions(memory, task).await? else { return Ok(()) };
        let mut job = self.job(memory, task, &access.url, key.is_some())?;
        if task.from_snapshots() {
            // It may wait for long, and nobody looks after it once the DataEmbassy is gone.
            job.metadata.owner_references = self.embassy.owner_ref(&()).map(|owner| vec![owner]);
        }
        let Some(created) = act::movers::create(client, &job).await? else { return Ok(()) };
        let manifest = task.manifest();
        tracing::info!(
            namespace = self.owner.namespace, name = self.owner.name, verb = task.verb().as_str(),
            point = %manifest.point, "mover started"
        );
        if let Task::Backup { source: source @ (Source::Snapshots | Source::GroupSnapshot), .. } = task {
            return self.take_snapshots(memory, &created, manifest, *source).await;
        }
        Ok(act::movers::provide(client, &created, credentials(access, key)).await?)
    }

    /// The way and the key that a task needs; none if they are not there.
    pub(super) async fn provisions(
        &self,
        memory: &mut Memory,
        task: &Task,
    ) -> Result<Option<(&Access, Option<String>)>, RunError> {
        let link = vault_of(memory, task).and_then(|vault| self.links.get(vault));
        let Some(access) = link.and_then(|link| link.access.as_ref()) else { return Ok(None) };
        let manifest = task.manifest();
        let key = self.repository_key(task).await?;
        if key.is_none() && !self.is_sealed() {
            memory.trouble = Some(Trouble {
                reason: "KeyMissing",
                message: format!(
                    "the repository key of epoch {} has not arrived from {}: it comes with its next mandate",
                    manifest.point.epoch, manifest.point.epoch.site
                ),
            });
            return Ok(None);
        }
        let during = self.embassy.spec.replication.bandwidth.as_ref().and_then(|it| it.during.as_ref());
        if let Some(Err(why)) = during.map(|during| during.parse::<Hours>()) {
            let message =
                format!("spec.replication.bandwidth.during: {why}; nothing is copied until it can be read");
            memory.trouble = Some(Trouble { reason: "InvalidHours", message });
            return Ok(None);
        }
        Ok(Some((access, key)))
    }

    async fn repository_key(&self, task: &Task) -> Result<Option<String>, RunError> {
        let (keeper, epoch) = (&self.context.keeper, &task.manifest().point.epoch);
        if matches!(task, Task::Backup { .. }) {
            return Ok(Some(repository_keys::own(keeper, &self.owner, epoch).await?));
        }
        Ok(repository_keys::find(keeper, &self.owner, epoch).await?)
    }
}

/// The vault that a task needs.
pub(super) fn vault_of<'a>(memory: &'a Memory, task: &'a Task) -> Option<&'a str> {
    match task {
        Task::Backup { vault, .. } => Some(vault),
        Task::Restore(manifest)
        | Task::Activate { from: manifest, .. }
        | Task::Compare { kept: manifest, .. } => memory.committed(&manifest.point).map(|(vault, _)| vault),
    }
}

/// The same work, whenever it was begun.
fn same(running: &Task, wanted: &Task) -> bool {
    match (running, wanted) {
        (Task::Restore(running), Task::Restore(wanted)) => running.point == wanted.point,
        (Task::Activate { epoch: running, from }, Task::Activate { epoch: wanted, from: whose }) => {
            running == wanted && from.point == whose.point
        }
        (Task::Compare { kept: running, .. }, Task::Compare { kept: wanted, .. }) => {
            running.point == wanted.point
        }
        _ => false,
    }
}

fn pod_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

pub(super) fn succeeded(memory: &mut Memory) {
    (memory.failures, memory.retry_at, memory.trouble) = (0, None, None);
}
