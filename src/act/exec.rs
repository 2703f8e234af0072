//! Commands in containers: run with a limit, and what they said at their end.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::{
    Api, Client,
    api::{AttachParams, AttachedProcess},
    client::UpgradeConnectionError,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{sleep, timeout},
};

/// As much of what a command says is kept, from its end.
const KEPT: usize = 400;
/// How often a command that was not begun is tried: the API server may not know yet of a right that was just given.
const TRIES: u32 = 10;

/// Where a command runs.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The Pod's namespace.
    pub namespace: &'a str,
    /// The Pod.
    pub pod: &'a str,
    /// Its container; the first one without.
    pub container: Option<&'a str>,
}

/// Runs a command and answers with the end of what it said. After the limit nobody waits any more; the API has no means to end
/// the process itself.
pub async fn exec(
    client: &Client,
    at: &Place<'_>,
    command: &[String],
    limit: Duration,
) -> Result<String, String> {
    let ran = timeout(limit, run(client, at, command)).await;
    ran.map_err(|_| format!("it did not end within {} s", limit.as_secs()))?
}

async fn run(client: &Client, at: &Place<'_>, command: &[String]) -> Result<String, String> {
    let begun = begin(client, at, command).await;
    let mut process = begun.map_err(|error| format!("it could not be run in Pod {}: {error}", at.pod))?;
    let (out, err, status) = (process.stdout(), process.stderr(), process.take_status());
    let (out, err) = tokio::join!(tail(out), tail(err));
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    let said = [out, err].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
    verdict(status, said)
}

async fn begin(client: &Client, at: &Place<'_>, command: &[String]) -> Result<AttachedProcess, kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), at.namespace);
    let mut parameters = AttachParams::default().stdin(false).stdout(true).stderr(true);
    parameters.container = at.container.map(str::to_owned);
    let mut tries = 1;
    loop {
        match api.exec(at.pod, command, &parameters).await {
            Err(kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)))
                if status.as_u16() == 403 && tries < TRIES =>
            {
                tries += 1;
                sleep(Duration::from_millis(300)).await;
            }
            other => return other,
        }
    }
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
        None => Err("the connection to the Pod ended before the command did".to_owned()),
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
