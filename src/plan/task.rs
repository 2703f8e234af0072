//! What a mover Job is for, kept on the Job itself: a restarted operator finishes what another one began.

use serde::{Deserialize, Serialize};

use super::{desired::jobs::Verb, manifest::Manifest};
use crate::api::{
    epoch::Epoch,
    failover_record::{FailoverRecordSpec, VolumeCondition},
    recovery_point::Consistency,
};

/// Annotation of a mover Job with its task.
pub const TASK_ANNOTATION: &str = "dataembassy.io/task";

/// What a mover Job is for.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Task {
    /// Make this recovery point; the mover fills in the contents.
    Backup(Box<Manifest>),
    /// Bring the volumes to this recovery point.
    Restore(Box<Manifest>),
    /// Apply the objects of this recovery point, for the reign of `epoch`.
    Activate {
        /// The reign that begins.
        epoch: Epoch,
        /// Whose objects.
        from: Box<Manifest>,
    },
}

impl Task {
    /// The mover's subcommand.
    #[must_use]
    pub const fn verb(&self) -> Verb {
        match self {
            Self::Backup(_) => Verb::Backup,
            Self::Restore(_) => Verb::Restore,
            Self::Activate { .. } => Verb::Activate,
        }
    }

    /// The point that it makes or uses.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        match self {
            Self::Backup(manifest) | Self::Restore(manifest) | Self::Activate { from: manifest, .. } => {
                manifest
            }
        }
    }

    /// Whether it uses the protected volumes.
    #[must_use]
    pub const fn uses_volumes(&self) -> bool {
        !matches!(self, Self::Activate { .. })
    }

    /// What makes the Job's name unique beside the attempt.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Backup(manifest) | Self::Restore(manifest) => manifest.point.slug(),
            Self::Activate { epoch, .. } => epoch.slug(),
        }
    }

    /// Whether it still is what this record asks for; a task that is not must not change anything any more.
    #[must_use]
    pub fn is_current(&self, record: &FailoverRecordSpec) -> bool {
        match self {
            Self::Backup(manifest) => {
                let stopped = !record.role.rules() || record.held();
                manifest.point.epoch == record.epoch
                    && (manifest.consistency == Consistency::Final) == stopped
            }
            Self::Restore(manifest) => {
                record.volumes.condition == VolumeCondition::Restoring
                    && record.volumes.at.as_ref().is_some_and(|at| at.point == manifest.point)
            }
            Self::Activate { epoch, .. } => record.role.rules() && !record.held() && *epoch == record.epoch,
        }
    }
}
