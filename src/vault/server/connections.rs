//! Connections: TLS, limits, and an end that loses no request.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::body::Body;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::trust::identity::{IdentityError, PeerIdentity};

use super::{Vault, dispatch::handle, patience::Patient};

/// For a handshake, and for the header of a request, idle time included.
const PATIENCE: Duration = Duration::from_secs(10);
/// For a client that takes nothing of its answer.
const STALL: Duration = Duration::from_mins(1);
/// For requests under way when the vault stops.
const GRACE: Duration = Duration::from_secs(10);
const MAX_HEADER: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// Accepts until `shutdown` ends.
pub async fn accept(
    vault: Arc<Vault>,
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    limit: usize,
    shutdown: impl Future<Output = ()> + Send,
) {
    let open = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limit));
    let mut shutdown = pin!(shutdown);
    loop {
        // With all places taken nothing is accepted: further clients wait in the system's queue.
        let next = async { (Arc::clone(&places).acquire_owned().await, listener.accept().await) };
        let (place, accepted) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            next = next => next,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let acceptor = TlsAcceptor::from(tls.borrow().clone());
        let (vault, watcher) = (Arc::clone(&vault), open.watcher());
        tokio::spawn(async move {
            serve(vault, acceptor, watcher, stream, address).await;
            drop(place);
        });
    }
    drop(listener);
    vault.stopping.cancel();
    if tokio::time::timeout(GRACE, open.shutdown()).await.is_err() {
        tracing::warn!("requests were cut off: they took longer than the vault may take to stop");
    }
}

async fn serve(
    vault: Arc<Vault>,
    acceptor: TlsAcceptor,
    watcher: Watcher,
    stream: TcpStream,
    address: SocketAddr,
) {
    // Without it each small answer waits 40 ms for an acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%address, %error, "TCP_NODELAY was refused");
    }
    let stream = match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            vault.metrics.failed_handshake();
            tracing::debug!(%address, %error, "TLS was refused");
            return;
        }
        Err(_) => {
            vault.metrics.failed_handshake();
            tracing::debug!(%address, "TLS took too long");
            return;
        }
    };
    vault.metrics.connections.inc();
    answer(&vault, watcher, stream, address).await;
    vault.metrics.connections.dec();
}

async fn answer(vault: &Arc<Vault>, watcher: Watcher, stream: TlsStream<TcpStream>, address: SocketAddr) {
    let peer = Arc::new(identity(&stream));
    let service = service_fn(|request: Request<Incoming>| {
        let (vault, peer) = (Arc::clone(vault), Arc::clone(&peer));
        async move { Ok::<_, Infallible>(handle(&vault, &peer, request.map(Body::new)).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_header_size(MAX_HEADER)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(Patient::new(stream, STALL)), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%address, %error, "the connection ended early");
    }
}

/// The certificate was verified in the handshake; here it is only read.
fn identity(stream: &TlsStream<TcpStream>) -> Result<PeerIdentity, IdentityError> {
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let leaf = certificates.first().ok_or(IdentityError::Count(0))?;
    PeerIdentity::from_der(leaf)
}
