//! Starts mover Jobs and removes those whose outcome is recorded.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{batch::v1::Job, core::v1::Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

use crate::plan::desired::jobs::secret_of;
use crate::plan::snapshots::owner;

/// Why a Job could not be started or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {source}")]
pub struct MoverError {
    what: String,
    source: kube::Error,
}

/// Creates the Job, which waits until it is provided with all it needs; none if it was there.
pub async fn create(client: &Client, job: &Job) -> Result<Option<Job>, MoverError> {
    let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
    match Api::<Job>::namespaced(client.clone(), &namespace).create(&PostParams::default(), job).await {
        Ok(created) => Ok(Some(created)),
        // It was started before this operator looked; its outcome will be read.
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
        Err(source) => Err(MoverError { what: format!("create the mover Job {namespace}/{name}"), source }),
    }
}

/// Creates the Secret that the Pod of a Job mounts, which belongs to the Job and goes with it; then lets it start.
pub async fn provide(
    client: &Client,
    job: &Job,
    credentials: BTreeMap<String, ByteString>,
) -> Result<(), MoverError> {
    let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
    let failed = |what: &str, source| MoverError { what: format!("{what} {namespace}/{name}"), source };
    let secret = Secret {
        metadata: ObjectMeta {
            name: secret_of(job).map(str::to_owned),
            namespace: Some(namespace.clone()),
            labels: job.metadata.labels.clone(),
            owner_references: Some(vec![owner(job)]),
            ..ObjectMeta::default()
        },
        data: Some(credentials),
        immutable: Some(true),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    match secrets.create(&PostParams::default(), &secret).await {
        // An operator that ended before the next step made it.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        written => drop(written.map_err(|source| failed("write the mover's credentials", source))?),
    }
    let start = Patch::Merge(json!({"metadata": {"uid": job.uid()}, "spec": {"suspend": false}}));
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let started = jobs.patch(&name, &PatchParams::default(), &start).await;
    started.map(drop).map_err(|source| failed("start the mover Job", source))
}

/// Creates the Job with all it needs and lets it start. One that still is suspended in a later round was left by an operator that ended in
/// between, and is removed.
pub async fn start(
    client: &Client,
    job: &Job,
    credentials: BTreeMap<String, ByteString>,
) -> Result<(), MoverError> {
    match create(client, job).await? {
        Some(created) => provide(client, &created, credentials).await,
        None => Ok(()),
    }
}

/// Removes a Job with its Pod and its Secret.
pub async fn remove(client: &Client, job: &Job) -> Result<(), MoverError> {
    let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let same = Preconditions { uid: job.uid(), resource_version: None };
    match jobs.delete(&name, &DeleteParams::background().preconditions(same)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(source) => Err(MoverError { what: format!("remove the mover Job {namespace}/{name}"), source }),
    }
}
