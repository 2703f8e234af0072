//! Restore: makes the volumes exactly what a snapshot holds, in place, writing only what differs, and ends on disk.
//!
//! Four passes: entries and contents; further names of hard-linked files; directories' own metadata (writing into a
//! directory changes it); `syncfs`. Nothing outside of the volumes is touched: paths are walked by descriptor and
//! symbolic links are never followed.

mod attributes;
mod content;
mod links;
mod place;
mod tree;

use std::{
    collections::{HashMap, HashSet},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use rayon::{ThreadPool, ThreadPoolBuilder};

use self::{links::Links, tree::TreeWriter};
use super::{
    directory,
    engine::{Engine, Node, Reader, TreeId},
    failure::Failure,
    outcome::RestoreDone,
    progress::Progress,
    survey::{self, Survey},
};

/// Requests to the vault at the same time; each fetches up to 4 MiB.
const THREADS: usize = 8;

/// What to restore.
#[derive(Debug, Clone)]
pub struct RestoreParameters {
    /// Where the claims are mounted, one folder each.
    pub volumes: PathBuf,
    /// The protected claims.
    pub claims: Vec<String>,
    /// Id of the snapshot.
    pub snapshot: String,
    /// What the manifest says of it.
    pub expected: Expected,
    /// Id of the snapshot that the volumes hold: the last restore finished with it, and nobody wrote since. Without it
    /// every chunk is compared.
    pub previous: Option<String>,
}

/// The manifest's claims about a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Digest over the volumes.
    pub content_digest: String,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
}

/// What the passes share.
struct Restoration {
    reader: Reader,
    pool: ThreadPool,
    written: Arc<AtomicU64>,
    done: Arc<AtomicU64>,
    /// Hard-linked files of the destination that a file of the snapshot already took over.
    claimed: Mutex<HashSet<(u64, u64)>>,
}

/// Brings the volumes to a snapshot.
pub fn restore(engine: Engine, parameters: &RestoreParameters) -> Result<RestoreDone, Failure> {
    directory::allow_many_files();
    let reader = engine.reader()?;
    let found = survey::survey(&reader, reader.snapshot(&parameters.snapshot)?)?;
    verify(&found, parameters)?;
    let roots = open_volumes(&found, parameters)?;
    let restoration = Restoration {
        reader,
        pool: pool()?,
        written: Arc::default(),
        done: Arc::default(),
        claimed: Mutex::default(),
    };
    let _progress = restoration.progress(found.files);
    let held = parameters.previous.as_deref().map_or_else(HashMap::new, |id| restoration.held(id));
    restoration.run(&roots, &held)?;
    Ok(RestoreDone {
        bytes: found.bytes,
        files: found.files,
        written_bytes: restoration.written.load(Ordering::Relaxed),
        content_digest: found.digest,
    })
}

/// A volume and the node that says how its root is to be.
struct Volume {
    claim: String,
    path: PathBuf,
    root: Arc<OwnedFd>,
    node: Node,
}

impl Restoration {
    /// Trees of the volumes in the snapshot that they hold. If it cannot be read, all is compared.
    fn held(&self, snapshot: &str) -> HashMap<String, TreeId> {
        let read = self.reader.snapshot(snapshot).and_then(|root| survey::volumes(&self.reader, root));
        read.unwrap_or_else(|failure| {
            tracing::warn!(%failure, "cannot use what was restored last; comparing everything");
            HashMap::new()
        })
    }

    fn run(&self, volumes: &[Volume], held: &HashMap<String, TreeId>) -> Result<(), Failure> {
        let mut links = Links::default();
        for (index, volume) in volumes.iter().enumerate() {
            let mut writer = TreeWriter::new(self, &mut links, index);
            writer.volume(&volume.root, &volume.node, held.get(&volume.claim).copied())?;
        }
        links.make(volumes)?;
        for volume in volumes {
            self.finish_directories(volume)?;
        }
        for volume in volumes {
            rustix::fs::syncfs(&*volume.root).map_err(|error| Failure::writing(&volume.path, error))?;
        }
        Ok(())
    }

    fn progress(&self, files: u64) -> Progress {
        let (written, done) = (self.written.clone(), self.done.clone());
        Progress::start(move || {
            let (written, done) = (written.load(Ordering::Relaxed), done.load(Ordering::Relaxed));
            tracing::info!(bytes_written = written, files_done = done, files, "restoring");
        })
    }
}

fn pool() -> Result<ThreadPool, Failure> {
    let pool = ThreadPoolBuilder::new().num_threads(THREADS).build();
    pool.map_err(|error| Failure::Internal(format!("cannot start threads: {error}")))
}

/// Nothing is touched before this.
fn verify(found: &Survey, parameters: &RestoreParameters) -> Result<(), Failure> {
    let expected = &parameters.expected;
    let mismatch = |what: &str, expected: &str, found: &str| {
        Err(Failure::Mismatch(format!("{what}: expected {expected}, found {found}")))
    };
    if found.digest != expected.content_digest {
        return mismatch("content digest", &expected.content_digest, &found.digest);
    }
    if (found.bytes, found.files) != (expected.bytes, expected.files) {
        let text = |bytes, files| format!("{bytes} bytes in {files} files");
        return mismatch("size", &text(expected.bytes, expected.files), &text(found.bytes, found.files));
    }
    let (mut claims, mut held) = (parameters.claims.clone(), found.claims());
    claims.sort();
    held.sort();
    if claims == held { Ok(()) } else { mismatch("claims", &claims.join(", "), &held.join(", ")) }
}

fn open_volumes(found: &Survey, parameters: &RestoreParameters) -> Result<Vec<Volume>, Failure> {
    let open = |(claim, node): &(String, Node)| {
        let path = parameters.volumes.join(claim);
        let root = directory::open_root(&path).map_err(|_| Failure::VolumeMissing(claim.clone()))?;
        Ok(Volume { claim: claim.clone(), path, root: Arc::new(root), node: node.clone() })
    };
    found.volumes.iter().map(open).collect()
}
