//! Starts mover Jobs and removes those whose outcome is recorded.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{batch::v1::Job, core::v1::Secret},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

use crate::plan::desired::jobs::secret_of;

/// Why a Job could not be started or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {source}")]
pub struct MoverError {
    what: String,
    source: kube::Error,
}

/// Creates the Job, then the Secret that its Pod mounts, which belongs to the Job and goes with it; then lets it start. A Job that
/// still is suspended in a later round was left by an operator that ended in between, and is removed.
pub async fn start(
    client: &Client,
    job: &Job,
    credentials: BTreeMap<String, ByteString>,
) -> Result<(), MoverError> {
    let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
    let failed = |what: &str, source| MoverError { what: format!("{what} {namespace}/{name}"), source };
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let created = match jobs.create(&PostParams::default(), job).await {
        Ok(created) => created,
        // It was started before this operator looked; its outcome will be read.
        Err(kube::Error::Api(status)) if status.is_already_exists() => return Ok(()),
        Err(source) => return Err(failed("create the mover Job", source)),
    };
    let secret = Secret {
        metadata: ObjectMeta {
            name: secret_of(job).map(str::to_owned),
            namespace: Some(namespace.clone()),
            labels: job.metadata.labels.clone(),
            owner_references: Some(vec![OwnerReference {
                api_version: Job::api_version(&()).into_owned(),
                kind: Job::kind(&()).into_owned(),
                name: name.clone(),
                uid: created.uid().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        data: Some(credentials),
        immutable: Some(true),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let written = secrets.create(&PostParams::default(), &secret).await;
    written.map_err(|source| failed("write the mover's credentials", source))?;
    let start = Patch::Merge(json!({"metadata": {"uid": created.uid()}, "spec": {"suspend": false}}));
    let started = jobs.patch(&name, &PatchParams::default(), &start).await;
    started.map(drop).map_err(|source| failed("start the mover Job", source))
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
