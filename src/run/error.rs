//! Why a reconcile did not come to its end, and when to try again.

use std::time::Duration;

use super::keeper::KeeperError;
use crate::act::apply::ApplyError;
use crate::act::drill::DrillError;
use crate::act::fence::FenceError;
use crate::act::movers::MoverError;
use crate::act::record::RecordError;
use crate::act::report::ReportError;
use crate::observe::cluster::ReadError;
use crate::plan::desired::storage::StorageError;
use crate::plan::failover::invariants::Violation;

/// Why a reconcile did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Somebody else wrote first.
    #[error("the record was changed meanwhile: reading again")]
    Conflict,
    /// Something outside is missing for now.
    #[error("{0}")]
    Again(String),
    /// A step that the protocol does not allow.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The cluster could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The record could not be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// An object could not be applied.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The fence could not be set or lifted.
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// The namespace of a drill could not be made or removed.
    #[error(transparent)]
    Drill(#[from] DrillError),
    /// A mover could not be started or removed.
    #[error(transparent)]
    Mover(#[from] MoverError),
    /// A status could not be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A key is missing or unusable.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// A standby volume cannot be made.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The API server refused something else.
    #[error("cannot {0}: {1}")]
    Cluster(&'static str, kube::Error),
    /// Something that cannot be.
    #[error("{0} (a defect: please report it)")]
    Defect(String),
}

impl RunError {
    /// Something outside is missing for now.
    #[must_use]
    pub fn again(what: &str) -> Self {
        Self::Again(what.to_owned())
    }

    /// Something that cannot be.
    pub fn defect(what: impl std::fmt::Display) -> Self {
        Self::Defect(what.to_string())
    }

    /// Whether somebody else wrote first.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Conflict => true,
            Self::Keeper(KeeperError::Secret { source: kube::Error::Api(status), .. }) => {
                status.is_conflict()
            }
            _ => false,
        }
    }

    /// When to look again: soon, since a fence may wait for it; what lasts is slowed down by the vault's and the API
    /// server's own time-outs.
    #[must_use]
    pub const fn delay(&self) -> Duration {
        match self {
            Self::Conflict => Duration::from_millis(50),
            _ => Duration::from_secs(1),
        }
    }
}
