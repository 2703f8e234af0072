//! The only place that builds Kubernetes clients.
//!
//! Two clients: `calls` gives up on an API server that accepts and never answers; `watches` must outlive quiet times, which
//! the watcher bounds itself. Neither retries by itself: a 503 would hold one call for minutes, and the reconciler
//! backs off anyway.

use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use kube::{Client, Config, config::InferConfigError};

/// Longest that a single call may take to be answered.
const READ_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Names the operator in the API server's audit log.
const AGENT: &str = concat!("data-embassy/", env!("CARGO_PKG_VERSION"));

/// The clients for this site's own cluster; no other is ever dialled.
#[derive(Clone)]
pub struct Cluster {
    /// For requests and their answers.
    pub calls: Client,
    /// For watches.
    pub watches: Client,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Neither a Pod's environment nor a kubeconfig.
    #[error("found no cluster: run in a Pod with a ServiceAccount, or set KUBECONFIG ({0})")]
    NoConfiguration(#[from] InferConfigError),
    /// The configuration cannot be used.
    #[error("the cluster's configuration cannot be used: {0}")]
    Unusable(#[from] kube::Error),
}

impl Cluster {
    /// Connects to the cluster of the Pod or of the kubeconfig.
    pub async fn infer() -> Result<Self, ClusterError> {
        let mut config = Config::infer().await?;
        config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.default_retry = false;
        let mut calls = config.clone();
        calls.read_timeout = Some(READ_TIMEOUT);
        // Otherwise the idle time of a pooled connection counts.
        calls.reset_reader_on_write = true;
        Ok(Self { calls: Client::try_from(calls)?, watches: Client::try_from(config)? })
    }
}
