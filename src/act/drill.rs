//! Makes and removes the namespaces of drills, and runs the checks in them.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Namespace, Pod},
    apimachinery::pkg::apis::meta::v1::Status,
};
use kube::{
    Api, Client, ResourceExt,
    api::{AttachParams, DeleteParams, PostParams, Preconditions},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use crate::api::drill::{CheckResult, DrillCheck};
use crate::plan::desired::drill::is_of;
use crate::plan::drill::readiness::is_ready;

/// As much of what a check says is kept, from its end.
const KEPT: usize = 400;

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
    let ran = timeout(limit, exec(client, namespace, pod, check)).await;
    ran.map_err(|_| format!("it did not end within {} s", limit.as_secs()))?
}

async fn exec(client: &Client, namespace: &str, pod: &str, check: &DrillCheck) -> Result<String, String> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut parameters = AttachParams::default().stdin(false).stdout(true).stderr(true);
    parameters.container.clone_from(&check.exec.container);
    let refused = |error: kube::Error| format!("it could not be run in Pod {pod}: {error}");
    let mut process = api.exec(pod, &check.exec.command, &parameters).await.map_err(refused)?;
    let (out, err, status) = (process.stdout(), process.stderr(), process.take_status());
    let (out, err) = tokio::join!(tail(out), tail(err));
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    let said = [out, err].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
    verdict(status, said)
}

fn verdict(status: Option<Status>, said: String) -> Result<String, String> {
    match status {
        Some(status) if status.status.as_deref() == Some("Success") => Ok(said),
        Some(status) => {
            let why = status.message.unwrap_or_else(|| "it failed".to_owned());
            // The API server says the same twice.
            let why = why.strip_prefix("command terminated with non-zero exit code: ").unwrap_or(&why);
            Err(if said.is_empty() { why.to_owned() } else { format!("{said} ({why})") })
        }
        None => Err("the connection to the Pod ended before the check did".to_owned()),
    }
}

/// The end of what a process says.
async fn tail(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let (mut kept, mut buffer) = (vec![], [0_u8; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..count]);
        kept.drain(..kept.len().saturating_sub(KEPT));
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_exit_with_zero_passes() {
        let status = |text: &str, message: Option<&str>| {
            let message = message.map(str::to_owned);
            Some(Status { status: Some(text.to_owned()), message, ..Status::default() })
        };
        assert_eq!(verdict(status("Success", None), "550".to_owned()), Ok("550".to_owned()));
        let twice = "command terminated with non-zero exit code: command terminated with exit code 1";
        let failed = verdict(status("Failure", Some(twice)), "no such table".to_owned());
        assert_eq!(failed, Err("no such table (command terminated with exit code 1)".to_owned()));
        assert!(verdict(None, String::new()).is_err(), "a broken connection proves nothing");
    }

    #[tokio::test]
    async fn the_end_of_what_is_said_is_kept() {
        let said = format!("{}end\n", "x".repeat(10_000));
        let kept = tail(Some(said.as_bytes())).await;
        assert!(kept.ends_with("xend") && kept.len() <= KEPT, "{kept}");
    }
}
