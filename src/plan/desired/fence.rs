//! What the fence still has to do in a namespace, and what opening it again takes.
//!
//! The order matters: label first (the admission policy refuses new Pods from then on), then scale, then Pods. Complete
//! means that no Pod with a protected volume is left.

use serde_json::{Value, json};

use crate::api::{FORMER_REPLICAS, FORMER_SUSPEND};

/// A kind of workload that can be stopped by a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// apps/v1 Deployment.
    Deployment,
    /// apps/v1 StatefulSet.
    StatefulSet,
    /// apps/v1 ReplicaSet that no Deployment owns.
    ReplicaSet,
    /// batch/v1 CronJob.
    CronJob,
}

/// A workload of the namespace that no other controller owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
    /// `spec.replicas`, or for a `CronJob` 0 if it is suspended and 1 if not.
    pub replicas: i32,
    /// What it had before a fence stopped it, from the annotation.
    pub former: Option<i32>,
}

impl Workload {
    /// The annotation that keeps the former value.
    #[must_use]
    pub const fn annotation(&self) -> &'static str {
        match self.kind {
            WorkloadKind::CronJob => FORMER_SUSPEND,
            _ => FORMER_REPLICAS,
        }
    }
}

/// A merge patch for one workload.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadPatch {
    /// Which kind.
    pub kind: WorkloadKind,
    /// Which one.
    pub name: String,
    /// Body of a merge patch.
    pub patch: Value,
}

/// Patches that stop what runs. The former value is written once: a second fence, or a tool that scaled the workload up
/// in between, does not overwrite it.
#[must_use]
pub fn stop(workloads: &[Workload]) -> Vec<WorkloadPatch> {
    workloads
        .iter()
        .filter(|workload| workload.replicas != 0)
        .map(|workload| patch(workload, 0, Some(workload.former.unwrap_or(workload.replicas))))
        .collect()
}

/// Patches that give each stopped workload its former value back, once.
#[must_use]
pub fn resume(workloads: &[Workload]) -> Vec<WorkloadPatch> {
    workloads
        .iter()
        .filter_map(|workload| workload.former.map(|former| patch(workload, former, None)))
        .collect()
}

fn patch(workload: &Workload, replicas: i32, former: Option<i32>) -> WorkloadPatch {
    let annotation = former.map_or(Value::Null, |former| Value::String(former.to_string()));
    let spec = match workload.kind {
        WorkloadKind::CronJob => json!({"suspend": replicas == 0}),
        _ => json!({"replicas": replicas}),
    };
    let patch = json!({"metadata": {"annotations": {workload.annotation(): annotation}}, "spec": spec});
    WorkloadPatch { kind: workload.kind, name: workload.name.clone(), patch }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(kind: WorkloadKind, replicas: i32, former: Option<i32>) -> Workload {
        Workload { kind, name: "db".to_owned(), replicas, former }
    }

    #[test]
    fn stopping_keeps_the_former_scale() {
        let made = stop(&[workload(WorkloadKind::StatefulSet, 3, None)]);
        let wanted = json!({"metadata": {"annotations": {FORMER_REPLICAS: "3"}}, "spec": {"replicas": 0}});
        assert_eq!(made[0].patch, wanted);
    }

    #[test]
    fn stopping_again_keeps_the_first_former_scale() {
        let made = stop(&[workload(WorkloadKind::Deployment, 1, Some(5))]);
        assert_eq!(made[0].patch["metadata"]["annotations"][FORMER_REPLICAS], "5");
        assert!(stop(&[workload(WorkloadKind::Deployment, 0, Some(5))]).is_empty());
    }

    #[test]
    fn what_never_ran_is_not_started() {
        assert!(resume(&[workload(WorkloadKind::Deployment, 0, None)]).is_empty());
    }

    #[test]
    fn resuming_restores_once() {
        let made = resume(&[workload(WorkloadKind::StatefulSet, 0, Some(3))]);
        assert_eq!(made[0].patch["spec"]["replicas"], 3);
        assert_eq!(made[0].patch["metadata"]["annotations"][FORMER_REPLICAS], Value::Null);
    }

    #[test]
    fn a_cron_job_is_suspended() {
        let made = stop(&[workload(WorkloadKind::CronJob, 1, None)]);
        assert_eq!(made[0].patch["spec"], json!({"suspend": true}));
        let made = resume(&[workload(WorkloadKind::CronJob, 0, Some(1))]);
        assert_eq!(made[0].patch["spec"], json!({"suspend": false}));
    }
}
