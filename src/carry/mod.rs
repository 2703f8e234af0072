//! Copies that are carried by hand: a folder in the layout of a vault, of ciphertext only, with a signed list of its files. What is
//! written into it and what is taken from it is resumed after any interruption, and believed only for its SHA-256.

pub mod check;
pub mod export;
pub mod failure;
pub mod folder;
pub mod import;
pub mod keys;
pub mod line;
pub mod list;
mod needs;
mod order;
mod points;
pub mod way;

pub use points::Keys;

use std::sync::atomic::{AtomicU64, Ordering};

/// What is read from a vault, sent to it or read back at once.
const PARALLEL: usize = 4;

/// How far it is, for whoever waits.
#[derive(Debug, Default)]
pub struct Progress {
    /// Files that are done with.
    pub files: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Files in all; 0 until it is known.
    pub all_files: AtomicU64,
    /// Their bytes.
    pub all_bytes: AtomicU64,
    /// Bytes that went over the line.
    pub moved: AtomicU64,
}

impl Progress {
    /// A new count of `files` with `bytes`.
    fn begin(&self, files: u64, bytes: u64) {
        self.files.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.all_files.store(files, Ordering::Relaxed);
        self.all_bytes.store(bytes, Ordering::Relaxed);
    }

    fn done(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that went over the line so far.
    #[must_use]
    pub fn bytes_moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }
}

/// Threads that wait for a line or a disk, not for the processor.
fn pool() -> Result<rayon::ThreadPool, failure::Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(PARALLEL).build();
    pool.map_err(|error| failure::Failure::Internal(error.to_string()))
}
