//! Closes and opens a namespace: its label, its workloads, its Pods.

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::{CronJob, Job},
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::{Value, json};

use super::apply::{Applicable, MANAGER};
use crate::api::FENCED_LABEL;
use crate::plan::desired::fence::WorkloadKind;
use crate::plan::desired::fence::WorkloadPatch;

/// Why a step of the fence failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {source}")]
pub struct FenceError {
    what: String,
    source: kube::Error,
}

fn failed(what: String) -> impl FnOnce(kube::Error) -> FenceError {
    move |source| FenceError { what, source }
}

/// Whether the namespace carries the label that keeps Pods out.
#[must_use]
pub fn is_closed(namespace: Option<&Namespace>) -> bool {
    namespace.is_some_and(|namespace| namespace.labels().contains_key(FENCED_LABEL))
}

/// Sets or removes the label.
pub async fn label(client: &Client, namespace: &str, closed: bool) -> Result<(), FenceError> {
    let value = if closed { Value::String("true".to_owned()) } else { Value::Null };
    let patch = json!({"metadata": {"labels": {FENCED_LABEL: value}}});
    let api: Api<Namespace> = Api::all(client.clone());
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(namespace, &parameters, &Patch::Merge(&patch))
        .await
        .map(|_| ())
        .map_err(failed(format!("label namespace {namespace}")))
}

/// Sends the patches that stop or resume workloads. One that is gone is stopped.
pub async fn scale(client: &Client, namespace: &str, patches: &[WorkloadPatch]) -> Result<(), FenceError> {
    for patch in patches {
        let sent = match patch.kind {
            WorkloadKind::Deployment => send::<Deployment>(client, namespace, patch).await,
            WorkloadKind::StatefulSet => send::<StatefulSet>(client, namespace, patch).await,
            WorkloadKind::ReplicaSet => send::<ReplicaSet>(client, namespace, patch).await,
            WorkloadKind::DaemonSet => send::<DaemonSet>(client, namespace, patch).await,
            WorkloadKind::CronJob => send::<CronJob>(client, namespace, patch).await,
            WorkloadKind::Job => send::<Job>(client, namespace, patch).await,
        };
        match sent {
            Ok(()) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(source) => {
                return Err(failed(format!("scale {:?} {namespace}/{}", patch.kind, patch.name))(source));
            }
        }
    }
    Ok(())
}

async fn send<K: Applicable>(
    client: &Client,
    namespace: &str,
    workload: &WorkloadPatch,
) -> Result<(), kube::Error> {
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    api.patch(&workload.name, &parameters, &Patch::Merge(&workload.patch)).await.map(|_| ())
}

/// Deletes Pods that are not being deleted yet, each with its own grace period.
pub async fn evict(client: &Client, namespace: &str, pods: &[Pod]) -> Result<(), FenceError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let name = pod.name_any();
        let same = Preconditions { uid: pod.uid(), resource_version: None };
        match api.delete(&name, &DeleteParams::default().preconditions(same)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(source) => return Err(failed(format!("delete Pod {namespace}/{name}"))(source)),
        }
    }
    Ok(())
}

/// Writes an annotation of a Pod that is still there.
pub async fn annotate(
    client: &Client,
    namespace: &str,
    pod: &Pod,
    name: &str,
    value: &str,
) -> Result<(), FenceError> {
    let patch = json!({"metadata": {"uid": pod.uid(), "annotations": {name: value}}});
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pod = pod.name_any();
    match api.patch(&pod, &parameters, &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(source) => Err(failed(format!("annotate Pod {namespace}/{pod}"))(source)),
    }
}
