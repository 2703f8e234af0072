//! `/livez`, `/readyz` and `/metrics` of the vault, over plain HTTP.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{net::TcpListener, task::AbortHandle};

/// Serves for as long as it is kept.
pub struct Health {
    ready: Arc<AtomicBool>,
    task: AbortHandle,
}

struct Served {
    ready: Arc<AtomicBool>,
    registry: Registry,
}

impl Health {
    /// Serves at once; not ready yet.
    pub fn start(listener: TcpListener, registry: Registry) -> Self {
        let ready = Arc::new(AtomicBool::new(false));
        let served = Arc::new(Served { ready: Arc::clone(&ready), registry });
        let router = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(served);
        let task = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Self { ready, task }
    }

    /// The store was counted and requests are answered.
    pub fn ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn readyz(State(served): State<Arc<Served>>) -> (StatusCode, &'static str) {
    if served.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the store is being counted\n")
    }
}

async fn metrics(State(served): State<Arc<Served>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &served.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
