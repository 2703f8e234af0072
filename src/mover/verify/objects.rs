//! Reads every object of a repository, and compares its content with its name.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::{IntoParallelIterator, ParallelIterator};

use super::needs::Objects;
use crate::mover::{engine::StoreError, failure::Failure, inventory, inventory::sha256};
use crate::plan::verification::Wrong;
use crate::vault::client::{ClientError, RepositoryClient};

/// What is read at once.
const PARALLEL: usize = 4;

/// How much was read so far.
#[derive(Debug, Default)]
pub(super) struct Volume {
    /// Objects.
    pub(super) files: AtomicU64,
    /// Their bytes.
    pub(super) bytes: AtomicU64,
}

impl Volume {
    fn add(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Reads all of a repository; one that is not there has no objects.
pub(super) fn read(client: &RepositoryClient, volume: &Volume) -> Result<Objects, Failure> {
    let mut listed: Vec<(&str, String, u64)> = vec![];
    for kind in ["data", "index", "snapshots", inventory::KIND] {
        match client.list(kind) {
            Ok(found) => listed.extend(found.into_iter().map(|(name, size)| (kind, name, size))),
            Err(ClientError::NotFound { .. }) => return Ok(Objects::default()),
            Err(error) => return Err(StoreError::from(error).into()),
        }
    }
    let pool = pool()?;
    let found = pool.install(|| {
        let all = listed.into_par_iter().map(|(kind, name, size)| {
            let wrong = look(client.digest(kind, &name, size), &name)?;
            volume.add(size);
            Ok((format!("{kind}/{name}"), wrong))
        });
        all.collect::<Result<_, Failure>>()
    })?;
    let config = match client.read("config", "config") {
        Ok(content) => {
            volume.add(content.len() as u64);
            Some(sha256(&content))
        }
        Err(ClientError::NotFound { .. }) => None,
        // Compared with what was signed, this is never equal.
        Err(ClientError::Failed { .. }) => Some(String::new()),
        Err(error) => return Err(StoreError::from(error).into()),
    };
    Ok(Objects { found, config })
}

/// Threads that wait for the vault, not for the processor.
pub(super) fn pool() -> Result<rayon::ThreadPool, Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(PARALLEL).build();
    pool.map_err(|error| Failure::Internal(format!("cannot start: {error}")))
}

/// A vault that does not answer at all ends the verification; one that fails one object has damaged that one.
fn look(digest: Result<String, ClientError>, name: &str) -> Result<Option<Wrong>, Failure> {
    match digest {
        Ok(digest) => Ok((digest != name).then_some(Wrong::Altered)),
        Err(ClientError::NotFound { .. }) => Ok(Some(Wrong::Missing)),
        Err(ClientError::Failed { message, .. }) => {
            tracing::error!(name, message, "the vault cannot read an object");
            Ok(Some(Wrong::Unreadable))
        }
        Err(error) => Err(StoreError::from(error).into()),
    }
}
