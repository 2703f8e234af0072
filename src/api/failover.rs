//! `Failover`: one order to move the active role. It takes effect once; its status is the record of what happened.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::epoch::{Epoch, PointRef};

/// The order. It cannot be changed: a new decision is a new order.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[kube(
    group = "dataembassy.io",
    version = "v1alpha1",
    kind = "Failover",
    namespaced,
    shortname = "fo",
    category = "embassy",
    status = "FailoverStatus",
    doc = "One order to move the active role of a DataEmbassy. Planned: apply it at the active site. Forced: apply it at the site that shall take over.",
    printcolumn(name = "Embassy", type_ = "string", json_path = ".spec.embassy"),
    printcolumn(name = "From", type_ = "string", json_path = ".status.from"),
    printcolumn(name = "To", type_ = "string", json_path = ".spec.to"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".spec.epoch"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.duration"),
    printcolumn(name = "Lost", type_ = "string", json_path = ".status.dataLoss"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = ("self == oldSelf", "an order cannot be changed: create a new Failover with a higher epoch; kubectl embassy failover writes it for you"),
    validation = ("self.mode != 'Forced' || (has(self.acknowledgeDataLoss) && self.acknowledgeDataLoss)", "a forced order needs acknowledgeDataLoss: true: what the active site wrote after the last recovery point is lost or left behind"),
    validation = ("self.mode != 'Forced' || has(self.attestation)", "a forced order needs attestation: {peer: PoweredOff or Fenced, by: WHO, reason: WHY}: only a person can know that the other site does not run"),
    validation = ("self.mode != 'Forced' || has(self.ticket)", "a forced order needs ticket: the value of status.ticket of the DataEmbassy at the site that shall take over"),
    validation = ("self.mode != 'Planned' || !(has(self.acknowledgeDataLoss) || has(self.attestation) || has(self.ticket) || has(self.maxDataLoss))", "a planned order loses nothing: leave acknowledgeDataLoss, attestation, ticket and maxDataLoss out, or write mode: Forced")
)]
pub struct FailoverSpec {
    /// The `DataEmbassy` of this namespace.
    #[schemars(length(min = 1, max = 52))]
    pub embassy: String,
    /// The `Site` that shall run the register.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = ("self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')", "to must be the plain name of a Site (a-z, 0-9, '-')"))]
    pub to: String,
    /// Number of the epoch that the order creates; above every number that the sites know.
    #[schemars(range(min = 2, max = 1_000_000_000))]
    pub epoch: i64,
    /// With or without the help of the site that is active now.
    pub mode: FailoverKind,
    /// Forced: whoever orders knows that data may be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledge_data_loss: Option<bool>,
    /// Forced: what a person knows of the other site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Attestation>,
    /// Forced: `status.ticket` of the `DataEmbassy` here; any news voids it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 200))]
    #[x_kube(validation = ("self.matches('^[0-9]+(\\\\.[0-9]+)+$')", "ticket must be the value of status.ticket of the DataEmbassy at this site, such as \"4.7\""))]
    pub ticket: Option<String>,
    /// Forced: the newest copy may be this old; without it `spec.failover.maxDataLoss` of the `DataEmbassy` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(validation = ("self.matches('^[1-9][0-9]{0,5}[smhd]$')", "maxDataLoss must be a whole number above zero and one unit of s, m, h or d, such as 2h"))]
    pub max_data_loss: Option<String>,
}

impl FailoverSpec {
    /// The epoch that the order creates.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch::new(self.epoch, self.to.clone())
    }
}

/// With or without the help of the site that is active now.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailoverKind {
    /// The active site stops, hands its last byte over, and only then the other starts.
    Planned,
    /// The other site starts from what it has.
    Forced,
}

/// What a person knows of every other site.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// Its state.
    pub peer: PeerState,
    /// Who says so.
    #[schemars(length(min = 1, max = 253))]
    pub by: String,
    /// Why it is so.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
}

/// The other site's state, as a person knows it.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerState {
    /// It is off, and stays off until it can reach the vault.
    PoweredOff,
    /// A person fenced it, and its fence is complete.
    Fenced,
}

/// How far an order is.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailoverPhase {
    /// Waits for what its message says.
    Pending,
    /// Took effect and is under way.
    Progressing,
    /// The site that it names runs the register.
    Completed,
    /// Cannot take effect; its message says how to do it right.
    Rejected,
    /// A newer epoch is known: it has no effect, now or ever.
    Superseded,
}

impl FailoverPhase {
    /// Whether nothing will change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Rejected | Self::Superseded)
    }
}

/// What became of the order.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct FailoverStatus {
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<FailoverPhase>,
    /// `PascalCase`, from a closed set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What happens, and what to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The site that was active before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// When it took effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// From taking effect to the end, such as `12s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// The recovery point that the new reign began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_point: Option<PointRef>,
    /// `none`, or how old that point was when the order took effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_loss: Option<String>,
}
