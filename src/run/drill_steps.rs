//! The steps of one drill: each looks at what is there, does what is next, and answers with what is to be written down.

use k8s_openapi::{
    api::{core::v1::PersistentVolumeClaim, rbac::v1::RoleBinding},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};

use super::context::target;
use super::drills::Absent;
use super::error::RunError;
use super::memory::Memory;
use super::mover_jobs::{activate_arguments, restore_arguments};
use super::namespace::permit;
use super::round::Round;
use crate::act;
use crate::act::apply::{apply, owned};
use crate::act::drill::DrillError;
use crate::api::Drill;
use crate::api::drill::{DrillPhase, DrillStatus};
use crate::mover::outcome::Outcome;
use crate::observe::drill::{Stage as Seen, see};
use crate::plan::desired::Owner;
use crate::plan::desired::drill::{Stage, check_binding, claims, is_of, namespace};
use crate::plan::desired::jobs::Verb;
use crate::plan::desired::rbac;
use crate::plan::drill::readiness::missing;
use crate::plan::drill::{begun, ready};
use crate::plan::manifest::Manifest;

/// One step of one drill.
pub(super) struct Run<'a> {
    pub(super) round: &'a Round,
    pub(super) drill: &'a Drill,
    pub(super) uid: &'a str,
    /// The namespace of the drill, and the embassy.
    pub(super) owner: Owner,
    pub(super) status: DrillStatus,
}

impl Run<'_> {
    pub(super) fn waiting(&self, message: String) -> DrillStatus {
        DrillStatus { message: Some(message), ..self.status.clone() }
    }

    /// Nothing was rehearsed, so it has no end that would count as one.
    fn never_begun(&self, message: String) -> DrillStatus {
        DrillStatus { phase: Some(DrillPhase::Failed), passed: Some(false), ..self.waiting(message) }
    }

    pub(super) fn conclude(&self, passed: bool, message: String) -> DrillStatus {
        DrillStatus {
            phase: Some(DrillPhase::CleaningUp),
            passed: Some(passed),
            message: Some(message),
            ..self.status.clone()
        }
    }

    /// Chooses the point; where it will be rehearsed is written down before anything is made.
    pub(super) async fn begin(
        &self,
        memory: &Memory,
        hindrance: Option<String>,
    ) -> Result<DrillStatus, RunError> {
        let pending =
            |message: String| DrillStatus { phase: Some(DrillPhase::Pending), ..self.waiting(message) };
        if let Some(hindrance) = hindrance {
            return Ok(pending(format!("waits: {hindrance}")));
        }
        let found = match &self.drill.spec.recovery_point {
            Some(point) => match self.round.find_point(memory, point).await {
                Ok((_, manifest)) => Some(manifest),
                Err(Absent::InReach) => {
                    return Ok(pending(format!(
                        "recovery point {point} is in no vault in reach; kubectl get recoverypoints lists them"
                    )));
                }
                Err(Absent::Everywhere) => {
                    return Ok(self.never_begun(format!(
                        "there is no recovery point {point}: create another Drill, of one that kubectl get recoverypoints lists"
                    )));
                }
            },
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
        let Ok(found) = self.round.find_point(memory, point).await else {
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
    pub(super) async fn seen(&self) -> Result<Seen, RunError> {
        let seen = see(&self.round.context.client, &self.owner).await?;
        match &seen.namespace {
            Some(namespace) if !is_of(namespace, self.uid) => {
                Err(DrillError::NotOurs(self.owner.namespace.clone()).into())
            }
            _ => Ok(seen),
        }
    }

    pub(super) async fn restore(&self, memory: &mut Memory) -> Result<Option<DrillStatus>, RunError> {
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
            Some(Outcome::Restore(done)) => {
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
            Some(Outcome::Failed(failed)) => {
                Ok(Some(self.conclude(false, format!("restore failed: {}", failed.message))))
            }
            Some(_) => Ok(None),
            None => {
                let mut arguments = restore_arguments(&manifest);
                arguments.push("--full-compare".to_owned());
                self.start_mover(memory, Verb::Restore, &vault, &manifest, arguments, &jobs).await
            }
        }
    }

    pub(super) async fn apply(&self, memory: &mut Memory) -> Result<Option<DrillStatus>, RunError> {
        let (vault, manifest) = self.from(memory).await?;
        let Seen { jobs, movers, .. } = self.seen().await?;
        self.identity(&[rbac::ACTIVATE_ROLE]).await?;
        match self.finished(memory, &jobs, &movers).await? {
            Some(Outcome::Activate(done)) => Ok(Some(DrillStatus {
                phase: Some(DrillPhase::Starting),
                message: Some("the captured objects are applied; the workload starts".to_owned()),
                applied_at: Some(Time(Timestamp::now())),
                applied_objects: Some(i64::try_from(done.applied).unwrap_or(i64::MAX)),
                ..self.status.clone()
            })),
            Some(Outcome::Failed(failed)) => {
                Ok(Some(self.conclude(false, format!("activation failed: {}", failed.message))))
            }
            Some(_) => Ok(None),
            None => {
                let mut arguments = activate_arguments(&manifest, &self.owner.namespace);
                arguments.push(format!("--drill-of={}", self.round.owner.namespace));
                let excluded = self.drill.spec.exclude.iter();
                arguments.extend(excluded.map(|kind| format!("--exclude={}/{}", kind.group, kind.kind)));
                if let Some(serve) = &self.drill.spec.serve {
                    let text = serde_json::to_string(serve).map_err(RunError::defect)?;
                    arguments.push(format!("--serve={text}"));
                }
                self.start_mover(memory, Verb::Activate, &vault, &manifest, arguments, &jobs).await
            }
        }
    }

    pub(super) async fn start(&self) -> Result<Option<DrillStatus>, RunError> {
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

    pub(super) async fn check(&self, memory: &mut Memory) -> Result<Option<DrillStatus>, RunError> {
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
                let target = target(&self.round.owner);
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

    pub(super) async fn clean_up(&self) -> Result<Option<DrillStatus>, RunError> {
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
}
