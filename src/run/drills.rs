//! Drills: one at a time, beside the register and never in its way. What was reached is written down after each step, so that a
//! restarted operator goes on where another one stopped.

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{PersistentVolumeClaim, ServiceAccount},
        networking::v1::NetworkPolicy,
        rbac::v1::RoleBinding,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, PostParams},
    runtime::reflector::ObjectRef,
};
use tokio::task::JoinHandle;

use super::error::RunError;
use super::memory::Memory;
use super::movers::{credentials, ended, outcome};
use super::namespace::permit;
use super::repository_keys;
use super::round::{Round, pinned_key};
use crate::act;
use crate::act::apply::{apply, owned, prune};
use crate::act::drill::DrillError;
use crate::api::Drill;
use crate::api::drill::{CheckResult, DrillPhase, DrillStatus};
use crate::api::epoch::PointRef;
use crate::api::failover_record::{FailoverRecordSpec, Role};
use crate::mover::outcome::{Outcome, Reason};
use crate::observe::drill::{Stage as Seen, see};
use crate::plan::desired::Owner;
use crate::plan::desired::drill::{Stage, check_binding, claims, is_of, namespace, policies};
use crate::plan::desired::jobs::{MoverIntent, Verb, is_unstarted, mover};
use crate::plan::desired::rbac;
use crate::plan::drill::calendar;
use crate::plan::drill::readiness::missing;
use crate::plan::drill::{Step, begun, hindrance, namespace_name, next, ready};
use crate::plan::manifest::Manifest;

/// The task of a drill's movers: the Drill itself says what they are for.
const TASK: &str = "drill";

/// What is kept in memory of the drill that is under way; losing it costs time only.
pub struct Rehearsal {
    /// Of the `Drill`.
    uid: String,
    /// The vault that holds the point, and the point.
    from: Option<(String, Manifest)>,
    /// The checks that run.
    checks: Option<JoinHandle<Vec<CheckResult>>>,
    /// Movers that failed and were tried again.
    tries: u32,
}

impl Rehearsal {
    fn of(uid: &str) -> Self {
        Self { uid: uid.to_owned(), from: None, checks: None, tries: 0 }
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
    /// Takes the oldest open drill one step further. Whatever goes wrong in a drill stays in the drill.
    pub async fn drill(&self, memory: &mut Memory, record: &FailoverRecordSpec) {
        let mut open: Vec<&Drill> = self.open_drills().collect();
        open.sort_by_key(|drill| {
            (drill.status.as_ref().and_then(|s| s.started_at.clone()).is_none(), drill.creation_timestamp())
        });
        let Some(first) = open.first() else {
            memory.rehearsal = None;
            return;
        };
        let done = self.advance(memory, record, first).await;
        if let Err(error) = done {
            let (namespace, name) = (&self.owner.namespace, first.name_any());
            tracing::warn!(namespace, name, %error, "a step of the drill failed; trying again");
            let old = first.status.clone().unwrap_or_default();
            let message = Some(format!("{error}; trying again"));
            let phase = old.phase.or(Some(DrillPhase::Pending));
            let _ = self.write_drill(first, DrillStatus { phase, message, ..old }).await;
        }
        for waiting in &open[1..] {
            let old = waiting.status.clone().unwrap_or_default();
            let message = Some(format!("waits for drill {} to end", first.name_any()));
            let status = DrillStatus { phase: Some(DrillPhase::Pending), message, ..old };
            let _ = self.write_drill(waiting, status).await;
        }
    }

    /// Begins a drill when one is due by schedule, at a standby, and removes old reports of such.
    pub async fn schedule_drills(&self, record: &FailoverRecordSpec) -> Result<(), RunError> {
        let Some(wanted) = &self.embassy.spec.drills else { return Ok(()) };
        let api: Api<Drill> = Api::namespaced(self.context.client.clone(), &self.owner.namespace);
        for old in calendar::surplus(&self.seen.drills) {
            match api.delete(&old.name_any(), &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(RunError::Cluster("remove the report of an old drill", error)),
            }
        }
        let Some(due) = self.drill_due().filter(|due| *due <= Timestamp::now()) else { return Ok(()) };
        let rehearses =
            record.role == Role::Standby && hindrance(record, self.embassy.spec.suspend).is_none();
        if !rehearses || self.open_drills().next().is_some() {
            return Ok(());
        }
        let mut drill = calendar::scheduled(wanted, &self.owner.name, due);
        drill.metadata.labels = Some(self.owner.labels());
        match api.create(&PostParams::default(), &drill).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(RunError::Cluster("begin the drill that is due", error)),
        }
    }

    /// When the next drill is due by schedule; none where there is no schedule that can be read.
    #[must_use]
    pub fn drill_due(&self) -> Option<Timestamp> {
        let since = self.embassy.creation_timestamp().map(|time| time.0)?;
        let wanted = self.embassy.spec.drills.as_ref()?;
        calendar::due(wanted, &self.whose(), &self.seen.drills, since).ok()
    }

    /// Drills that have not ended.
    pub fn open_drills(&self) -> impl Iterator<Item = &Drill> {
        let ended = |drill: &Drill| {
            let phase = drill.status.as_ref().and_then(|status| status.phase);
            phase.is_some_and(DrillPhase::is_final)
        };
        self.seen
            .drills
            .iter()
            .filter(move |drill| !ended(drill) && drill.metadata.deletion_timestamp.is_none())
    }

    async fn advance(
        &self,
        memory: &mut Memory,
        record: &FailoverRecordSpec,
        drill: &Drill,
    ) -> Result<(), RunError> {
        let uid = drill.uid().unwrap_or_default();
        if memory.rehearsal.as_ref().is_none_or(|rehearsal| rehearsal.uid != uid) {
            memory.rehearsal = Some(Rehearsal::of(&uid));
        }
        let old = drill.status.clone().unwrap_or_default();
        let hindrance = hindrance(record, self.embassy.spec.suspend);
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
            Step::Conclude { passed, message } => Some(run.conclude(passed, message)),
            Step::CleanUp => run.clean_up().await?,
        };
        match status {
            Some(status) => self.write_drill(drill, status).await,
            None => Ok(()),
        }
    }

    async fn write_drill(&self, drill: &Drill, status: DrillStatus) -> Result<(), RunError> {
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
    async fn find_point(&self, memory: &Memory, point: &PointRef) -> Option<(String, Manifest)> {
        if let Some((vault, known)) = memory.committed(point) {
            return Some((vault.to_owned(), known.manifest.clone()));
        }
        let own = self.context.keys().await.signing.public();
        let key = if point.epoch.site == self.parties.me {
            Some(own)
        } else {
            pinned_key(self.sites.get(&point.epoch.site))
        }?;
        for (vault, link) in &self.links {
            let Some(post) = link.post.as_ref().filter(|_| link.reach) else { continue };
            if let Ok(known) = post.point(point, &key).await {
                return Some((vault.clone(), known.manifest));
            }
        }
        None
    }
}

/// One step of one drill.
struct Run<'a> {
    round: &'a Round,
    drill: &'a Drill,
    uid: &'a str,
    /// The namespace of the drill, and the embassy.
    owner: Owner,
    status: DrillStatus,
}

impl Run<'_> {
    fn waiting(&self, message: String) -> DrillStatus {
        DrillStatus { message: Some(message), ..self.status.clone() }
    }

    fn conclude(&self, passed: bool, message: String) -> DrillStatus {
        DrillStatus {
            phase: Some(DrillPhase::CleaningUp),
            passed: Some(passed),
            message: Some(message),
            ..self.status.clone()
        }
    }

    /// Chooses the point; where it will be rehearsed is written down before anything is made.
    async fn begin(&self, memory: &Memory, hindrance: Option<String>) -> Result<DrillStatus, RunError> {
        let pending =
            |message: String| DrillStatus { phase: Some(DrillPhase::Pending), ..self.waiting(message) };
        if let Some(hindrance) = hindrance {
            return Ok(pending(format!("waits: {hindrance}")));
        }
        let found = match &self.drill.spec.recovery_point {
            Some(point) => {
                let Some((_, manifest)) = self.round.find_point(memory, point).await else {
                    let text = format!(
                        "recovery point {point} is in no vault in reach; kubectl get recoverypoints lists them"
                    );
                    return Ok(pending(text));
                };
                Some(manifest)
            }
            None => memory.newest(|_| true).cloned(),
        };
        let Some(manifest) = found else { return Ok(pending("waits for a recovery point".to_owned())) };
        Ok(begun(&manifest, self.owner.namespace.clone(), Timestamp::now()))
    }

    /// The point that is rehearsed with, and its vault.
    async fn from(&self, memory: &mut Memory) -> Result<(String, Manifest), RunError> {
        let Some(point) = self.status.recovery_point.as_ref() else {
            return Err(RunError::again("the drill names no recovery point"));
        };
        if let Some(known) = memory.rehearsal.as_ref().and_then(|rehearsal| rehearsal.from.clone()) {
            return Ok(known);
        }
        let Some(found) = self.round.find_point(memory, point).await else {
            return Err(RunError::again(&format!(
                "the vault that holds recovery point {point} is out of reach"
            )));
        };
        if let Some(rehearsal) = &mut memory.rehearsal {
            rehearsal.from = Some(found.clone());
        }
        Ok(found)
    }

    /// What is there, once it is the drill's own.
    async fn seen(&self) -> Result<Seen, RunError> {
        let seen = see(&self.round.context.client, &self.owner).await?;
        match &seen.namespace {
            Some(namespace) if !is_of(namespace, self.uid) => {
                Err(DrillError::NotOurs(self.owner.namespace.clone()).into())
            }
            _ => Ok(seen),
        }
    }

    async fn restore(&self, memory: &mut Memory) -> Result<Option<DrillStatus>, RunError> {
        let (vault, manifest) = self.from(memory).await?;
        let client = &self.round.context.client;
        let Seen { namespace: made, jobs, movers, .. } = self.seen().await?;
        let volumes = match claims(&self.owner, &self.round.seen.claims, &manifest.claims) {
            Ok(volumes) => volumes,
            Err(claim) => {
                let text = format!(
                    "recovery point {} holds claim {claim}, which this namespace has not: its size is not known",
                    manifest.point
                );
                return Ok(Some(self.conclude(false, text)));
            }
        };
        if made.is_none() {
            act::drill::create(client, &namespace(&self.owner, self.uid, self.round.seen.namespace.as_ref()))
                .await?;
        }
        // Closed before anything can run in it.
        self.close_off(Stage::Filling(&self.round.destinations().await?)).await?;
        self.identity(&[]).await?;
        let there: Vec<PersistentVolumeClaim> =
            owned(client, &self.owner.namespace, &self.owner.name).await?;
        apply(client, &self.owner.namespace, &volumes, &there).await?;
        match self.finished(memory, &jobs, &movers).await? {
            Some(Ok(Outcome::Restore(done))) => {
                let count = |count: u64| Some(i64::try_from(count).unwrap_or(i64::MAX));
                Ok(Some(DrillStatus {
                    phase: Some(DrillPhase::Applying),
                    message: Some(
                        "the volumes hold the recovery point; applying the captured objects".to_owned(),
                    ),
                    restored_at: Some(Time(Timestamp::now())),
                    restored_bytes: count(done.bytes),
                    restored_files: count(done.files),
                    ..self.status.clone()
                }))
            }
            Some(Ok(Outcome::Failed(failed))) => {
                Ok(Some(self.conclude(false, format!("restore failed: {}", failed.message))))
            }
            Some(_) => Ok(None),
            None => {
                let contents = &manifest.contents;
                let mut arguments = vec![
                    format!("--snapshot={}", contents.snapshot),
                    format!("--content-digest={}", contents.content_digest),
                    format!("--bytes={}", contents.bytes),
                    format!("--files={}", contents.files),
                    "--full-compare".to_owned(),
                ];
                arguments.extend(manifest.claims.iter().map(|claim| format!("--claim={claim}")));
                self.start_mover(memory, Verb::Restore, &vault, &manifest, arguments, &jobs).await
            }
        }
    }

    async fn apply(&self, memory: &mut Memory) -> Result<Option<DrillStatus>, RunError> {
        let (vault, manifest) = self.from(memory).await?;
        let Seen { jobs, movers, .. } = self.seen().await?;
        self.identity(&[rbac::ACTIVATE_ROLE]).await?;
        match self.finished(memory, &jobs, &movers).await? {
            Some(Ok(Outcome::Activate(done))) => Ok(Some(DrillStatus {
                phase: Some(DrillPhase::Starting),
                message: Some("the captured objects are applied; the workload starts".to_owned()),
                applied_at: Some(Time(Timestamp::now())),
                applied_objects: Some(i64::try_from(done.applied).unwrap_or(i64::MAX)),
                ..self.status.clone()
            })),
            Some(Ok(Outcome::Failed(failed))) => {
                Ok(Some(self.conclude(false, format!("activation failed: {}", failed.message))))
            }
            Some(_) => Ok(None),
            None => {
                let mut arguments = vec![
                    format!("--snapshot={}", manifest.contents.snapshot),
                    format!("--objects={}", manifest.contents.objects),
                    format!("--namespace={}", self.owner.namespace),
                    format!("--drill-of={}", self.round.owner.namespace),
                ];
                let excluded = self.drill.spec.exclude.iter();
                arguments.extend(excluded.map(|kind| format!("--exclude={}/{}", kind.group, kind.kind)));
                self.start_mover(memory, Verb::Activate, &vault, &manifest, arguments, &jobs).await
            }
        }
    }

    async fn start(&self) -> Result<Option<DrillStatus>, RunError> {
        let Seen { workload, .. } = self.seen().await?;
        // From here on the mover is not needed, and its way out is closed.
        self.close_off(Stage::Running).await?;
        self.identity(&[]).await?;
        permit(&self.round.context.client, &self.owner.namespace, &workload.pods).await?;
        let missing = missing(&workload);
        if missing.is_empty() {
            return Ok(Some(ready(&self.status, Timestamp::now())));
        }
        Ok(Some(self.waiting(format!("the workload starts: {}", missing.join("; ")))))
    }

    async fn check(&self, memory: &mut Memory) -> Result<Option<DrillStatus>, RunError> {
        let Seen { workload, .. } = self.seen().await?;
        let context = &self.round.context;
        let Some(rehearsal) = &mut memory.rehearsal else { return Ok(None) };
        match rehearsal.checks.take() {
            Some(running) if running.is_finished() => {
                let checks = running.await.map_err(RunError::defect)?;
                Ok(Some(DrillStatus { checks, ..self.status.clone() }))
            }
            Some(running) => {
                rehearsal.checks = Some(running);
                Ok(None)
            }
            None => {
                let client = &context.client;
                let there: Vec<RoleBinding> = owned(client, &self.owner.namespace, &self.owner.name).await?;
                let binding = check_binding(&self.owner, &context.settings.namespace);
                apply(client, &self.owner.namespace, &[binding], &there).await?;
                let (streams, namespace) = (context.streams.clone(), self.owner.namespace.clone());
                let (checks, mut wake) = (self.drill.spec.checks.clone(), context.wake.clone());
                let target = ObjectRef::new(&self.round.owner.name).within(&self.round.owner.namespace);
                // Beside the reconciles: a check may take long, and nothing must wait for it.
                rehearsal.checks = Some(tokio::spawn(async move {
                    let results = act::drill::check(&streams, &namespace, &checks, &workload.pods).await;
                    let _ = futures::SinkExt::send(&mut wake, target).await;
                    results
                }));
                Ok(None)
            }
        }
    }

    async fn clean_up(&self) -> Result<Option<DrillStatus>, RunError> {
        let seen = self.seen().await?;
        if let Some(namespace) = &seen.namespace {
            act::drill::remove(&self.round.context.client, namespace, self.uid).await?;
            return Ok(None);
        }
        let passed = self.status.passed == Some(true);
        Ok(Some(DrillStatus {
            phase: Some(if passed { DrillPhase::Passed } else { DrillPhase::Failed }),
            ended_at: Some(Time(Timestamp::now())),
            ..self.status.clone()
        }))
    }

    async fn close_off(&self, stage: Stage<'_>) -> Result<(), RunError> {
        let (client, namespace) = (&self.round.context.client, self.owner.namespace.as_str());
        let wanted = policies(&self.owner, stage);
        let there: Vec<NetworkPolicy> = owned(client, namespace, &self.owner.name).await?;
        apply(client, namespace, &wanted, &there).await?;
        prune(client, namespace, &wanted, &there).await?;
        Ok(())
    }

    /// The mover's ServiceAccount, bound to these roles and no others.
    async fn identity(&self, roles: &[&str]) -> Result<(), RunError> {
        let (client, namespace) = (&self.round.context.client, self.owner.namespace.as_str());
        let accounts: Vec<ServiceAccount> = owned(client, namespace, &self.owner.name).await?;
        apply(client, namespace, &[rbac::service_account(&self.owner)], &accounts).await?;
        let wanted: Vec<RoleBinding> = roles.iter().map(|role| rbac::binding(&self.owner, role)).collect();
        let there: Vec<RoleBinding> = owned(client, namespace, &self.owner.name).await?;
        apply(client, namespace, &wanted, &there).await?;
        prune(client, namespace, &wanted, &there).await?;
        Ok(())
    }

    /// The outcome of the Job that ended. One that was interrupted, or did not reach the vault, is tried again.
    async fn finished(
        &self,
        memory: &mut Memory,
        jobs: &[Job],
        movers: &[k8s_openapi::api::core::v1::Pod],
    ) -> Result<Option<Result<Outcome, String>>, RunError> {
        let client = &self.round.context.client;
        let Some(job) = jobs.iter().find(|job| ended(job) || is_unstarted(job)) else { return Ok(None) };
        let outcome =
            if is_unstarted(job) { Err("its operator ended".to_owned()) } else { outcome(job, movers) };
        act::movers::remove(client, job).await?;
        let again = match &outcome {
            Ok(Outcome::Failed(failed)) => {
                matches!(failed.reason, Reason::VaultUnreachable | Reason::Interrupted)
            }
            Ok(_) => false,
            Err(_) => true,
        };
        if again && let Some(rehearsal) = &mut memory.rehearsal {
            rehearsal.tries += 1;
            tracing::warn!(namespace = self.owner.namespace, ?outcome, "a mover of the drill is tried again");
            return Ok(Some(Err("tried again".to_owned())));
        }
        Ok(Some(outcome))
    }

    async fn start_mover(
        &self,
        memory: &Memory,
        verb: Verb,
        vault: &str,
        manifest: &Manifest,
        further: Vec<String>,
        jobs: &[Job],
    ) -> Result<Option<DrillStatus>, RunError> {
        if !jobs.is_empty() {
            return Ok(None);
        }
        let (round, settings) = (self.round, &self.round.context.settings);
        let access = round.links.get(vault).and_then(|link| link.access.as_ref());
        let Some(access) = access else {
            return Ok(Some(self.waiting(format!("waits for the vault of {vault}"))));
        };
        let epoch = &manifest.point.epoch;
        let Some(key) = repository_keys::find(&round.context.keeper, &round.owner, epoch).await? else {
            let text = format!(
                "the repository key of epoch {epoch} is not at this site: it comes with the next mandate of {}",
                epoch.site
            );
            return Ok(Some(self.waiting(text)));
        };
        let mut arguments = vec![
            format!("--vault={}", access.url),
            format!("--repository={}/{}/{}", round.owner.namespace, round.owner.name, epoch.slug()),
        ];
        arguments.extend(further);
        let tries = memory.rehearsal.as_ref().map_or(0, |rehearsal| rehearsal.tries);
        let job = mover(&MoverIntent {
            owner: &self.owner,
            verb,
            id: &format!("{}-{tries}", manifest.point.slug()),
            arguments: &arguments,
            task: TASK,
            image: &settings.image,
            pull_policy: &settings.pull_policy,
            claims: &manifest.claims,
            stamp: Timestamp::now().as_millisecond(),
            node: None,
        });
        act::movers::start(&round.context.client, &job, credentials(access, key)).await?;
        Ok(None)
    }
}
