//! What of a drill's workload is not ready yet, in words, with the reason as far as its Pods tell it.

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        core::v1::{ContainerStatus, Pod},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

/// What runs in the namespace of a drill.
#[derive(Debug, Clone, Default)]
pub struct Workload {
    /// Its `Deployment`s.
    pub deployments: Vec<Deployment>,
    /// Its `StatefulSet`s.
    pub stateful_sets: Vec<StatefulSet>,
    /// Its `ReplicaSet`s, those of its `Deployment`s too.
    pub replica_sets: Vec<ReplicaSet>,
    /// Its `DaemonSet`s.
    pub daemon_sets: Vec<DaemonSet>,
    /// Its Pods, movers excepted.
    pub pods: Vec<Pod>,
}

/// Everything that is not ready; nothing means that all is.
#[must_use]
pub fn missing(workload: &Workload) -> Vec<String> {
    let mut missing = vec![];
    // Kinds with the same three numbers in types of their own.
    macro_rules! scaled {
        ($kind:literal, $objects:expr) => {
            for object in $objects {
                let wanted = object.spec.as_ref().map_or(0, |spec| spec.replicas.unwrap_or(1));
                let status = object.status.as_ref();
                let seen = status.and_then(|status| status.observed_generation);
                let ready = status.and_then(|status| status.ready_replicas).unwrap_or(0);
                missing.extend(short($kind, &object.metadata, seen, ready, wanted));
            }
        };
    }
    scaled!("Deployment", &workload.deployments);
    scaled!("StatefulSet", &workload.stateful_sets);
    scaled!("ReplicaSet", workload.replica_sets.iter().filter(|set| set.metadata.owner_references.is_none()));
    for object in &workload.daemon_sets {
        let status = object.status.as_ref();
        let seen = status.and_then(|status| status.observed_generation);
        let (ready, wanted) =
            status.map_or((0, 0), |status| (status.number_ready, status.desired_number_scheduled));
        missing.extend(short("DaemonSet", &object.metadata, seen, ready, wanted));
    }
    let unowned = workload.pods.iter().filter(|pod| pod.metadata.owner_references.is_none());
    missing.extend(
        unowned.filter(|pod| !is_ready(pod)).map(|pod| format!("Pod {} is not ready", name(&pod.metadata))),
    );
    if !missing.is_empty() {
        missing.extend(workload.pods.iter().find_map(complaint));
    }
    missing
}

fn short(kind: &str, metadata: &ObjectMeta, seen: Option<i64>, ready: i32, wanted: i32) -> Option<String> {
    let current = seen.unwrap_or(0) >= metadata.generation.unwrap_or(0);
    (!current || ready < wanted).then(|| format!("{kind} {}: {ready} of {wanted} Pods ready", name(metadata)))
}

/// Whether a Pod is ready to serve.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Why a Pod does not come up, where it says so.
fn complaint(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        let why = condition.message.as_deref().or(condition.reason.as_deref()).unwrap_or("no reason given");
        return Some(format!("Pod {} finds no node: {why}", name(&pod.metadata)));
    }
    let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    all.filter_map(|container| Some((container, waits(container)?)))
        .map(|(container, why)| format!("container {} of Pod {}: {why}", container.name, name(&pod.metadata)))
        .next()
}

fn waits(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting
        .reason
        .as_deref()
        .filter(|reason| !matches!(*reason, "ContainerCreating" | "PodInitializing"))?;
    Some(waiting.message.as_ref().map_or_else(|| reason.to_owned(), |message| format!("{reason}: {message}")))
}

fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn of<T: DeserializeOwned>(value: Value) -> Vec<T> {
        vec![serde_json::from_value(value).unwrap()]
    }

    fn set(generation: i64, observed: i64, ready: i32) -> Workload {
        let stateful_sets = of(json!({"metadata": {"name": "db", "generation": generation},
            "spec": {"replicas": 2, "selector": {}, "serviceName": "db", "template": {}},
            "status": {"observedGeneration": observed, "readyReplicas": ready, "replicas": 2}}));
        Workload { stateful_sets, ..Workload::default() }
    }

    #[test]
    fn all_pods_of_the_newest_generation_must_be_ready() {
        assert!(missing(&set(1, 1, 2)).is_empty());
        assert_eq!(missing(&set(1, 1, 1)), ["StatefulSet db: 1 of 2 Pods ready"]);
        assert_eq!(missing(&set(2, 1, 2)).len(), 1, "what was seen of an older generation proves nothing");
    }

    #[test]
    fn a_pod_that_cannot_start_says_why() {
        let pods = of(json!({"metadata": {"name": "db-0", "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "1"}]},
            "status": {"containerStatuses": [{"name": "postgres", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull", "message": "no such host"}}}]}}));
        let found = missing(&Workload { pods, ..set(1, 1, 0) });
        assert_eq!(found[1], "container postgres of Pod db-0: ErrImagePull: no such host");
    }

    #[test]
    fn a_namespace_without_workload_is_ready() {
        assert!(missing(&Workload::default()).is_empty());
    }
}
