//! Reads every object of a repository, and compares its content with its name.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use rayon::prelude::{IntoParallelIterator, ParallelIterator};

use super::needs::Objects;
use crate::mover::{engine::StoreError, failure::Failure, inventory::sha256};
use crate::plan::verification::Wrong;
use crate::vault::client::{ClientError, RepositoryClient};
use crate::vault::inventory::KIND;

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
    for kind in ["data", "index", "snapshots", KIND] {
        match client.list(kind) {
            Ok(found) => listed.extend(found.into_iter().map(|(name, size)| (kind, name, size))),
            Err(ClientError::NotFound { .. }) => return Ok(Objects::default()),
            Err(error) => return Err(StoreError::from(error).into()),
        }
    }
    let pool = pool()?;
    let found = pool.install(|| {
        let all = listed.into_par_iter().map(|(kind, name, size)| {
            let wrong = look(client, kind, &name, size)?;
            volume.add(size);
            Ok((format!("{kind}/{name}"), wrong))
        });
        all.collect::<Result<HashMap<String, Option<Wrong>>, Failure>>()
    })?;
    // Freed since it was listed, or lost: whoever needs it misses it all the same.
    let found = found.into_iter().filter(|(_, wrong)| *wrong != Some(Wrong::Missing)).collect();
    let config = match client.read("config", "config") {
        Ok(content) => {
            volume.add(content.len() as u64);
            Some(sha256(&content))
        }
        Err(ClientError::NotFound { .. }) => None,
        // Compared with what was signed, this is never equal.
        Err(error) if answers(client, &error) => Some(String::new()),
        Err(error) => return Err(StoreError::from(error).into()),
    };
    Ok(Objects { found, config })
}

/// Threads that wait for the vault, not for the processor.
pub(super) fn pool() -> Result<rayon::ThreadPool, Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(PARALLEL).build();
    pool.map_err(|error| Failure::Internal(format!("cannot start: {error}")))
}

/// A vault that does not answer at all ends the verification; one that fails at one object, again and again, has damaged that one.
fn look(client: &RepositoryClient, kind: &str, name: &str, size: u64) -> Result<Option<Wrong>, Failure> {
    match client.digest(kind, name, size) {
        Ok(digest) => Ok((digest != name).then_some(Wrong::Altered)),
        Err(ClientError::NotFound { .. }) => Ok(Some(Wrong::Missing)),
        Err(error) if answers(client, &error) => {
            tracing::error!(kind, name, %error, "the vault cannot read an object");
            Ok(Some(Wrong::Unreadable))
        }
        Err(error) => Err(StoreError::from(error).into()),
    }
}

/// Whether the vault failed at this one request only. A disk that fails in the middle of an object cuts the answer off, as a
/// vault that is gone does.
fn answers(client: &RepositoryClient, error: &ClientError) -> bool {
    error.is_transient() && client.list("snapshots").is_ok()
}
