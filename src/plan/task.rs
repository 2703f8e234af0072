//! What a mover Job is for, kept on the Job itself: a restarted operator finishes what another one began.

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::{desired::jobs::Verb, manifest::Manifest};
use crate::api::{
    epoch::Epoch,
    failover_record::{FailoverRecordSpec, Role, VolumeCondition},
    recovery_point::Consistency,
};

/// Annotation of a mover Job with its task.
pub const TASK_ANNOTATION: &str = "dataembassy.io/task";

/// The task of a verification: it is the same for all of them, and beside every other.
pub const VERIFICATION: &str = "verification";

/// What a copy reads.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The volumes themselves.
    #[default]
    Volumes,
    /// A snapshot of each.
    Snapshots,
    /// Snapshots of all of them, taken at one moment.
    GroupSnapshot,
}

/// What a mover Job is for.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Task {
    /// Make this recovery point; the mover fills in the contents.
    Backup {
        /// The site whose vault takes it.
        vault: String,
        /// Which point.
        manifest: Box<Manifest>,
        /// What it reads.
        #[serde(default)]
        source: Source,
    },
    /// Bring the volumes to this recovery point.
    Restore(Box<Manifest>),
    /// Apply the objects of this recovery point, for the reign of `epoch`.
    Activate {
        /// The reign that begins.
        epoch: Epoch,
        /// Whose objects.
        from: Box<Manifest>,
    },
    /// Say what the point `kept` of a diverged site holds that the point `base`, on which the others built, does not.
    Compare {
        /// What the diverged site kept.
        kept: Box<Manifest>,
        /// An earlier point of the same epoch.
        base: Box<Manifest>,
    },
}

impl Task {
    /// The task of a Job; none if it is not one of this version.
    #[must_use]
    pub fn of(job: &Job) -> Option<Self> {
        serde_json::from_str(job.annotations().get(TASK_ANNOTATION)?).ok()
    }

    /// The mover's subcommand.
    #[must_use]
    pub const fn verb(&self) -> Verb {
        match self {
            Self::Backup { .. } => Verb::Backup,
            Self::Restore(_) => Verb::Restore,
            Self::Activate { .. } => Verb::Activate,
            Self::Compare { .. } => Verb::Compare,
        }
    }

    /// The point that it makes or uses.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        match self {
            Self::Backup { manifest, .. }
            | Self::Restore(manifest)
            | Self::Activate { from: manifest, .. }
            | Self::Compare { kept: manifest, .. } => manifest,
        }
    }

    /// Whether it uses the protected volumes.
    #[must_use]
    pub const fn uses_volumes(&self) -> bool {
        matches!(self, Self::Backup { .. } | Self::Restore(_) | Self::Activate { .. })
    }

    /// Whether it reads snapshots of the volumes. Then its Job waits, suspended, until they are there.
    #[must_use]
    pub const fn from_snapshots(&self) -> bool {
        matches!(self, Self::Backup { source: Source::Snapshots | Source::GroupSnapshot, .. })
    }

    /// What makes the Job's name unique beside the attempt.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Backup { manifest, .. } | Self::Restore(manifest) => manifest.point.slug(),
            Self::Activate { epoch, .. } => epoch.slug(),
            Self::Compare { kept, .. } => kept.point.slug(),
        }
    }

    /// Whether it still is what this record asks for; a task that is not must not change anything any more.
    #[must_use]
    pub fn is_current(&self, record: &FailoverRecordSpec) -> bool {
        match self {
            Self::Backup { manifest, .. } => {
                let stopped = !record.role.rules() || record.held();
                manifest.point.epoch == record.epoch
                    && (manifest.consistency == Consistency::Final) == stopped
            }
            Self::Restore(manifest) => {
                record.volumes.condition == VolumeCondition::Restoring
                    && record.volumes.at.as_ref().is_some_and(|at| at.point == manifest.point)
            }
            Self::Activate { epoch, from } => {
                record.role.rules()
                    && !record.held()
                    && *epoch == record.epoch
                    && record.objects_due() == Some(&from.point)
            }
            Self::Compare { .. } => record.role == Role::Diverged,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::failover_record::{DataPoint, Volumes};
    use crate::plan::failover::first_record::first_day;
    use crate::plan::failover::volumes;
    use crate::plan::manifest::of_nothing;

    fn active() -> FailoverRecordSpec {
        first_day("tallinn", "luxembourg")
    }

    fn manifest(point: &str, consistency: Consistency) -> Box<Manifest> {
        Box::new(Manifest { consistency, ..of_nothing(point) })
    }

    fn copy(point: &str, consistency: Consistency) -> Task {
        let vault = "luxembourg".to_owned();
        Task::Backup { vault, manifest: manifest(point, consistency), source: Source::Volumes }
    }

    #[test]
    fn a_running_copy_counts_only_while_the_register_runs_in_that_epoch() {
        let task = copy("1/tallinn/2", Consistency::Fuzzy);
        let mut record = active();
        assert!(task.is_current(&record));
        record.cold_fence = true;
        assert!(!task.is_current(&record), "a copy of a stopped register must be a final one");
        record.cold_fence = false;
        record.epoch = "3/tallinn".parse().unwrap();
        assert!(!task.is_current(&record));
    }

    #[test]
    fn a_final_copy_counts_only_while_nothing_may_write() {
        let task = copy("1/tallinn/2", Consistency::Final);
        let mut record = active();
        assert!(!task.is_current(&record));
        record.role = Role::Demoting;
        assert!(task.is_current(&record));
    }

    #[test]
    fn a_restore_counts_only_towards_its_own_target() {
        let task = Task::Restore(manifest("2/luxembourg/5", Consistency::Fuzzy));
        let mut record = active();
        record.role = Role::Standby;
        record.volumes = Volumes::default();
        let target = |point: &str| DataPoint { point: point.parse().unwrap(), digest: String::new() };
        assert!(!task.is_current(&record));
        assert!(task.is_current(&volumes::restoring(&record, &target("2/luxembourg/5"), &BTreeMap::new())));
        assert!(!task.is_current(&volumes::restoring(&record, &target("2/luxembourg/6"), &BTreeMap::new())));
    }

    #[test]
    fn an_activation_counts_only_in_its_reign() {
        let epoch = "1/tallinn".parse().unwrap();
        let task = Task::Activate { epoch, from: manifest("2/luxembourg/5", Consistency::Final) };
        let mut record = active();
        assert!(!task.is_current(&record), "nothing was restored");
        let origin = DataPoint { point: "2/luxembourg/5".parse().unwrap(), digest: String::new() };
        record.volumes.at = Some(origin);
        assert!(task.is_current(&record));
        record.human_fence = true;
        assert!(!task.is_current(&record));
    }

    #[test]
    fn a_comparison_counts_only_while_a_person_may_decide() {
        let of = |point| manifest(point, Consistency::Final);
        let task = Task::Compare { kept: of("1/tallinn/5"), base: of("1/tallinn/4") };
        let mut record = active();
        assert!(!task.is_current(&record));
        record.role = Role::Diverged;
        assert!(task.is_current(&record));
        assert!(!task.uses_volumes());
    }

    #[test]
    fn a_task_survives_its_annotation() {
        let task = Task::Restore(manifest("2/luxembourg/5", Consistency::Fuzzy));
        let text = serde_json::to_string(&task).unwrap();
        assert_eq!(serde_json::from_str::<Task>(&text).unwrap(), task);
    }
}
