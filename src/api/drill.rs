//! `Drill`: one rehearsal of a takeover beside everything else. Its status is the report.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{data_embassy::ExcludedKind, epoch::PointRef, reading::Serve};

/// What is rehearsed. It cannot be changed: another drill is another object.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[kube(
    group = "dataembassy.io",
    version = "v1alpha1",
    kind = "Drill",
    namespaced,
    category = "embassy",
    status = "DrillStatus",
    doc = "One rehearsal: a recovery point is restored into a namespace that can reach nothing and be reached by nothing, its workload is started there and checked, and all of it is removed again. Apply it at the site that shall rehearse.",
    validation = Rule::new("size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')").message("metadata.name must be at most 63 characters without dots"),
    printcolumn(name = "Embassy", type_ = "string", json_path = ".spec.embassy"),
    printcolumn(name = "Point", type_ = "string", json_path = ".status.recoveryPoint"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Ready in", type_ = "string", json_path = ".status.timeToReady"),
    printcolumn(name = "Data age", type_ = "string", json_path = ".status.dataAge"),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".status.restoredBytes"),
    printcolumn(name = "Started", type_ = "date", json_path = ".status.startedAt"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = ("self == oldSelf", "a drill cannot be changed: create a new Drill")
)]
pub struct DrillSpec {
    /// The `DataEmbassy` of this namespace.
    #[schemars(length(min = 1, max = 52))]
    pub embassy: String,
    /// Which recovery point, such as `1/tallinn/42`; without it the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = 80))]
    #[x_kube(validation = kube::core::Rule::new(format!("self.matches('{}')", PointRef::PATTERN)).message("recoveryPoint must be the epoch and sequence of a recovery point, such as 1/tallinn/42 (see kubectl get recoverypoints); leave it out for the newest"))]
    pub recovery_point: Option<PointRef>,
    /// What must succeed in the workload once all of it is ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub checks: Vec<DrillCheck>,
    /// Captured kinds that are left out, beside those that would draw traffic or open the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub exclude: Vec<ExcludedKind>,
    /// The whole drill fails after this time.
    #[serde(default = "DrillSpec::default_timeout")]
    #[schemars(length(min = 2, max = 8))]
    #[x_kube(validation = ("self.matches('^[1-9][0-9]{0,5}[smhd]$')", "timeout must be a whole number above zero and one unit of s, m, h or d, such as 30m"))]
    pub timeout: String,
    /// Not a rehearsal, but one that stays: its workload serves readers until another one does. Made by the operator where
    /// `spec.standby` of the `DataEmbassy` is `ReadOnly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serve: Option<Serve>,
}

impl DrillSpec {
    fn default_timeout() -> String {
        "30m".to_owned()
    }
}

/// Drills that the operator of every standby begins by itself.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Drills {
    /// Cron schedule in UTC, or with a time zone behind it: `0 4 * * 0`. `H` in place of a number spreads embassies: `H 4 * * 0`.
    #[schemars(length(min = 9, max = 100))]
    #[x_kube(validation = ("self.matches('^[^ ]+( [^ ]+){4,5}$')", "drills.schedule must be the five fields of a cron schedule (minute, hour, day of month, month, day of week), such as '0 4 * * 0', with at most a time zone behind them"))]
    pub schedule: String,
    /// As in a `Drill`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub checks: Vec<DrillCheck>,
    /// As in a `Drill`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub exclude: Vec<ExcludedKind>,
    /// As in a `Drill`.
    #[serde(default = "DrillSpec::default_timeout")]
    #[schemars(length(min = 2, max = 8))]
    #[x_kube(validation = ("self.matches('^[1-9][0-9]{0,5}[smhd]$')", "drills.timeout must be a whole number above zero and one unit of s, m, h or d, such as 30m"))]
    pub timeout: String,
    /// A standby is `Promotable` only if a drill there passed within this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 8))]
    #[x_kube(validation = ("self.matches('^[1-9][0-9]{0,5}[smhd]$')", "drills.requiredWithin must be a whole number above zero and one unit of s, m, h or d, such as 30d"))]
    pub required_within: Option<String>,
}

/// A command in a container of the rehearsed workload; it passes if it exits with 0.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrillCheck {
    /// Tells the checks of a drill apart.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = ("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", "checks[].name must be made of a-z, 0-9 and '-'"))]
    pub name: String,
    /// What is run.
    pub exec: ExecCheck,
    /// It fails after so many seconds.
    #[serde(default = "DrillCheck::default_timeout_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: i64,
}

impl DrillCheck {
    const fn default_timeout_seconds() -> i64 {
        60
    }
}

/// A command.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecCheck {
    /// Labels of the Pods; the first that is ready by name runs it.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16))]
    pub selector: std::collections::BTreeMap<String, String>,
    /// Which container; the first one without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,
    /// The command and its arguments; no shell is involved.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
}

/// How far a drill is.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrillPhase {
    /// Waits for what its message says.
    Pending,
    /// The volumes are brought to the recovery point.
    Restoring,
    /// The captured objects are applied.
    Applying,
    /// The workload starts.
    Starting,
    /// The checks run.
    Checking,
    /// The workload serves readers.
    Serving,
    /// What was made is removed; the report is complete.
    CleaningUp,
    /// It went as it should; nothing of it is left.
    Passed,
    /// Something did not go as it should; nothing of it is left.
    Failed,
}

impl DrillPhase {
    /// Whether nothing will change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Passed | Self::Failed)
    }
}

impl Drill {
    /// Whether nothing will change any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.status.as_ref().and_then(|status| status.phase).is_some_and(DrillPhase::is_final)
    }

    /// Whether readers are served by it.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.status.as_ref().and_then(|status| status.phase) == Some(DrillPhase::Serving)
    }
}

/// The report.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct DrillStatus {
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<DrillPhase>,
    /// What happens, or what went wrong and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether it went as it should, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<bool>,
    /// The recovery point that is rehearsed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_point: Option<PointRef>,
    /// Where it is rehearsed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the volumes held the recovery point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<Time>,
    /// When the captured objects were applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<Time>,
    /// When all of the workload was ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Time>,
    /// When it was over, with nothing of it left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// Bytes of the restored files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_bytes: Option<i64>,
    /// Number of the restored files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_files: Option<i64>,
    /// Number of the applied objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_objects: Option<i64>,
    /// Age of the data when the drill began: what a takeover at that moment would have lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_age: Option<String>,
    /// From the beginning to a ready workload: how long a takeover from nothing but the vault takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_ready: Option<String>,
    /// How each check ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckResult>,
}

/// How a check ended.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CheckResult {
    /// Its name.
    pub name: String,
    /// Whether it exited with 0 in time.
    pub passed: bool,
    /// The end of what it said, or why it could not be run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}
