//! Types of the API (group `dataembassy.io`, version `v1alpha1`): serde, schemars, CEL rules. No decisions.

pub mod conditions;
pub mod data_embassy;
pub mod definitions;
pub mod drill;
pub mod duration;
pub mod epoch;
pub mod failover;
pub mod failover_record;
pub mod hooks;
pub mod jurisdiction;
pub mod reading;
pub mod recovery_point;
pub mod replication;
pub mod site;
pub mod size;
pub mod thinning;
pub mod volume_snapshot;

pub use data_embassy::DataEmbassy;
pub use drill::Drill;
pub use failover::Failover;
pub use failover_record::FailoverRecord;
pub use recovery_point::RecoveryPoint;
pub use site::Site;

/// The API group of every kind of ours.
pub const GROUP: &str = "dataembassy.io";
/// The version written to the cluster.
pub const VERSION: &str = "v1alpha1";
/// Value of `app.kubernetes.io/managed-by` on every object that the operator owns.
pub const MANAGED_BY: &str = "data-embassy";
/// Label on a namespace that is fenced: no Pod but a mover may start there.
pub const FENCED_LABEL: &str = "dataembassy.io/fenced";
/// Label that names the `DataEmbassy` an object belongs to.
pub const EMBASSY_LABEL: &str = "dataembassy.io/embassy";
/// Label on mover Pods; the fence lets only these through.
pub const MOVER_LABEL: &str = "dataembassy.io/mover";
/// Label on a claim that was made from a snapshot to be copied: the name of the mover Job that it belongs to. It is no volume of the
/// register.
pub const SNAPSHOT_LABEL: &str = "dataembassy.io/snapshot-for";
/// Label on the protected claims that are snapshotted together: the name of their `DataEmbassy`. Groups are made by labels only.
pub const GROUP_LABEL: &str = "dataembassy.io/snapshot-group";
/// Label on the namespace of a drill: the uid of its `Drill`. Only such namespaces are ever removed.
pub const DRILL_LABEL: &str = "dataembassy.io/drill";
/// Label of a `FailoverRecord` while a freeze is written down in it.
pub const FROZEN_LABEL: &str = "dataembassy.io/frozen";
/// Annotation with the replicas that a workload had before it was fenced.
pub const FORMER_REPLICAS: &str = "dataembassy.io/former-replicas";
/// Annotation with `spec.suspend` that a `CronJob` had before it was fenced.
pub const FORMER_SUSPEND: &str = "dataembassy.io/former-suspend";
/// Annotation by which a person fences this site (`true`) or asks to lift the fence (`lift`).
pub const FENCE_ANNOTATION: &str = "dataembassy.io/fence";
