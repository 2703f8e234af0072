//! `/livez`, `/readyz` and `/metrics` over plain HTTP, for the kubelet and Prometheus.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::net::TcpListener;

/// The main loop must show a sign of life at least this often.
const SILENCE: Duration = Duration::from_mins(2);

/// What the probes report.
#[derive(Clone)]
pub struct Health {
    started: Instant,
    /// Milliseconds after `started` of the last sign of life.
    alive: Arc<AtomicU64>,
    /// What is still missing; empty means ready.
    missing: Arc<std::sync::Mutex<Vec<&'static str>>>,
}

impl Health {
    /// Not ready until each of `missing` was reported by `is_ready`.
    #[must_use]
    pub fn new(missing: Vec<&'static str>) -> Self {
        Self {
            started: Instant::now(),
            alive: Arc::new(AtomicU64::new(0)),
            missing: Arc::new(std::sync::Mutex::new(missing)),
        }
    }

    /// A sign of life of the main loop.
    pub fn beat(&self) {
        let since = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.alive.store(since, Ordering::Relaxed);
    }

    /// One of what was missing is here.
    pub fn is_ready(&self, what: &str) {
        self.lock().retain(|missing| *missing != what);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<&'static str>> {
        self.missing.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn silence(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.alive.load(Ordering::Relaxed)))
    }
}

struct Served {
    health: Health,
    registry: Registry,
}

/// Serves until `shutdown` ends. Fails if the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    health: Health,
    registry: Registry,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let served = Arc::new(Served { health, registry });
    let router = Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(served);
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

async fn live(State(served): State<Arc<Served>>) -> impl IntoResponse {
    let silence = served.health.silence();
    if silence < SILENCE {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the main loop has been silent for {} s\n", silence.as_secs()),
        )
    }
}

async fn ready(State(served): State<Arc<Served>>) -> impl IntoResponse {
    let missing = served.health.lock().clone();
    if missing.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}\n", missing.join(", ")))
    }
}

async fn metrics(State(served): State<Arc<Served>>) -> impl IntoResponse {
    let mut text = String::new();
    match encode(&mut text, &served.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([("content-type", kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(port: u16, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    #[tokio::test]
    async fn ready_only_when_nothing_is_missing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let health = Health::new(vec!["definitions", "lease"]);
        let server =
            tokio::spawn(serve(address, health.clone(), Registry::default(), std::future::pending()));
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let port = address.port();
        assert_eq!(get(port, "/readyz").await, (503, "waiting for: definitions, lease\n".to_owned()));
        health.is_ready("definitions");
        health.is_ready("lease");
        assert_eq!(get(port, "/readyz").await, (200, "ok\n".to_owned()));
        assert_eq!(get(port, "/livez").await.0, 200);
        assert!(get(port, "/metrics").await.1.ends_with("# EOF\n"));
        server.abort();
    }
}
