//! `data-embassy guard`: an init container that lets a Pod of the register start only when this site's operator says so, for this
//! very start. A kubelet that comes back after a power cut starts its Pods by itself; with the guard they wait, since the
//! operator gives no leave before it knows who rules.
//!
//! The leave is an annotation of the Pod, seen through a downward API volume, that names the moment at which this guard was
//! started. It outlives a power cut, but the guard that starts afterwards was started at another moment.

use std::{fs, path::PathBuf, time::Duration};

use clap::Args;
use k8s_openapi::jiff::Timestamp;

/// Name of the init container in the Pods of a register.
pub const CONTAINER: &str = "data-embassy-guard";
/// Annotation with which the operator gives leave.
pub const PERMIT_ANNOTATION: &str = "dataembassy.io/permit";
/// The container runtime notes the start a moment before the guard runs.
const TOLERANCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// Arguments of the guard.
#[derive(Args, Debug, Clone)]
pub struct Arguments {
    /// File with the Pod's annotations, from a downward API volume.
    #[arg(long, default_value = "/etc/data-embassy/guard/annotations")]
    pub annotations: PathBuf,
}

/// Returns when the operator has given leave. Fails closed: whatever cannot be read is no leave.
pub async fn wait(arguments: &Arguments) {
    let started = Timestamp::now();
    tracing::info!("waiting for this site's operator; see kubectl get dataembassy in this namespace");
    while !fs::read_to_string(&arguments.annotations).is_ok_and(|text| permits(&text, started)) {
        tokio::time::sleep(PAUSE).await;
    }
    tracing::info!("this site rules: starting");
}

/// Whether the annotations give leave to a guard that was started then.
fn permits(annotations: &str, started: Timestamp) -> bool {
    let prefix = format!("{PERMIT_ANNOTATION}=");
    annotations
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix)?.trim_matches('"').parse::<Timestamp>().ok())
        .any(|permit| permit.duration_since(started).unsigned_abs() <= TOLERANCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn file(second: i64) -> String {
        format!("app=\"register\"\n{PERMIT_ANNOTATION}=\"{}\"\nz=\"1\"\n", at(second))
    }

    #[test]
    fn leave_is_for_this_very_start() {
        assert!(permits(&file(0), at(0)));
        assert!(permits(&file(0), at(2)), "the runtime notes the start a moment before");
        assert!(!permits(&file(0), at(60)), "leave from before the power cut");
        assert!(!permits(&file(60), at(0)), "leave from before the clock was set back");
    }

    #[test]
    fn anything_else_is_no_leave() {
        assert!(!permits("", at(0)));
        assert!(!permits("dataembassy.io/permit=\"true\"\n", at(0)));
        assert!(!permits(&file(0).replace("permit", "permitted"), at(0)));
    }
}
