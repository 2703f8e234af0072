//! `FailoverRecord`: the durable memory of one `DataEmbassy` at one site. Written with its resourceVersion only.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::epoch::{Epoch, PointRef};
use super::hooks::Freeze;

/// The role of a site. Cold start and human fence are flags beside it, never instead of it.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Runs the register.
    Active,
    /// Keeps volumes at the newest recovery point of the active site.
    Standby,
    /// Gives the role away: fences itself and makes the final recovery point.
    Demoting,
    /// Has given the role away.
    Demoted,
    /// Has taken the role and is about to run the register.
    Promoting,
    /// Has seen a higher epoch of another site and has not classified its bytes yet.
    Fenced,
    /// Holds bytes that the active site does not have; nothing happens to them without an approval.
    Diverged,
}

impl Role {
    /// The name in manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Standby => "Standby",
            Self::Demoting => "Demoting",
            Self::Demoted => "Demoted",
            Self::Promoting => "Promoting",
            Self::Fenced => "Fenced",
            Self::Diverged => "Diverged",
        }
    }

    /// Whether this role owns the epoch that bears its site's name.
    #[must_use]
    pub const fn owns(self) -> bool {
        matches!(self, Self::Active | Self::Promoting | Self::Demoting | Self::Demoted)
    }

    /// Whether a forced order to this very site goes on with the bytes that are here, rather than with a copy.
    #[must_use]
    pub const fn keeps_own_bytes(self) -> bool {
        matches!(self, Self::Active | Self::Promoting | Self::Demoting | Self::Diverged)
    }

    /// Whether the register may run in this role.
    #[must_use]
    pub const fn rules(self) -> bool {
        matches!(self, Self::Active | Self::Promoting)
    }
}

/// A committed recovery point and what its volumes hold.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq, Hash)]
#[serde(deny_unknown_fields)]
pub struct DataPoint {
    /// Which one.
    pub point: PointRef,
    /// SHA-256 over the volumes' tree: equal where the bytes are equal.
    #[schemars(length(max = 64))]
    pub digest: String,
}

/// What is known of the protected volumes at this site.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq, Hash, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volumes {
    /// Whether they may be served.
    pub condition: VolumeCondition,
    /// Clean: the point they equal. Live: the point that this reign began with. Restoring: the point being restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<DataPoint>,
    /// Uid of each protected claim that this was found in. One that was deleted and made anew is empty, whatever its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1024))]
    pub claims: BTreeMap<String, String>,
}

/// Whether the volumes may be served.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum VolumeCondition {
    /// Nothing was restored yet.
    #[default]
    Empty,
    /// Byte for byte a committed recovery point.
    Clean,
    /// Written by the workload since.
    Live,
    /// A restore was begun and not seen to end.
    Restoring,
}

/// One change of the record, for people.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Transition {
    /// When it was written, by this site's clock.
    pub time: Time,
    /// Revision that it made.
    pub revision: i64,
    /// Role afterwards.
    pub role: Role,
    /// Epoch afterwards.
    pub epoch: Epoch,
    /// Why, in a sentence.
    #[schemars(length(max = 512))]
    pub why: String,
}

/// How many transitions a record keeps.
pub const HISTORY: usize = 64;

/// The memory itself.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[kube(
    group = "dataembassy.io",
    version = "v1alpha1",
    kind = "FailoverRecord",
    namespaced,
    shortname = "fr",
    category = "embassy",
    doc = "What this site knows for certain of its own part in a DataEmbassy. Written by the operator only; it outlives the DataEmbassy.",
    printcolumn(name = "Role", type_ = "string", json_path = ".spec.role"),
    printcolumn(name = "Epoch", type_ = "string", json_path = ".spec.epoch"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".spec.revision"),
    printcolumn(name = "Volumes", type_ = "string", json_path = ".spec.volumes.condition"),
    printcolumn(name = "At", type_ = "string", json_path = ".spec.volumes.at.point"),
    printcolumn(name = "Cold", type_ = "boolean", json_path = ".spec.coldFence"),
    printcolumn(name = "Human", type_ = "boolean", json_path = ".spec.humanFence")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = ("self.revision >= oldSelf.revision", "revision never goes back: read the record again before writing it")
)]
pub struct FailoverRecordSpec {
    /// The site that wrote it.
    #[schemars(length(min = 1, max = 40))]
    pub site: String,
    /// Every other site, with the newest revision of its record that was read; 0 for none.
    #[schemars(extend("maxProperties" = 8))]
    pub peers: BTreeMap<String, i64>,
    /// Rises by one with each change of the protocol's state.
    #[schemars(range(min = 1))]
    pub revision: i64,
    /// See `Role`.
    pub role: Role,
    /// The highest epoch that this site has entered, learned from its owner, or passed.
    pub epoch: Epoch,
    /// Demoting, Demoted: the epoch given away. Fenced: the other site's epoch that it yields to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Epoch>,
    /// Demoted: the epoch asked back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<Epoch>,
    /// All nodes were started anew and the other sites have not confirmed this record since.
    #[serde(default)]
    pub cold_fence: bool,
    /// A person fenced this site.
    #[serde(default)]
    pub human_fence: bool,
    /// A person asked to lift the fence; it waits for a confirmation of this revision.
    #[serde(default)]
    pub lifting: bool,
    /// Diverged: the epoch whose bytes would be discarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<Epoch>,
    /// Standby: discarding was approved and the new copy is not complete yet.
    #[serde(default)]
    pub reclone: bool,
    /// Demoted: the data point handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<DataPoint>,
    /// What the volumes hold.
    #[serde(default)]
    pub volumes: Volumes,
    /// The points on which this site's line of reigns was built, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub ancestry: Vec<DataPoint>,
    /// The recovery point whose objects this namespace holds; none since a restore was begun, or before the first copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<PointRef>,
    /// Boot ids of the nodes.
    #[serde(default)]
    #[schemars(length(max = 10_000), inner(length(max = 64)))]
    pub boot_ids: BTreeSet<String>,
    /// Nodes on which a container with a protected volume runs, or may still run since they are silent; with their boot ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 10_000))]
    pub carriers: BTreeMap<String, String>,
    /// The highest sequence of a recovery point of its own that this site has begun in `epoch`, in whichever vault: a cut has
    /// one number, so that the points of all vaults lie in one order.
    #[serde(default)]
    pub sequence: i64,
    /// Writers that hold still for a copy, or are to be let go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<Freeze>,
    /// The last changes, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub history: Vec<Transition>,
}

impl FailoverRecordSpec {
    /// Whether the site starts, promotes and resumes nothing.
    #[must_use]
    pub const fn held(&self) -> bool {
        self.cold_fence || self.human_fence
    }

    /// The greatest epoch that the record knows; an order must be above it.
    #[must_use]
    pub fn top(&self) -> &Epoch {
        [self.intent.as_ref(), self.abort.as_ref()].into_iter().flatten().fold(&self.epoch, Ord::max)
    }

    /// What a forced order must name: any change here or any newer document of another site voids it.
    #[must_use]
    pub fn ticket(&self) -> String {
        self.peers.values().fold(self.revision.to_string(), |ticket, read| format!("{ticket}.{read}"))
    }

    /// The recovery point whose objects must be applied before the register runs on the volumes: the one that they were
    /// restored to, if this namespace does not hold its objects yet.
    #[must_use]
    pub fn objects_due(&self) -> Option<&PointRef> {
        self.volumes.at.as_ref().map(|at| &at.point).filter(|point| self.objects.as_ref() != Some(*point))
    }

    /// The other sites, in words.
    #[must_use]
    pub fn others(&self) -> String {
        self.peers.keys().map(String::as_str).collect::<Vec<_>>().join(" and ")
    }
}
