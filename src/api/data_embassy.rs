//! `DataEmbassy`: what to protect, where, and how.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyIngressRule},
    apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time},
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::drill::Drills;
use super::epoch::PointRef;
use super::jurisdiction::Jurisdiction;
use super::reading::Reading;
use super::replication::{Depth, Replication};

/// What people ask for. The same manifest is applied, or arrives as a mandate, at every site.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "dataembassy.io",
    version = "v1alpha1",
    kind = "DataEmbassy",
    plural = "dataembassies",
    namespaced,
    shortname = "de",
    category = "embassy",
    status = "DataEmbassyStatus",
    doc = "Keeps the registers of this namespace recoverable, and runnable, at an embassy abroad.",
    validation = Rule::new("size(self.metadata.name) <= 52 && !self.metadata.name.contains('.')").message("metadata.name must be at most 52 characters without dots: Jobs and repositories are named after it"),
    printcolumn(name = "Role", type_ = "string", json_path = ".status.role"),
    printcolumn(name = "Active at", type_ = "string", json_path = ".status.activeSite"),
    printcolumn(name = "Last copy", type_ = "date", json_path = ".status.lastRecoveryPoint.time"),
    printcolumn(name = "Verified", type_ = "date", json_path = ".status.lastVerified.time"),
    printcolumn(name = "Protected", type_ = "string", json_path = ".status.conditions[?(@.type==\"Protected\")].status"),
    printcolumn(name = "Promotable", type_ = "string", json_path = ".status.conditions[?(@.type==\"Promotable\")].status"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message"),
    printcolumn(name = "Epoch", type_ = "string", json_path = ".status.epoch", priority = 1),
    printcolumn(name = "Ticket", type_ = "string", json_path = ".status.ticket", priority = 1)
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = ("!(self.home in self.embassies)", "spec.embassies must not name spec.home: an embassy is a site other than home"),
    validation = ("self.home == oldSelf.home", "spec.home cannot change: to move the register use a Failover; to make another site home, create a new DataEmbassy"),
    validation = ("(self.standby == 'Sealed') == (self.keys.custody == 'Home')", "spec.standby Sealed and spec.keys.custody Home go together: a site that has the key can read the data, and one that has none can keep no volume in plain form. Set both or neither"),
    validation = ("oldSelf.keys.custody == self.keys.custody || oldSelf.keys.custody == 'Home'", "spec.keys.custody cannot become Home: keys that an embassy has cannot be taken back from it. Make a new DataEmbassy, whose copies begin with a new key"),
    validation = ("!has(self.reading) || self.standby == 'ReadOnly'", "spec.reading is for spec.standby ReadOnly only: set that, or remove spec.reading"),
    validation = ("self.standby != 'Sealed' || !has(self.drills)", "spec.drills must be left out where spec.standby is Sealed: the embassy has no key to rehearse with. Order a Drill at home instead"),
    validation = ("self.standby != 'Sealed' || has(self.replication.verification)", "spec.replication.verification is needed where spec.standby is Sealed: nothing is restored there, so only reading back what lies in the vault shows that it is whole"),
    validation = ("oldSelf.embassies.all(e, e in self.embassies) || self.suspend", "spec.embassies loses a site: set spec.suspend: true in the same change, so that nothing is copied or switched while sites differ")
)]
pub struct DataEmbassySpec {
    /// The `Site` where the register lives by default.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = ("self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')", "spec.home must be the plain name of a Site (a-z, 0-9, '-'), without a namespace or cluster before it"))]
    pub home: String,
    /// The `Site`s abroad, in order of preference. Home dials each one's vault; they do not dial each other.
    #[schemars(length(min = 1, max = 4), inner(length(min = 1, max = 40)), extend("x-kubernetes-list-type" = "set"))]
    #[x_kube(
        validation = ("self.all(e, e.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$'))", "spec.embassies must be plain names of Sites (a-z, 0-9, '-')")
    )]
    pub embassies: Vec<String>,
    /// What of this namespace is protected; by default all volumes and all objects it needs.
    #[serde(default)]
    pub protect: Protect,
    /// How copies are made.
    pub replication: Replication,
    /// What the embassy keeps ready.
    #[serde(default)]
    pub standby: Standby,
    /// Who holds the repository keys.
    #[serde(default)]
    pub keys: Keys,
    /// How storage is named at the other sites.
    #[serde(default)]
    pub storage: Storage,
    /// Network policies of the namespace, the same at every site.
    #[serde(default)]
    pub network: Network,
    /// How the active role moves.
    #[serde(default)]
    pub failover: FailoverPolicy,
    /// How readers are served abroad, where `standby` is `ReadOnly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<Reading>,
    /// Rehearsals by schedule; without it there are those that people order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drills: Option<Drills>,
    /// Where the data may lie.
    pub residency: Residency,
    /// What happens to data when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Stops copying, restoring and switching; what runs goes on running.
    #[serde(default)]
    pub suspend: bool,
}

/// What is protected.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Protect {
    /// Which PersistentVolumeClaims.
    #[serde(default)]
    pub volumes: ProtectVolumes,
    /// Which objects.
    #[serde(default)]
    pub objects: ProtectObjects,
}

/// Which claims are protected.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct ProtectVolumes {
    /// Labels of the claims; empty means every claim of the namespace.
    #[serde(default)]
    pub selector: LabelSelector,
}

/// Which objects are left out of the capture.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(deny_unknown_fields)]
pub struct ProtectObjects {
    /// Kinds that are not captured, beside the derived ones that never are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub exclude: Vec<ExcludedKind>,
}

/// A kind to leave out.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ExcludedKind {
    /// API group; empty for the core group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub group: String,
    /// Kind, such as `ConfigMap`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = ("self.matches('^[A-Z][A-Za-z0-9]*$')", "exclude[].kind must be a kind in the singular as manifests write it, such as ConfigMap"))]
    pub kind: String,
}

/// What the embassy keeps ready.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standby {
    /// Standby volumes in plain form, kept at the newest recovery point.
    #[default]
    Warm,
    /// Only what is encrypted; a person who has the key brings it to a takeover.
    Sealed,
    /// As `Warm`; and readers are served by copies of their own, which are exchanged for newer ones and never refreshed.
    ReadOnly,
}

/// Who holds the repository keys.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Where a key lies besides at the site that made it.
    #[serde(default)]
    pub custody: Custody,
}

/// Where repository keys lie besides at the site that made them.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Custody {
    /// At the embassy as well, so that it can take over without asking home.
    #[default]
    Embassy,
    /// At home, and with the people who took a copy out of it.
    Home,
}

/// How storage is named at the other sites.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// Storage class at home to storage class at the embassy; a class that is not named keeps its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub classes: BTreeMap<String, String>,
}

/// Network policies of the protected namespace.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Default deny both ways, but for the namespace itself, DNS and the mover's way to the vault.
    #[serde(default = "Network::default_isolate")]
    pub isolate: bool,
    /// Further ingress rules, as in a networking.k8s.io/v1 NetworkPolicy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub ingress: Vec<NetworkPolicyIngressRule>,
    /// Further egress rules, as in a networking.k8s.io/v1 NetworkPolicy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub egress: Vec<NetworkPolicyEgressRule>,
}

impl Network {
    const fn default_isolate() -> bool {
        true
    }
}

impl Default for Network {
    fn default() -> Self {
        Self { isolate: Self::default_isolate(), ingress: vec![], egress: vec![] }
    }
}

/// How the active role moves.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailoverPolicy {
    /// Who decides.
    #[serde(default)]
    pub mode: FailoverMode,
    /// A forced failover that would lose more than this needs the order to say so.
    #[serde(default = "FailoverPolicy::default_max_data_loss")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(validation = ("self.matches('^[1-9][0-9]{0,5}[smhd]$')", "failover.maxDataLoss must be a whole number above zero and one unit of s, m, h or d, such as 1h"))]
    pub max_data_loss: String,
    /// Who starts the workload after a takeover.
    #[serde(default)]
    pub activation: Activation,
    /// The epoch whose diverged bytes may be discarded; without it they are kept and the site stays `Diverged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve_discard: Option<ApproveDiscard>,
}

impl FailoverPolicy {
    fn default_max_data_loss() -> String {
        "1h".to_owned()
    }
}

impl Default for FailoverPolicy {
    fn default() -> Self {
        Self {
            mode: FailoverMode::default(),
            max_data_loss: Self::default_max_data_loss(),
            activation: Activation::default(),
            approve_discard: None,
        }
    }
}

/// Who decides on a failover.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailoverMode {
    /// A person, by a `Failover`.
    #[default]
    Manual,
}

/// Who starts the workload after a takeover.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// The operator starts what was captured.
    #[default]
    Captured,
    /// Somebody else, such as a GitOps tool; the operator only lifts the fence.
    External,
}

/// An epoch, named by a person who has seen what would be lost.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ApproveDiscard {
    /// Number of the epoch.
    #[schemars(range(min = 1))]
    pub number: i64,
    /// Site of the epoch.
    #[schemars(length(min = 1, max = 40))]
    pub site: String,
}

/// Where the data may lie.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Residency {
    /// Jurisdictions; the one of every site, home included, must be among them.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub allow: Vec<Jurisdiction>,
}

/// What happens to data when the `DataEmbassy` is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeletionPolicy {
    /// Volumes, recovery points and the failover record stay.
    #[default]
    Retain,
}

/// What the operator of this site saw.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct DataEmbassyStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Role of this site; `Fenced` also where it is only held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The site that runs the register, as far as is known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_site: Option<String>,
    /// Epoch of this site's record, such as `2/luxembourg`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// What the operator is doing now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Details of the phase, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progression: Option<String>,
    /// What a forced order to this site must name as `ticket`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// The newest committed copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_recovery_point: Option<PointStatus>,
    /// The newest copy that was read back abroad and found whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_verified: Option<PointStatus>,
    /// The last verification of all that the vault holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationStatus>,
    /// The last drill at this site that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_drill: Option<LastDrill>,
    /// Each site, as its last signed report says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub sites: Vec<SiteReport>,
    /// See `ConditionType`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A recovery point, in short.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
pub struct PointStatus {
    /// Epoch it was written in.
    pub epoch: String,
    /// Position within the epoch.
    pub sequence: i64,
    /// When the copy was begun.
    pub time: Time,
}

/// A verification, in short.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VerificationStatus {
    /// When it ended.
    pub time: Time,
    /// How far it went.
    pub depth: Depth,
    /// Recovery points that were looked at.
    pub points: i64,
    /// Files that were read.
    pub files: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Files that are wrong.
    pub damaged_files: i64,
    /// The first of them, and which recovery points they cost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<String>,
}

/// A drill, in short.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LastDrill {
    /// Of the `Drill`.
    pub name: String,
    /// When it ended.
    pub time: Time,
    /// Whether it went as it should.
    pub passed: bool,
    /// What it rehearsed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_point: Option<PointRef>,
    /// From its beginning to a ready workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_ready: Option<String>,
    /// How it went, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A site, as its last signed report says.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SiteReport {
    /// Name of the `Site`.
    pub name: String,
    /// Its role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Its epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// Revision of its record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Whether its last report is recent.
    pub reachable: bool,
    /// Recovery point that its volumes hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_point: Option<String>,
}
