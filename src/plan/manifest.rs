//! The signed manifest of a recovery point: published last, it makes the copy exist.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};

use super::{desired::Owner, failover::Point};
use crate::api::{
    epoch::PointRef,
    failover_record::DataPoint,
    recovery_point::{Consistency, RecoveryPoint, RecoveryPointSpec},
};

/// Version of the manifest; a reader that does not know it does not count the point.
pub const MANIFEST_VERSION: i64 = if cfg!(feature = "next-version") { 2 } else { 1 };

/// What the mover counted.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contents {
    /// Snapshot in the repository of the epoch.
    pub snapshot: String,
    /// Bytes of the volumes.
    pub bytes: i64,
    /// Files of the volumes.
    pub files: i64,
    /// Captured objects.
    pub objects: i64,
    /// SHA-256 over the volumes' tree.
    pub content_digest: String,
    /// SHA-256 of the list of objects that the snapshot needs.
    pub inventory: String,
}

/// The manifest.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// `MANIFEST_VERSION` of the author.
    pub version: i64,
    /// Namespace of the embassy.
    pub namespace: String,
    /// Name of the embassy.
    pub embassy: String,
    /// Which point.
    pub point: PointRef,
    /// When the copy was begun, by the author's clock.
    pub cut_time: Time,
    /// Protected claims in it.
    pub claims: Vec<String>,
    /// What the mover counted.
    pub contents: Contents,
    /// Whether the writers had stopped.
    pub consistency: Consistency,
    /// SHA-256 of the manifest before it in the same epoch; empty for the first.
    pub previous: String,
    /// The points on which the line of reigns was built, oldest first.
    pub ancestry: Vec<DataPoint>,
}

impl Manifest {
    /// As the failover protocol sees it.
    #[must_use]
    pub fn point(&self) -> Point {
        let data = DataPoint { point: self.point.clone(), digest: self.contents.content_digest.clone() };
        Point { data, ancestry: self.ancestry.clone() }
    }

    /// The object that people see.
    #[must_use]
    pub fn object(&self) -> RecoveryPoint {
        let owner = Owner { namespace: self.namespace.clone(), name: self.embassy.clone() };
        let mut point = RecoveryPoint::new(
            &format!("{}-{}", self.embassy, self.point.slug()),
            RecoveryPointSpec {
                embassy: self.embassy.clone(),
                epoch: self.point.epoch.to_string(),
                sequence: self.point.sequence,
                cut_time: self.cut_time.clone(),
                bytes: self.contents.bytes,
                files: self.contents.files,
                objects: self.contents.objects,
                snapshot: self.contents.snapshot.clone(),
                content_digest: self.contents.content_digest.clone(),
                previous: self.previous.clone(),
                consistency: self.consistency,
            },
        );
        point.metadata = ObjectMeta {
            namespace: Some(self.namespace.clone()),
            labels: Some(owner.labels()),
            ..point.metadata
        };
        point
    }
}

/// A manifest of nothing, for tests.
#[cfg(test)]
pub(crate) fn of_nothing(point: &str) -> Manifest {
    Manifest {
        version: MANIFEST_VERSION,
        namespace: "land".to_owned(),
        embassy: "land".to_owned(),
        point: point.parse().unwrap(),
        cut_time: Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH),
        claims: vec![],
        contents: Contents {
            snapshot: String::new(),
            bytes: 0,
            files: 0,
            objects: 0,
            content_digest: String::new(),
            inventory: String::new(),
        },
        consistency: Consistency::Final,
        previous: String::new(),
        ancestry: vec![],
    }
}
