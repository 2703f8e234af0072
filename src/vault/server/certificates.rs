//! The vault's certificates: read again when their files change, so that a renewal needs no restart.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{sync::watch, task::AbortHandle};

use crate::trust::tls::server_config;

use super::VaultError;

/// A mounted Secret changes about a minute after the Secret itself; looking costs three small reads.
const INTERVAL: Duration = Duration::from_secs(2);
const FILES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// Watches for as long as it is kept.
pub struct Certificates {
    current: watch::Receiver<Arc<ServerConfig>>,
    watcher: AbortHandle,
}

impl Certificates {
    /// What new connections are to use.
    #[must_use]
    pub fn configuration(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.current.clone()
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// Reads the certificates in `folder`, now and whenever they change.
pub async fn watch(folder: &Path) -> Result<Certificates, VaultError> {
    let texts = read(folder).await?;
    let (sender, current) = watch::channel(Arc::new(configuration(folder, &texts)?));
    let watcher = tokio::spawn(follow(folder.to_owned(), texts, sender)).abort_handle();
    Ok(Certificates { current, watcher })
}

async fn follow(folder: PathBuf, mut known: [String; 3], sender: watch::Sender<Arc<ServerConfig>>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let renewed = match read(&folder).await {
            Ok(texts) if texts == known => continue,
            Ok(texts) => {
                known = texts;
                configuration(&folder, &known)
            }
            Err(error) => Err(error),
        };
        match renewed {
            Ok(renewed) => {
                tracing::info!("the certificates changed: new connections use the new ones");
                sender.send_replace(Arc::new(renewed));
            }
            // Files may change one by one; what worked so far goes on working.
            Err(error) => tracing::warn!(%error, "the changed certificates are not used"),
        }
    }
}

async fn read(folder: &Path) -> Result<[String; 3], VaultError> {
    let mut texts = [const { String::new() }; 3];
    for (text, file) in texts.iter_mut().zip(FILES) {
        let path = folder.join(file);
        let failed = |source: io::Error| VaultError::Certificate { path: path.clone(), source };
        *text = tokio::fs::read_to_string(&path).await.map_err(failed)?;
    }
    Ok(texts)
}

fn configuration(folder: &Path, [certificate, key, ca]: &[String; 3]) -> Result<ServerConfig, VaultError> {
    server_config(certificate, key, ca)
        .map_err(|source| VaultError::Tls { folder: folder.to_owned(), source })
}
