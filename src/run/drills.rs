//! Drills: one at a time, beside the register and never in its way. What was reached is written down after each step, so that a
//! restarted operator goes on where another one stopped.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, PostParams},
};
use tokio::task::JoinHandle;

use super::drill_steps::Run;
use super::error::RunError;
use super::memory::Memory;
use super::round::{Round, pinned_key};
use crate::act;
use crate::api::Drill;
use crate::api::drill::{CheckResult, DrillPhase, DrillStatus};
use crate::api::epoch::PointRef;
use crate::api::failover_record::{FailoverRecordSpec, Role};
use crate::observe::post::PostError;
use crate::plan::desired::Owner;
use crate::plan::drill::calendar;
use crate::plan::drill::{Step, hindrance, namespace_name, next};
use crate::plan::manifest::Manifest;
use crate::plan::schedule;
use crate::vault::client::ClientError;

/// As if copies were due every so often: how retries of a mover slow down.
const PACE: Duration = Duration::from_mins(4);

/// What is kept in memory of the drill that is under way; losing it costs time only.
pub struct Rehearsal {
    /// Of the `Drill`.
    pub(super) uid: String,
    /// The vault that holds the point, and the point.
    pub(super) from: Option<(String, Manifest)>,
    /// The checks that run.
    pub(super) checks: Option<JoinHandle<Vec<CheckResult>>>,
    /// Movers that failed and were tried again.
    pub(super) tries: u32,
    /// Not before this is the next one started.
    retry_at: Option<Instant>,
}

/// Where a recovery point is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// In no vault that answered; another one may hold it.
    InReach,
    /// In no vault of this embassy.
    Everywhere,
}

impl Rehearsal {
    fn of(uid: &str) -> Self {
        Self { uid: uid.to_owned(), from: None, checks: None, tries: 0, retry_at: None }
    }

    /// A mover was interrupted: the next one follows later each time.
    pub(super) fn try_later(&mut self) {
        self.tries += 1;
        self.retry_at = Some(Instant::now() + schedule::retry_after(self.tries, PACE));
    }

    /// Whether it is too early for the next mover.
    pub(super) fn rests(&self) -> bool {
        self.retry_at.is_some_and(|at| Instant::now() < at)
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        if let Some(checks) = &self.checks {
            checks.abort();
        }
    }
}

impl Round {
    /// Begins a drill that is due, and takes the oldest open one a step further. Whatever goes wrong with drills stays with them.
    pub async fn drill(&self, memory: &mut Memory, record: &FailoverRecordSpec) {
        if let Err(error) = self.schedule_drills(record).await {
            let (namespace, name) = (&self.owner.namespace, &self.owner.name);
            tracing::warn!(namespace, name, %error, "a drill by schedule did not begin; trying again");
        }
        if let Err(error) = self.schedule_serving(memory, record).await {
            let (namespace, name) = (&self.owner.namespace, &self.owner.name);
            tracing::warn!(namespace, name, %error, "readers are not served yet; trying again");
        }
        for drill in self.open_drills().filter(|drill| drill.serves()) {
            self.step(memory, record, drill).await;
        }
        let mut open: Vec<&Drill> = self.open_drills().filter(|drill| !drill.serves()).collect();
        open.sort_by_key(|drill| {
            (drill.status.as_ref().and_then(|s| s.started_at.clone()).is_none(), drill.creation_timestamp())
        });
        let Some(first) = open.first() else {
            memory.rehearsal = None;
            return;
        };
        self.step(memory, record, first).await;
        for waiting in &open[1..] {
            let old = waiting.status.clone().unwrap_or_default();
            let message = Some(format!("waits for drill {} to end", first.name_any()));
            let status = DrillStatus { phase: Some(DrillPhase::Pending), message, ..old };
            let _ = self.write_drill(waiting, status).await;
        }
    }

    async fn step(&self, memory: &mut Memory, record: &FailoverRecordSpec, drill: &Drill) {
        // Boxed: every reconcile would carry its room otherwise.
        if let Err(error) = Box::pin(self.advance(memory, record, drill)).await {
            let (namespace, name) = (&self.owner.namespace, drill.name_any());
            tracing::warn!(namespace, name, %error, "a step of the drill failed; trying again");
            let old = drill.status.clone().unwrap_or_default();
            let message = Some(format!("{error}; trying again"));
            let phase = old.phase.or(Some(DrillPhase::Pending));
            let _ = self.write_drill(drill, DrillStatus { phase, message, ..old }).await;
        }
    }

    /// Begins a drill when one is due by schedule, at a standby, and removes old reports of such.
    async fn schedule_drills(&self, record: &FailoverRecordSpec) -> Result<(), RunError> {
        let Some(wanted) = &self.embassy.spec.drills else { return Ok(()) };
        self.remove_drills(&calendar::surplus(&self.seen.drills)).await?;
        let due = self.drill_due(record).filter(|due| *due <= Timestamp::now());
        let Some(due) = due else { return Ok(()) };
        let mut drill = calendar::scheduled(wanted, &self.owner.name, due);
        drill.metadata.labels = Some(self.owner.labels());
        self.create_drill(&drill).await
    }

    /// Removes the objects of drills that have ended.
    pub(super) async fn remove_drills(&self, ended: &[&Drill]) -> Result<(), RunError> {
        let api: Api<Drill> = Api::namespaced(self.context.client.clone(), &self.owner.namespace);
        for old in ended {
            match api.delete(&old.name_any(), &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(RunError::Cluster("remove the report of an old drill", error)),
            }
        }
        Ok(())
    }

    /// Creates a drill; one of that name is the same.
    pub(super) async fn create_drill(&self, drill: &Drill) -> Result<(), RunError> {
        let api: Api<Drill> = Api::namespaced(self.context.client.clone(), &self.owner.namespace);
        match api.create(&PostParams::default(), drill).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(RunError::Cluster("begin the drill that is due", error)),
        }
    }

    /// When the next drill begins by schedule; none where it could not begin now, or the schedule cannot be read.
    #[must_use]
    pub fn drill_due(&self, record: &FailoverRecordSpec) -> Option<Timestamp> {
        let rehearses =
            record.role == Role::Standby && hindrance(record, self.embassy.spec.suspend).is_none();
        if !rehearses || self.open_drills().any(|drill| drill.spec.serve.is_none()) {
            return None;
        }
        let since = self.embassy.creation_timestamp().map(|time| time.0)?;
        let wanted = self.embassy.spec.drills.as_ref()?;
        calendar::due(wanted, &self.whose(), &self.seen.drills, since).ok()
    }

    /// Drills that have not ended.
    pub fn open_drills(&self) -> impl Iterator<Item = &Drill> {
        let drills = self.seen.drills.iter();
        drills.filter(|drill| !drill.has_ended() && drill.metadata.deletion_timestamp.is_none())
    }

    async fn advance(
        &self,
        memory: &mut Memory,
        record: &FailoverRecordSpec,
        drill: &Drill,
    ) -> Result<(), RunError> {
        let uid = drill.uid().unwrap_or_default();
        if !drill.serves() && memory.rehearsal.as_ref().is_none_or(|rehearsal| rehearsal.uid != uid) {
            memory.rehearsal = Some(Rehearsal::of(&uid));
        }
        let old = drill.status.clone().unwrap_or_default();
        let hindrance = match &drill.spec.serve {
            None => hindrance(record, self.embassy.spec.suspend),
            // What is served stays while nothing is copied.
            Some(_) if drill.serves() => self.hinders(record, drill),
            Some(_) => self.hinders_serving(record).or(hindrance(record, self.embassy.spec.suspend)),
        };
        let now = Timestamp::now();
        let owner =
            Owner { namespace: namespace_name(&self.owner.namespace, &uid), name: self.owner.name.clone() };
        let run = Run { round: self, drill, uid: &uid, owner, status: old };
        let status = match next(&drill.spec, &run.status, hindrance.as_deref(), now) {
            Step::Nothing => None,
            Step::Begin => Some(run.begin(memory, hindrance).await?),
            Step::Restore => run.restore(memory).await?,
            Step::Apply => run.apply(memory).await?,
            Step::Start => run.start().await?,
            Step::Check => run.check(memory).await?,
            Step::Serve => run.serve().await?,
            Step::Conclude { passed, message } => Some(run.conclude(passed, message)),
            Step::CleanUp => run.clean_up().await?,
        };
        match status {
            Some(status) => self.write_drill(drill, status).await,
            None => Ok(()),
        }
    }

    pub(super) async fn write_drill(&self, drill: &Drill, status: DrillStatus) -> Result<(), RunError> {
        let api: Api<Drill> = Api::namespaced(self.context.client.clone(), &self.owner.namespace);
        let ended = status.phase.filter(|phase| phase.is_final());
        if act::report::status(&api, drill, drill.status.as_ref(), &status).await?
            && let Some(phase) = ended
        {
            let failed = phase == DrillPhase::Failed;
            let reason = if failed { "DrillFailed" } else { "DrillPassed" };
            let note = status.message.clone().unwrap_or_default();
            act::report::event(&self.context.client, drill.object_ref(&()), failed, reason, "Drill", &note)
                .await;
        }
        Ok(())
    }

    /// A committed point and the vault that holds it: as read already, or asked for.
    pub(super) async fn find_point(
        &self,
        memory: &Memory,
        point: &PointRef,
    ) -> Result<(String, Manifest), Absent> {
        if let Some((vault, known)) = memory.committed(point) {
            return Ok((vault.to_owned(), known.manifest.clone()));
        }
        let own = self.context.keys().await.signing.public();
        let key = if point.epoch.site == self.parties.me {
            Some(own)
        } else {
            pinned_key(self.sites.get(&point.epoch.site))
        }
        .ok_or(Absent::Everywhere)?;
        let mut absent = if self.links.is_empty() { Absent::InReach } else { Absent::Everywhere };
        for (vault, link) in &self.links {
            match link.post.as_ref().filter(|_| link.reach) {
                None => absent = Absent::InReach,
                Some(post) => match post.point(point, &key).await {
                    Ok(known) => return Ok((vault.clone(), known.manifest)),
                    Err(PostError::Vault(ClientError::NotFound { .. })) => {}
                    Err(_) => absent = Absent::InReach,
                },
            }
        }
        Err(absent)
    }
}
