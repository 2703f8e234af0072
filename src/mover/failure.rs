//! Why a run fails, and as which reason that counts.

use std::{io, path::PathBuf};

use super::{engine::StoreError, outcome::Reason};

/// Any failure of the mover.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A file or directory cannot be read.
    #[error("cannot read {}: {source}; give the mover the right to read it, or remove it from the volume", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file did not stay as it was.
    #[error("{} changed while it was read ({what}); back up from a volume snapshot, or quiesce the writer with a hook", path.display())]
    Changed {
        /// Which.
        path: PathBuf,
        /// How.
        what: &'static str,
    },
    /// The vault failed a request for good.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key does not open the repository.
    #[error("the repository key does not open this repository ({0}); use the key of this epoch")]
    Key(String),
    /// Data is missing or wrong.
    #[error(
        "the repository is damaged: {0}; verify it, and restore from another recovery point or another vault"
    )]
    Damaged(String),
    /// The snapshot is not the one that the manifest describes.
    #[error("the snapshot is not what its manifest says: {0}; nothing was changed, do not trust this vault")]
    Mismatch(String),
    /// Volumes that are to be served have lost something.
    #[error(
        "the volumes hold {files} files of {bytes} bytes, and recovery point and record say {expected_files} of {expected_bytes}: \
         nothing is started on them"
    )]
    Incomplete {
        /// Names of regular files that are there.
        files: u64,
        /// Their bytes; a file with several names counts once.
        bytes: u64,
        /// As in the manifest.
        expected_files: u64,
        /// As in the manifest.
        expected_bytes: u64,
    },
    /// A claim is not there.
    #[error("claim {0} is not mounted; check that it exists and is bound")]
    VolumeMissing(String),
    /// No room.
    #[error("no space left for {}; enlarge the claim", path.display())]
    VolumeFull {
        /// What could not be written.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}; check the volume and its file system", path.display())]
    Unwritable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Objects cannot be listed.
    #[error("cannot list {kind}: {message}; grant the mover the right, or exclude the kind")]
    Capture {
        /// The kind, with its group.
        kind: String,
        /// What the API server says.
        message: String,
    },
    /// Objects were refused.
    #[error("{} captured objects were refused: {}", .0.len(), .0.join("; "))]
    Refused(Vec<String>),
    /// The Pod is being stopped.
    #[error("stopped before it was finished; run it again")]
    Interrupted,
    /// Anything else.
    #[error("{0}")]
    Internal(String),
}

impl Failure {
    /// The reason for machines.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unreadable { .. } => Reason::UnreadableFile,
            Self::Changed { .. } => Reason::SourceChanged,
            Self::Store(error) => error.reason(),
            Self::Key(_) => Reason::KeyInvalid,
            Self::Damaged(_) => Reason::RepositoryDamaged,
            Self::Mismatch(_) => Reason::ManifestMismatch,
            Self::Incomplete { .. } => Reason::VolumesIncomplete,
            Self::VolumeMissing(_) => Reason::VolumeMissing,
            Self::VolumeFull { .. } => Reason::VolumeFull,
            Self::Unwritable { .. } | Self::Internal(_) => Reason::Internal,
            Self::Capture { .. } => Reason::CaptureForbidden,
            Self::Refused(_) => Reason::ObjectRefused,
            Self::Interrupted => Reason::Interrupted,
        }
    }

    /// A failed write; a full volume is told apart.
    pub(super) fn writing(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.into(), source.into());
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::VolumeFull { path },
            _ => Self::Unwritable { path, source },
        }
    }

    /// A failed read of a source; a file that vanished is told apart.
    pub(super) fn reading(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.into(), source.into());
        match source.kind() {
            io::ErrorKind::NotFound => Self::Changed { path, what: "it vanished" },
            _ => Self::Unreadable { path, source },
        }
    }
}
