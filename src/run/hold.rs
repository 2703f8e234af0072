//! Writers that hold still for a copy. The record says so before the first command is run and until the last one has let them go
//! on, so that nothing frozen is forgotten: not by a restarted operator, and not when the copy or the `DataEmbassy` is gone.

use std::time::Instant;

use futures::SinkExt;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{Resource, ResourceExt};
use tokio::task::JoinHandle;

use super::context::{Context, target};
use super::error::RunError;
use super::memory::Memory;
use super::movers::ended;
use super::records::durable;
use super::round::Round;
use crate::act;
use crate::act::hooks::Frozen;
use crate::api::FailoverRecord;
use crate::api::failover_record::FailoverRecordSpec;
use crate::api::hooks::{Freeze, FrozenPod};
use crate::api::recovery_point::Consistency;
use crate::observe::cluster::mounts;
use crate::plan::desired::Owner;
use crate::plan::desired::jobs::is_unstarted;
use crate::plan::hooks::{Copying, Planned, is_over, proves, thawing, writers};
use crate::plan::manifest::Manifest;
use crate::plan::schedule;
use crate::plan::snapshots;
use crate::plan::snapshots::Progress;
use crate::plan::status::Trouble;
use crate::plan::task::{Source, Task};

/// As if copies were due every so often: how retries of a command that failed slow down, to a minute.
const PACE: std::time::Duration = std::time::Duration::from_mins(4);
/// The API server takes no longer text in a record.
const LONGEST: usize = 2048;

/// Hooks that run beside the reconciles, which never wait for them.
#[derive(Default)]
pub struct Hooks {
    work: Option<Work>,
    /// Commands after a copy that failed, in a row.
    failures: u32,
    /// Not before this are they run again.
    retry_at: Option<Instant>,
}

enum Work {
    /// The commands before a copy run.
    Freezing(JoinHandle<Frozen>),
    /// They have ended in this very round: the copy may begin.
    Ready,
    /// The commands after a copy run.
    Thawing(JoinHandle<Vec<(FrozenPod, String)>>),
}

/// What a freeze is judged by.
pub(super) struct Look {
    /// How its copy is.
    pub(super) copy: Copying,
    /// Whether a copy of the running register may be made at all.
    pub(super) may_copy: bool,
    /// Whether the writers are the same ones as when it was begun.
    pub(super) same_writers: bool,
}

/// A freeze in its record.
pub(super) struct Hold<'a> {
    pub(super) context: &'a Context,
    pub(super) owner: &'a Owner,
    pub(super) record: FailoverRecord,
}

impl Hold<'_> {
    /// Takes the freeze a step further and answers with the record as it is then. It never waits for a command.
    pub(super) async fn step(mut self, memory: &mut Memory, look: &Look) -> Result<FailoverRecord, RunError> {
        let Some(freeze) = self.record.spec.freeze.clone() else {
            memory.hooks = Hooks::default();
            return Ok(self.record);
        };
        match memory.hooks.work.take() {
            Some(Work::Freezing(running)) if !running.is_finished() => {
                if look.may_copy && !is_over(&freeze, Timestamp::now()) {
                    memory.hooks.work = Some(Work::Freezing(running));
                    return Ok(self.record);
                }
                running.abort();
                self.let_go(memory, freeze, look).await?;
            }
            Some(Work::Freezing(ran)) => {
                let frozen = ran.await.map_err(RunError::defect)?;
                self.frozen(memory, freeze, frozen, look).await?;
            }
            Some(Work::Thawing(running)) if !running.is_finished() => {
                memory.hooks.work = Some(Work::Thawing(running));
            }
            Some(Work::Thawing(ran)) => {
                let left = ran.await.map_err(RunError::defect)?;
                self.thawed(memory, freeze, left).await?;
            }
            Some(Work::Ready) | None => self.let_go(memory, freeze, look).await?,
        }
        Ok(self.record)
    }

    /// The commands before the copy have ended.
    async fn frozen(
        &mut self,
        memory: &mut Memory,
        freeze: Freeze,
        frozen: Frozen,
        look: &Look,
    ) -> Result<(), RunError> {
        let mut pods = freeze.pods.clone();
        pods.truncate(frozen.begun);
        let quiesced = frozen.failure.is_none() && !frozen.in_part;
        let freeze = Freeze { pods, quiesced, ..freeze };
        if let Some(why) = frozen.failure {
            let message = format!("no copy was made: {why}");
            memory.failures += 1;
            memory.retry_at = Some(Instant::now() + schedule::retry_after(memory.failures, PACE));
            memory.trouble = Some(Trouble { reason: "HookFailed", message: message.clone() });
            self.shout("HookFailed", &message).await;
            return self.let_go(memory, freeze, look).await;
        }
        if !look.may_copy {
            return self.let_go(memory, freeze, look).await;
        }
        self.write(Some(freeze)).await?;
        memory.hooks.work = Some(Work::Ready);
        Ok(())
    }

    /// Begins to let the writers go on when it is time, goes on with it, and forgets the freeze when all is done.
    async fn let_go(&mut self, memory: &mut Memory, freeze: Freeze, look: &Look) -> Result<(), RunError> {
        let copy = if look.may_copy || look.copy == Copying::Ended { look.copy } else { Copying::Missing };
        if let Some(begun) = thawing(&freeze, copy, look.same_writers, Timestamp::now()) {
            if copy == Copying::Missing && memory.retry_at.is_none_or(|at| at < Instant::now()) {
                // Writers must not be frozen again and again for copies that do not begin.
                memory.failures += 1;
                memory.retry_at = Some(Instant::now() + schedule::retry_after(memory.failures, PACE));
            }
            self.write(Some(begun.clone())).await?;
            self.run(memory, begun.pods);
        } else if freeze.thawing && freeze.pods.is_empty() {
            // Kept until the copy's outcome is recorded: it says how the copy was made.
            if look.copy == Copying::Missing {
                self.write(None).await?;
                memory.hooks = Hooks::default();
            }
        } else if freeze.thawing && memory.hooks.retry_at.is_none_or(|at| at <= Instant::now()) {
            self.run(memory, freeze.pods);
        }
        Ok(())
    }

    /// Runs the commands after the copy.
    fn run(&self, memory: &mut Memory, pods: Vec<FrozenPod>) {
        let (client, namespace) = (self.context.streams.clone(), self.owner.namespace.clone());
        let (mut wake, target) = (self.context.wake.clone(), target(self.owner));
        memory.hooks.work = Some(Work::Thawing(tokio::spawn(async move {
            let left = act::hooks::thaw(&client, &namespace, &pods).await;
            let _ = wake.send(target).await;
            left
        })));
    }

    async fn thawed(
        &mut self,
        memory: &mut Memory,
        freeze: Freeze,
        left: Vec<(FrozenPod, String)>,
    ) -> Result<(), RunError> {
        let failure = left.first().map(|(_, why)| why.chars().take(LONGEST).collect::<String>());
        let pods = left.into_iter().map(|(pod, _)| pod).collect();
        if let Some(why) = &failure {
            memory.hooks.failures += 1;
            let pause = schedule::retry_after(memory.hooks.failures, PACE);
            memory.hooks.retry_at = Some(Instant::now() + pause);
            let message =
                format!("the writer may still hold still: {why}; tried again in {} s", pause.as_secs());
            self.shout("ThawFailed", &message).await;
        }
        self.write(Some(Freeze { pods, failure, ..freeze })).await
    }

    async fn write(&mut self, freeze: Option<Freeze>) -> Result<(), RunError> {
        let spec = FailoverRecordSpec { freeze, ..self.record.spec.clone() };
        if spec == self.record.spec {
            return Ok(());
        }
        let client = &self.context.client;
        self.record = durable(act::record::replace(client, self.owner, &self.record, spec, None).await?)?;
        Ok(())
    }

    async fn shout(&self, reason: &'static str, message: &str) {
        let (namespace, name) = (&self.owner.namespace, &self.owner.name);
        tracing::warn!(namespace, name, reason, message, "hooks");
        self.context.metrics.failure(self.owner, reason);
        let about = self.record.object_ref(&());
        act::report::event(&self.context.client, about, true, reason, "Hook", message).await;
    }
}

impl Round {
    /// Looks after what is frozen; before anything else, and before a fence ends its Pods.
    pub(super) async fn look_after_freeze(&mut self, memory: &mut Memory) -> Result<(), RunError> {
        let Some(record) = self.seen.record.clone() else { return Ok(()) };
        let Some(freeze) = record.spec.freeze.clone() else { return Ok(()) };
        let look = Look {
            copy: self.copying(&freeze),
            may_copy: record.spec.role.rules() && !record.spec.held(),
            same_writers: self.writers(&freeze.pods) == freeze.writers,
        };
        let hold = Hold { context: &self.context, owner: &self.owner, record };
        self.seen.record = Some(hold.step(memory, &look).await?);
        Ok(())
    }

    fn copying(&self, freeze: &Freeze) -> Copying {
        let its = |job| match Task::of(job)? {
            Task::Backup { manifest, source, .. } if Some(manifest.point.sequence) == freeze.sequence => {
                Some((job, manifest, source))
            }
            _ => None,
        };
        match self.seen.jobs.iter().find_map(its) {
            None => Copying::Missing,
            Some((job, ..)) if ended(job) => Copying::Ended,
            Some((_, _, Source::Volumes)) => Copying::Reads,
            // Once the snapshots are taken, what the writers do is in none of them.
            Some((job, manifest, source)) if is_unstarted(job) => {
                match self.snapshot_progress(job, &manifest, source) {
                    Progress::Taking => Copying::Reads,
                    Progress::Taken | Progress::Ready => Copying::Ended,
                    Progress::Failed(_) => Copying::Missing,
                }
            }
            Some(_) => Copying::Ended,
        }
    }

    /// The Pods that use the volumes, and those in which a hook ran.
    fn writers(&self, frozen: &[FrozenPod]) -> String {
        let hooked = |pod: &k8s_openapi::api::core::v1::Pod| {
            frozen.iter().any(|frozen| Some(&frozen.uid) == pod.uid().as_ref())
        };
        writers(self.seen.pods.iter().filter(|pod| hooked(pod) || mounts(pod, &self.seen.claims)))
    }

    /// Writes down what is about to be frozen, then runs the commands before the copy.
    pub(super) async fn freeze(
        &mut self,
        memory: &mut Memory,
        record: &FailoverRecord,
        hooks: Vec<Planned>,
    ) -> Result<(), RunError> {
        let (now, longest) = (Timestamp::now(), self.embassy.spec.replication.longest_freeze());
        let pods: Vec<FrozenPod> = hooks.iter().map(|hook| hook.frozen.clone()).collect();
        let freeze = Freeze {
            since: Time(now),
            until: Time(now + longest),
            sequence: None,
            writers: self.writers(&pods),
            pods,
            quiesced: false,
            thawing: false,
            outlasted: false,
            failure: None,
        };
        let spec = FailoverRecordSpec { freeze: Some(freeze), ..record.spec.clone() };
        self.seen.record = self.note(record, spec).await?.or_else(|| Some(record.clone()));
        let (client, namespace) = (self.context.streams.clone(), self.owner.namespace.clone());
        let (mut wake, target) = (self.context.wake.clone(), target(&self.owner));
        memory.hooks.work = Some(Work::Freezing(tokio::spawn(async move {
            let frozen = act::hooks::freeze(&client, &namespace, &hooks).await;
            let _ = wake.send(target).await;
            frozen
        })));
        Ok(())
    }

    /// Whether every writer holds still for a copy that begins now; none while hooks run that it must wait for.
    pub(super) fn begin_held(memory: &mut Memory, freeze: Option<&Freeze>) -> Option<bool> {
        let Some(freeze) = freeze else { return Some(false) };
        if matches!(memory.hooks.work, Some(Work::Ready)) {
            memory.hooks.work = None;
            return Some(freeze.quiesced);
        }
        // Copies go on while a writer cannot be let go on: they are only not called more than they are.
        freeze.failure.as_ref().map(|_| false)
    }
}

/// What may be said of a copy that has ended.
pub(super) fn observed(record: &FailoverRecordSpec, copy: &Manifest, source: Source) -> Consistency {
    let meant = copy.consistency;
    if meant == Consistency::Quiesced && !proves(record.freeze.as_ref(), copy.point.sequence) {
        return snapshots::consistency(source, copy.claims.len());
    }
    meant
}
