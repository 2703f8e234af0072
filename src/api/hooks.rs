//! Hooks: commands in the register's own containers around a copy, and the memory of what they have frozen.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration;

/// What is run in some Pods before and after a copy of the running register.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = ("has(self.pre) || has(self.post)", "replication.hooks[] needs pre, post or both: a hook without a command does nothing"))]
pub struct Hook {
    /// Tells the hooks apart.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = ("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", "replication.hooks[].name must be made of a-z, 0-9 and '-'"))]
    pub name: String,
    /// Labels of the Pods: it is run in each of them that runs.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16))]
    pub selector: BTreeMap<String, String>,
    /// Which container; the first one without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,
    /// Before the copy: makes the writer hold still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre: Option<HookCommand>,
    /// After the copy, however it ended: lets the writer go on. It may also be run where `pre` was not, and must do no harm there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post: Option<HookCommand>,
}

/// A command of a hook; it succeeds if it exits with 0.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HookCommand {
    /// The command and its arguments; no shell is involved.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// Nobody waits for it longer than this.
    #[serde(default = "HookCommand::default_timeout")]
    #[schemars(length(min = 2, max = 5))]
    #[x_kube(validation = ("self.matches('^[1-9][0-9]{0,3}[sm]$')", "replication.hooks[].timeout must be a whole number above zero and s or m, such as 30s"))]
    pub timeout: String,
    /// What its failure means.
    #[serde(default)]
    pub on_error: OnError,
}

impl HookCommand {
    pub(crate) fn default_timeout() -> String {
        "30s".to_owned()
    }

    /// `timeout`; the default where it cannot be read.
    #[must_use]
    pub fn limit(&self) -> Duration {
        duration::parse(&self.timeout).unwrap_or(Duration::from_secs(30))
    }
}

/// What the failure of a hook means.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// Before the copy: no copy is made. After it: it is run again until it succeeds.
    #[default]
    Fail,
    /// Before the copy: the copy is made, and marked `Fuzzy`. After it: nothing follows.
    Continue,
}

/// A freeze: written down before the first command is run, so that whoever comes next lets the writers go on.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Freeze {
    /// When it was begun.
    pub since: Time,
    /// When it ends, whatever the copy does.
    pub until: Time,
    /// Sequence of the recovery point that it is for, once its copy was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
    /// Where the commands after the copy are still to be run.
    #[schemars(length(max = 512))]
    pub pods: Vec<FrozenPod>,
    /// SHA-256 over the containers of the Pods that use the volumes or were frozen, as they were then.
    #[schemars(length(max = 64))]
    pub writers: String,
    /// Every command before the copy succeeded.
    #[serde(default)]
    pub quiesced: bool,
    /// No command after the copy is run before this is true.
    #[serde(default)]
    pub thawing: bool,
    /// The copy had read everything while the writers still held still.
    #[serde(default)]
    pub outlasted: bool,
    /// Why a command after the copy failed; it is run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub failure: Option<String>,
}

/// One hook in one Pod.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FrozenPod {
    /// Name of the hook, or the source of an annotation.
    pub hook: String,
    /// Name of the Pod.
    pub pod: String,
    /// Another Pod of that name was never frozen.
    pub uid: String,
    /// The container of `post`.
    pub container: String,
    /// What lets it go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post: Option<HookCommand>,
}
