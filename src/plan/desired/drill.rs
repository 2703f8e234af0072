//! The namespace of a drill and what it needs before its workload: closed to everybody, volumes of its own, its mover.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{Namespace, PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
        networking::v1::{NetworkPolicy, NetworkPolicyIngressRule},
        rbac::v1::RoleBinding,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Owner,
    network::{Destination, deny_all, mover, needed, user_rules},
    rbac,
};
use crate::api::DRILL_LABEL;
use crate::api::data_embassy::Network;

/// ClusterRole with the right to run the checks in the Pods of one namespace.
pub const CHECK_ROLE: &str = "data-embassy-drill-check";
/// Which Pods the API server admits is decided there, and must be the same as in the protected namespace.
const POD_SECURITY: &str = "pod-security.kubernetes.io/";

/// The namespace. Its label is the licence to remove it.
#[must_use]
pub fn namespace(owner: &Owner, uid: &str, protected: Option<&Namespace>) -> Namespace {
    let mut labels = owner.labels();
    labels.insert(DRILL_LABEL.to_owned(), uid.to_owned());
    let theirs = protected.and_then(|namespace| namespace.metadata.labels.as_ref()).into_iter().flatten();
    let kept = theirs.filter(|(name, _)| name.starts_with(POD_SECURITY));
    labels.extend(kept.map(|(name, value)| (name.clone(), value.clone())));
    Namespace {
        metadata: ObjectMeta {
            name: Some(owner.namespace.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

/// What may talk to whom, which the workload's own policies do not change: they are not applied.
#[must_use]
pub fn policies(owner: &Owner, stage: Stage) -> Vec<NetworkPolicy> {
    let mut policies = vec![deny_all(owner)];
    match stage {
        Stage::Filling(destinations) => policies.push(mover(owner, destinations)),
        Stage::Running => policies.push(needed(owner)),
        Stage::Serving(readers) => {
            policies.push(needed(owner));
            let network = Network { ingress: readers.to_vec(), ..Network::default() };
            policies.extend(user_rules(owner, &network));
        }
    }
    policies
}

/// Before or after the workload is there.
#[derive(Debug, Clone, Copy)]
pub enum Stage<'a> {
    /// Only the mover runs, and reaches these.
    Filling(&'a [Destination]),
    /// The workload runs, and reaches itself and DNS.
    Running,
    /// It also is reached by these.
    Serving(&'a [NetworkPolicyIngressRule]),
}

/// Claims like those of the protected namespace. One of the recovery point that is not there is named.
pub fn claims(
    owner: &Owner,
    protected: &[PersistentVolumeClaim],
    wanted: &[String],
) -> Result<Vec<PersistentVolumeClaim>, String> {
    let like = |name: &String| {
        let found = protected.iter().find(|claim| claim.metadata.name.as_ref() == Some(name));
        found.map(|claim| like(owner, claim)).ok_or_else(|| name.clone())
    };
    wanted.iter().map(like).collect()
}

fn like(owner: &Owner, claim: &PersistentVolumeClaim) -> PersistentVolumeClaim {
    let spec = claim.spec.clone().unwrap_or_default();
    let requests = spec.resources.and_then(|resources| resources.requests);
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: claim.metadata.name.clone(),
            namespace: Some(owner.namespace.clone()),
            labels: Some(owner.labels()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: spec.access_modes,
            storage_class_name: spec.storage_class_name,
            volume_mode: spec.volume_mode,
            resources: Some(VolumeResourceRequirements { requests, limits: None }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// Lets the operator run the checks, in this namespace only.
#[must_use]
pub fn check_binding(owner: &Owner, operator_namespace: &str) -> RoleBinding {
    rbac::operator_binding(owner, "drill-check", CHECK_ROLE, operator_namespace)
}

/// Whether the namespace is the one of that drill. Any other is not ours to touch.
#[must_use]
pub fn is_of(namespace: &Namespace, uid: &str) -> bool {
    let labels: Option<&BTreeMap<String, String>> = namespace.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(DRILL_LABEL)).is_some_and(|of| of == uid)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owner() -> Owner {
        Owner { namespace: "land-drill-1".to_owned(), name: "land".to_owned() }
    }

    #[test]
    fn the_namespace_admits_the_same_pods_and_bears_no_other_mark() {
        let protected: Namespace = serde_json::from_value(json!({"metadata": {"name": "land", "labels": {
            "pod-security.kubernetes.io/enforce": "privileged", "dataembassy.io/fenced": "true",
            "argocd.argoproj.io/instance": "registers"}}}))
        .unwrap();
        let made = namespace(&owner(), "1", Some(&protected));
        let labels = made.metadata.labels.clone().unwrap();
        assert_eq!(labels.get("pod-security.kubernetes.io/enforce").map(String::as_str), Some("privileged"));
        assert!(!labels.keys().any(|name| name.contains("fenced") || name.contains("argoproj")));
        assert!(is_of(&made, "1") && !is_of(&made, "2") && !is_of(&protected, "1"));
    }

    #[test]
    fn claims_are_like_the_protected_ones_and_bound_to_none_of_their_volumes() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": "data", "namespace": "land", "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "volumeName": "pvc-1",
                "resources": {"requests": {"storage": "10Gi"}}}}))
        .unwrap();
        let made = claims(&owner(), std::slice::from_ref(&claim), &["data".to_owned()]).unwrap();
        let spec = made[0].spec.clone().unwrap();
        assert_eq!((spec.storage_class_name.as_deref(), spec.volume_name), (Some("fast"), None));
        assert_eq!(spec.resources.unwrap().requests.unwrap()["storage"].0, "10Gi");
        assert_eq!(
            (made[0].metadata.namespace.as_deref(), &made[0].metadata.annotations),
            (Some("land-drill-1"), &None)
        );
        assert_eq!(
            claims(&owner(), &[claim], &["data".to_owned(), "logs".to_owned()]),
            Err("logs".to_owned())
        );
    }

    #[test]
    fn the_workload_reaches_itself_and_dns_only() {
        let made = policies(&owner(), Stage::Running);
        assert_eq!(made.len(), 2);
        let egress = made[1].spec.clone().unwrap().egress.unwrap();
        assert_eq!(egress.len(), 2, "itself and DNS: {egress:?}");
        assert!(made[0].spec.as_ref().unwrap().egress.is_none());
    }
}
