//! In which order objects are applied, so that what a workload needs is there before it.

use serde_json::Value;

/// What others refer to first, workloads last; kinds that are not known here come before the workloads.
const FIRST: [&str; 8] = [
    "LimitRange",
    "ResourceQuota",
    "NetworkPolicy",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "Role",
    "RoleBinding",
];
const WORKLOADS: [&str; 7] =
    ["ReplicationController", "ReplicaSet", "DaemonSet", "StatefulSet", "Deployment", "CronJob", "Job"];

/// Sorts objects for being applied; within a kind the order stays.
pub fn sort(objects: &mut [Value]) {
    objects.sort_by_key(|object| rank(object["kind"].as_str().unwrap_or_default()));
}

fn rank(kind: &str) -> usize {
    if let Some(at) = FIRST.iter().position(|first| *first == kind) {
        return at;
    }
    if kind == "Service" {
        return FIRST.len();
    }
    let unknown = FIRST.len() + 1;
    WORKLOADS.iter().position(|workload| *workload == kind).map_or(unknown, |at| unknown + 1 + at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_needed_comes_first() {
        let kinds = [
            "Deployment",
            "Certificate",
            "Job",
            "Service",
            "RoleBinding",
            "Role",
            "Secret",
            "ServiceAccount",
        ];
        let mut objects: Vec<Value> = kinds.iter().map(|kind| json!({"kind": kind})).collect();
        sort(&mut objects);
        let sorted: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        let expected = [
            "ServiceAccount",
            "Secret",
            "Role",
            "RoleBinding",
            "Service",
            "Certificate",
            "Deployment",
            "Job",
        ];
        assert_eq!(sorted, expected);
    }
}
