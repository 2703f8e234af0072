//! Which objects are captured: those that a person or a deployment tool wrote, not what controllers derive from them.

use kube::{
    core::{ApiResource, discovery::ApiCapabilities},
    discovery::{Scope, verbs},
};
use serde_json::Value;

use crate::api::{GROUP, MANAGED_BY};

/// Kinds that are derived, or declared elsewhere, as `(group, kind)`.
const DERIVED: [(&str, &str); 9] = [
    ("", "Endpoints"),
    ("", "Event"),
    ("", "Pod"),
    // The claims are declared in the spec and made with the standby.
    ("", "PersistentVolumeClaim"),
    ("apps", "ControllerRevision"),
    ("coordination.k8s.io", "Lease"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("events.k8s.io", "Event"),
    ("snapshot.storage.k8s.io", "VolumeSnapshot"),
];

/// Groups without anything to capture: ours, and measurements.
const GROUPS: [&str; 4] = [GROUP, "metrics.k8s.io", "custom.metrics.k8s.io", "external.metrics.k8s.io"];

/// Owners whose objects come and go with them, also where they do not name them as their controller.
const TRANSIENT_OWNERS: [&str; 2] = ["Pod", "Node"];

/// Whether objects of a kind are captured. What cannot be created cannot be restored.
#[must_use]
pub fn is_captured_kind(kind: &ApiResource, capabilities: &ApiCapabilities, excluded: &[String]) -> bool {
    let is_derived = DERIVED.iter().any(|(group, name)| (*group, *name) == (&*kind.group, &*kind.kind));
    let is_excluded =
        excluded.iter().any(|it| it.trim_start_matches('/') == kind_name(&kind.group, &kind.kind));
    capabilities.scope == Scope::Namespaced
        && capabilities.supports_operation(verbs::LIST)
        && capabilities.supports_operation(verbs::CREATE)
        && !GROUPS.contains(&kind.group.as_str())
        && !is_derived
        && !is_excluded
}

/// A kind with its group, as people write it: `Secret`, `apps/Deployment`.
#[must_use]
pub fn kind_name(group: &str, kind: &str) -> String {
    if group.is_empty() { kind.to_owned() } else { format!("{group}/{kind}") }
}

/// Whether an object is captured.
#[must_use]
pub fn is_captured(object: &Value) -> bool {
    let metadata = &object["metadata"];
    !(has_transient_owner(metadata)
        || metadata["labels"]["app.kubernetes.io/managed-by"] == MANAGED_BY
        || metadata.get("deletionTimestamp").is_some_and(|time| !time.is_null())
        || is_every_namespaces_own(object)
        || is_token(object)
        || is_finished_job(object))
}

fn has_transient_owner(metadata: &Value) -> bool {
    let owners = metadata["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    owners.iter().any(|owner| {
        owner["controller"] == true || owner["kind"].as_str().is_some_and(|k| TRANSIENT_OWNERS.contains(&k))
    })
}

/// Made by the cluster in each namespace, with content of that cluster.
fn is_every_namespaces_own(object: &Value) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match object["kind"].as_str() {
        Some("ServiceAccount") => object["apiVersion"] == "v1" && name == "default",
        Some("ConfigMap") => name == "kube-root-ca.crt",
        _ => false,
    }
}

fn is_token(object: &Value) -> bool {
    object["kind"] == "Secret" && object["type"] == "kubernetes.io/service-account-token"
}

/// It would run again.
fn is_finished_job(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let finished = |c: &Value| c["status"] == "True" && (c["type"] == "Complete" || c["type"] == "Failed");
    object["kind"] == "Job" && object["apiVersion"] == "batch/v1" && conditions.iter().any(finished)
}

#[cfg(test)]
mod tests {
    use kube::core::GroupVersionKind;
    use serde_json::json;

    use super::*;

    fn kind(group: &str, kind: &str, operations: &[&str], scope: Scope) -> (ApiResource, ApiCapabilities) {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        let operations = operations.iter().map(ToString::to_string).collect();
        (resource, ApiCapabilities { scope, subresources: vec![], operations })
    }

    #[test]
    fn kinds_that_people_write_are_captured() {
        let all = ["create", "list", "get"];
        let cases = [
            ("apps", "Deployment", &all[..], Scope::Namespaced, true),
            ("", "Secret", &all, Scope::Namespaced, true),
            ("example.org", "Event", &all, Scope::Namespaced, true),
            ("", "Event", &all, Scope::Namespaced, false),
            ("", "Pod", &all, Scope::Namespaced, false),
            ("", "Namespace", &all, Scope::Cluster, false),
            ("authorization.k8s.io", "LocalSubjectAccessReview", &["create"], Scope::Namespaced, false),
            ("metrics.k8s.io", "PodMetrics", &["list"], Scope::Namespaced, false),
            (GROUP, "DataEmbassy", &all, Scope::Namespaced, false),
            ("example.org", "Cache", &all, Scope::Namespaced, false),
            ("", "LimitRange", &all, Scope::Namespaced, false),
        ];
        let excluded = ["example.org/Cache".to_owned(), "/LimitRange".to_owned()];
        for (group, name, operations, scope, expected) in cases {
            let (resource, capabilities) = kind(group, name, operations, scope);
            assert_eq!(is_captured_kind(&resource, &capabilities, &excluded), expected, "{group}/{name}");
        }
    }

    #[test]
    fn objects_that_are_derived_are_not_captured() {
        let derived = [
            json!({"metadata": {"ownerReferences": [{"kind": "Deployment", "controller": true}]}}),
            json!({"metadata": {"ownerReferences": [{"kind": "Pod"}]}}),
            json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "data-embassy"}}}),
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
            json!({"kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}}),
            json!({"kind": "Secret", "type": "kubernetes.io/service-account-token", "metadata": {}}),
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {},
                   "status": {"conditions": [{"type": "Complete", "status": "True"}]}}),
        ];
        for object in derived {
            assert!(!is_captured(&object), "{object}");
        }
    }

    #[test]
    fn objects_that_people_wrote_are_captured() {
        let written = [
            json!({"kind": "Secret", "type": "Opaque", "metadata": {"name": "password"}}),
            json!({"metadata": {"ownerReferences": [{"kind": "Application", "controller": false}]}}),
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {}, "status": {"active": 1}}),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app"}}),
        ];
        for object in written {
            assert!(is_captured(&object), "{object}");
        }
    }
}
