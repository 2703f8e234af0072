//! `RecoveryPoint`: one committed, signed copy of a protected namespace.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the signed manifest says. Written once by the operator, never changed.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[kube(
    group = "dataembassy.io",
    version = "v1alpha1",
    kind = "RecoveryPoint",
    namespaced,
    shortname = "rp",
    category = "embassy",
    status = "RecoveryPointStatus",
    doc = "One committed, signed copy of a protected namespace. Written by the operator; deleting it deletes no data.",
    printcolumn(name = "Embassy", type_ = "string", json_path = ".spec.embassy"),
    printcolumn(name = "Epoch", type_ = "string", json_path = ".spec.epoch"),
    printcolumn(name = "Seq", type_ = "integer", json_path = ".spec.sequence"),
    printcolumn(name = "Cut", type_ = "date", json_path = ".spec.cutTime"),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".spec.bytes"),
    printcolumn(name = "Files", type_ = "integer", json_path = ".spec.files"),
    printcolumn(name = "Verified", type_ = "date", json_path = ".status.verifiedAt"),
    printcolumn(name = "Damage", type_ = "string", json_path = ".status.damage"),
    printcolumn(name = "Consistency", type_ = "string", json_path = ".spec.consistency", priority = 1),
    printcolumn(name = "Snapshot", type_ = "string", json_path = ".spec.snapshot", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self == oldSelf", "a recovery point is the record of a copy and cannot be changed; delete the object if you do not want to see it: the copy in the vault stays")
)]
pub struct RecoveryPointSpec {
    /// The `DataEmbassy` of this namespace that the copy belongs to.
    #[schemars(length(min = 1, max = 63))]
    pub embassy: String,
    /// Epoch in which it was written, such as `1/tallinn`.
    #[schemars(length(min = 1, max = 80))]
    pub epoch: String,
    /// Position within the epoch, from 1.
    #[schemars(range(min = 1))]
    pub sequence: i64,
    /// When the copy was begun: everything acknowledged before is in it.
    pub cut_time: Time,
    /// Bytes of the volumes.
    #[schemars(range(min = 0))]
    pub bytes: i64,
    /// Files of the volumes.
    #[schemars(range(min = 0))]
    pub files: i64,
    /// Captured objects.
    #[schemars(range(min = 0))]
    pub objects: i64,
    /// Snapshot in the repository of the epoch.
    #[schemars(length(min = 64, max = 64))]
    pub snapshot: String,
    /// SHA-256 over the volumes' tree, the same wherever the same bytes lie.
    #[schemars(length(min = 64, max = 64))]
    pub content_digest: String,
    /// SHA-256 of the manifest before this one; empty for the first of an epoch.
    #[schemars(length(max = 64))]
    pub previous: String,
    /// `Final` for the point of a planned switch and of a fenced site, whose writers had stopped; `Quiesced` where hooks made
    /// them hold still until everything was read or snapshotted; `CrashConsistent` and `PerVolume` for snapshots without; else `Fuzzy`.
    pub consistency: Consistency,
}

/// What may be said of a copy's consistency.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Copied while the writers ran: files may be of slightly different moments.
    Fuzzy,
    /// Snapshots of several volumes, each as after a power cut, but each of a moment of its own.
    PerVolume,
    /// A snapshot of the only volume, or of all of them at one moment: as after a power cut.
    CrashConsistent,
    /// Copied, or snapshotted, while every hook had its writer hold still.
    Quiesced,
    /// Copied after the last writer had stopped.
    Final,
}

/// What was verified of it.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryPointStatus {
    /// When the copy abroad was last read back and found whole. Gone while it is damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Time>,
    /// How it was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_by: Option<VerificationDepth>,
    /// What the last verification found wrong with it: the file, and how it is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// At a diverged site: what this point holds that the active site does not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
}

/// What a point holds that an earlier one of its epoch, on which another site built, does not.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The earlier point, such as `1/tallinn/6`.
    pub base: String,
    /// Files that it has not.
    pub added: i64,
    /// Files with another content, owner, mode or time.
    pub changed: i64,
    /// Files that only the earlier one has.
    pub removed: i64,
    /// Bytes that differ.
    pub bytes: i64,
    /// When the first of the added and changed files was written, as the file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_written: Option<Time>,
    /// When the last of them was written, as the file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_written: Option<Time>,
    /// Names of some of them, each with its claim before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub examples: Vec<String>,
}

/// How a copy was verified.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerificationDepth {
    /// Restored into the standby volumes, every blob decrypted and hashed.
    Restored,
    /// Every file that it needs was read and has the SHA-256 that was signed.
    Quick,
    /// Every blob was also decrypted and hashed.
    Deep,
}
