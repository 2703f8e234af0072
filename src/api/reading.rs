//! Serving readers from a standby: which of the captured workloads, how fresh, and to whom.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicyIngressRule;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How readers are served where `standby` is `ReadOnly`.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reading {
    /// What is served is exchanged for the newest recovery point once it has been served for so long.
    #[serde(default = "Reading::default_every")]
    #[schemars(length(min = 2, max = 8))]
    #[x_kube(validation = ("self.matches('^[1-9][0-9]{0,5}[mhd]$')", "reading.every must be a whole number above zero and one unit of m, h or d, such as 1h"))]
    pub every: String,
    /// Which of the captured workloads serve.
    #[serde(default)]
    pub serve: Serve,
    /// Who may reach them, as in a networking.k8s.io/v1 `NetworkPolicy`; nobody without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub ingress: Vec<NetworkPolicyIngressRule>,
}

impl Reading {
    fn default_every() -> String {
        "1h".to_owned()
    }
}

impl Default for Reading {
    fn default() -> Self {
        Self { every: Self::default_every(), serve: Serve::default(), ingress: vec![] }
    }
}

/// Which of the captured workloads serve readers.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Serve {
    /// Labels of the workloads; without any all of them. They see their volumes read-only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub selector: BTreeMap<String, String>,
    /// How many of each are started; as captured without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub replicas: Option<i32>,
}
