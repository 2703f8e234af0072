//! Makes and removes the namespaces of drills, and runs the checks in them.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};

use super::exec::{Place, exec};
use crate::api::drill::{CheckResult, DrillCheck};
use crate::plan::desired::drill::is_of;
use crate::plan::drill::readiness::is_ready;

/// Why the namespace of a drill could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The API server refused or could not be reached.
    #[error("cannot {what} namespace {name} of the drill: {source}")]
    Namespace {
        /// What was tried.
        what: &'static str,
        /// Its name.
        name: String,
        /// What the API server said.
        source: kube::Error,
    },
    /// Somebody else has a namespace of that name.
    #[error(
        "namespace {0} is there already and is none of this drill: it is not touched; create another Drill"
    )]
    NotOurs(String),
}

/// Makes the namespace.
pub async fn create(client: &Client, namespace: &Namespace) -> Result<(), DrillError> {
    let api: Api<Namespace> = Api::all(client.clone());
    match api.create(&PostParams::default(), namespace).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(source) => Err(DrillError::Namespace { what: "make", name: namespace.name_any(), source }),
    }
}

/// Removes the namespace with all that is in it, if it is the one of that drill.
pub async fn remove(client: &Client, namespace: &Namespace, uid: &str) -> Result<(), DrillError> {
    let name = namespace.name_any();
    if !is_of(namespace, uid) {
        return Err(DrillError::NotOurs(name));
    }
    if namespace.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let api: Api<Namespace> = Api::all(client.clone());
    let same = Preconditions { uid: namespace.uid(), resource_version: None };
    match api.delete(&name, &DeleteParams::background().preconditions(same)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(source) => Err(DrillError::Namespace { what: "remove", name, source }),
    }
}

/// Runs the checks, one after the other; all of them, so that the report is whole.
pub async fn check(
    client: &Client,
    namespace: &str,
    checks: &[DrillCheck],
    pods: &[Pod],
) -> Vec<CheckResult> {
    let mut results = vec![];
    for check in checks {
        let (passed, message) = match run(client, namespace, check, pods).await {
            Ok(said) => (true, said),
            Err(why) => (false, why),
        };
        tracing::info!(namespace, check = check.name, passed, message, "check of a drill");
        results.push(CheckResult { name: check.name.clone(), passed, message });
    }
    results
}

async fn run(client: &Client, namespace: &str, check: &DrillCheck, pods: &[Pod]) -> Result<String, String> {
    let wanted = &check.exec.selector;
    let selected = |pod: &&Pod| wanted.iter().all(|(name, value)| pod.labels().get(name) == Some(value));
    let mut names: Vec<String> =
        pods.iter().filter(selected).filter(|pod| is_ready(pod)).map(ResourceExt::name_any).collect();
    names.sort();
    let Some(pod) = names.first() else {
        let labels: Vec<String> = wanted.iter().map(|(name, value)| format!("{name}={value}")).collect();
        return Err(format!("no Pod that is ready bears the labels {}", labels.join(",")));
    };
    let limit = Duration::from_secs(u64::try_from(check.timeout_seconds).unwrap_or(1));
    let at = Place { namespace, pod, container: check.exec.container.as_deref() };
    exec(client, &at, &check.exec.command, limit).await
}
