//! What the fence still has to do in a namespace, and what opening it again takes.
//!
//! The order matters: label first (the admission policy refuses new Pods from then on), then scale, then Pods. Complete
//! means that no container with a protected volume runs, as far as the nodes themselves say.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::{FENCED_LABEL, FORMER_REPLICAS, FORMER_SUSPEND};

/// A kind of workload that can be stopped by a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// apps/v1 Deployment.
    Deployment,
    /// apps/v1 StatefulSet.
    StatefulSet,
    /// apps/v1 ReplicaSet that no Deployment owns.
    ReplicaSet,
    /// apps/v1 DaemonSet: it has no scale, so a label that no node bears keeps its Pods away.
    DaemonSet,
    /// batch/v1 CronJob.
    CronJob,
    /// batch/v1 Job that has not finished: suspended, its Pods count for no failure.
    Job,
}

/// A workload of the namespace that no other controller owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
    /// `spec.replicas`; for what has none, 0 if it is suspended or kept away and 1 if not.
    pub replicas: i32,
    /// What it had before a fence stopped it, from the annotation.
    pub former: Option<i32>,
}

impl Workload {
    /// The annotation that keeps the former value.
    #[must_use]
    pub const fn annotation(&self) -> &'static str {
        match self.kind {
            WorkloadKind::CronJob | WorkloadKind::Job => FORMER_SUSPEND,
            _ => FORMER_REPLICAS,
        }
    }
}

/// A node of the cluster, as far as a fence depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSeen {
    /// Its name.
    pub name: String,
    /// Another one after a start means that no container of before is left.
    pub boot_id: String,
    /// Whether its kubelet reports: then it stops what the API server no longer has.
    pub reports: bool,
    /// Whether a person declared it off for good, by the taint `node.kubernetes.io/out-of-service`.
    pub out_of_service: bool,
}

/// The nodes on which a container with a protected volume runs or may run, with their boot ids: those that hold such a
/// Pod now (`holding`), and of the `known` ones those that have not been heard of since. A Pod that is gone from the
/// API server says nothing about its container while its node is silent.
#[must_use]
pub fn carriers(
    known: &BTreeMap<String, String>,
    holding: &[String],
    nodes: &[NodeSeen],
) -> BTreeMap<String, String> {
    let find = |name: &str| nodes.iter().find(|node| node.name == name);
    let silent = known.iter().filter(|(name, boot_id)| {
        find(name).is_some_and(|node| node.boot_id == **boot_id && !node.reports && !node.out_of_service)
    });
    let now = holding
        .iter()
        .map(|name| (name.clone(), find(name).map(|node| node.boot_id.clone()).unwrap_or_default()));
    silent.map(|(name, boot_id)| (name.clone(), boot_id.clone())).chain(now).collect()
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

/// Patches that give each stopped workload its former value back, once. One that somebody scaled up meanwhile, such as a
/// tool that applied it again, keeps that newer wish.
#[must_use]
pub fn resume(workloads: &[Workload]) -> Vec<WorkloadPatch> {
    let value = |workload: &Workload, former| if workload.replicas == 0 { former } else { workload.replicas };
    workloads
        .iter()
        .filter_map(|workload| workload.former.map(|former| patch(workload, value(workload, former), None)))
        .collect()
}

fn patch(workload: &Workload, replicas: i32, former: Option<i32>) -> WorkloadPatch {
    let annotation = former.map_or(Value::Null, |former| Value::String(former.to_string()));
    let spec = match workload.kind {
        WorkloadKind::CronJob | WorkloadKind::Job => json!({"suspend": replicas == 0}),
        WorkloadKind::DaemonSet => {
            let nowhere = if replicas == 0 { json!("true") } else { Value::Null };
            json!({"template": {"spec": {"nodeSelector": {FENCED_LABEL: nowhere}}}})
        }
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

    #[test]
    fn a_job_is_suspended_so_that_its_pods_count_for_no_failure() {
        let made = stop(&[workload(WorkloadKind::Job, 1, None)]);
        let wanted = json!({"metadata": {"annotations": {FORMER_SUSPEND: "1"}}, "spec": {"suspend": true}});
        assert_eq!(made[0].patch, wanted);
    }

    #[test]
    fn a_daemon_set_is_sent_where_no_node_is_and_comes_back() {
        let selector = |patch: &Value| patch["spec"]["template"]["spec"]["nodeSelector"].clone();
        let made = stop(&[workload(WorkloadKind::DaemonSet, 1, None)]);
        assert_eq!(selector(&made[0].patch), json!({FENCED_LABEL: "true"}));
        let made = resume(&[workload(WorkloadKind::DaemonSet, 0, Some(1))]);
        assert_eq!(selector(&made[0].patch), json!({FENCED_LABEL: null}));
    }

    #[test]
    fn what_was_applied_again_while_fenced_is_stopped_and_its_newer_scale_kept_when_it_stands_at_the_end() {
        let applied_again = workload(WorkloadKind::Deployment, 5, Some(3));
        assert_eq!(stop(std::slice::from_ref(&applied_again))[0].patch["spec"]["replicas"], 0);
        let made = resume(&[applied_again]);
        assert_eq!(made[0].patch["spec"]["replicas"], 5);
        assert_eq!(made[0].patch["metadata"]["annotations"][FORMER_REPLICAS], Value::Null);
    }

    fn node(name: &str, boot_id: &str, reports: bool) -> NodeSeen {
        NodeSeen { name: name.to_owned(), boot_id: boot_id.to_owned(), reports, out_of_service: false }
    }

    fn one(name: &str, boot_id: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), boot_id.to_owned())])
    }

    #[test]
    fn a_node_that_holds_a_pod_is_a_carrier() {
        let nodes = [node("a", "1", true), node("b", "2", true)];
        assert_eq!(carriers(&BTreeMap::new(), &["a".to_owned()], &nodes), one("a", "1"));
        let unknown = carriers(&BTreeMap::new(), &["c".to_owned()], &nodes);
        assert_eq!(unknown, one("c", ""), "a Pod bound to a node that nobody lists still counts");
    }

    #[test]
    fn a_pod_that_was_deleted_by_force_counts_until_its_node_is_heard_of() {
        let known = one("a", "1");
        assert_eq!(carriers(&known, &[], &[node("a", "1", false)]), known, "the node is silent");
        assert!(carriers(&known, &[], &[node("a", "1", true)]).is_empty(), "its kubelet reports again");
        assert!(carriers(&known, &[], &[node("a", "2", false)]).is_empty(), "it was started anew since");
        assert!(carriers(&known, &[], &[]).is_empty(), "a person removed the node");
        let off = NodeSeen { out_of_service: true, ..node("a", "1", false) };
        assert!(carriers(&known, &[], &[off]).is_empty(), "a person declared it off for good");
    }
}
