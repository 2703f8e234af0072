//! `Site`: one place where a register may live, the local one included.

use k8s_openapi::apimachinery::pkg::{
    api::resource::Quantity,
    apis::meta::v1::{Condition, Time},
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::jurisdiction::Jurisdiction;

/// What people say of a site. The same manifest may be applied in every cluster.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "dataembassy.io",
    version = "v1alpha1",
    kind = "Site",
    category = "embassy",
    status = "SiteStatus",
    doc = "A place where a register may live: a home cluster or an embassy abroad.",
    validation = Rule::new("size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name must be at most 40 characters of a-z, 0-9 and '-', beginning with a letter: it becomes part of epochs, repositories and certificates"),
    printcolumn(name = "Local", type_ = "boolean", json_path = ".status.local"),
    printcolumn(name = "Jurisdiction", type_ = "string", json_path = ".spec.jurisdiction"),
    printcolumn(name = "Trusted", type_ = "string", json_path = ".status.conditions[?(@.type==\"Trusted\")].status"),
    printcolumn(name = "Reachable", type_ = "string", json_path = ".status.conditions[?(@.type==\"Reachable\")].status"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Reachable\")].message"),
    printcolumn(name = "Vault", type_ = "string", json_path = ".spec.vault.url", priority = 1)
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteSpec {
    /// Country under whose law the site stands, as ISO 3166-1 alpha-2 code, such as `EE`.
    pub jurisdiction: Jurisdiction,
    /// The treaty, law or contract that puts it there, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub legal_basis: Option<String>,
    /// How to reach the site's vault. Needed where this cluster dials it; a site that is never dialled has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultAccess>,
    /// Pinned signing key of the site, `ed25519:<base64>`; else taken at the first mTLS contact and kept in status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    #[x_kube(validation = ("self.matches('^ed25519:[A-Za-z0-9+/]{43}=$')", "publicKey must be 'ed25519:' and the 44 base64 characters that 'kubectl get site NAME -o yaml' shows at the site itself"))]
    pub public_key: Option<String>,
    /// Pinned age recipient of the site; else taken at the first mTLS contact and kept in status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    #[x_kube(validation = ("self.matches('^age1[a-z0-9]{58}$')", "recipient must be an age recipient: 'age1' and 58 characters of a-z and 0-9"))]
    pub recipient: Option<String>,
    /// What this cluster agrees to hold for that site. Without it nothing of that site is accepted here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosting: Option<Hosting>,
}

/// How to reach a vault.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VaultAccess {
    /// `https://host:port` of the vault.
    #[schemars(length(min = 9, max = 253))]
    #[x_kube(validation = ("self.matches('^https://[A-Za-z0-9.\\\\[\\\\]:-]+$')", "vault.url must be https://HOST or https://HOST:PORT without a path: the vault speaks mutual TLS only"))]
    pub url: String,
    /// PEM certificates that the vault's own certificate must chain to.
    #[schemars(length(min = 1, max = 65536))]
    #[x_kube(validation = ("self.contains('-----BEGIN CERTIFICATE-----')", "vault.caBundle must hold PEM certificates ('-----BEGIN CERTIFICATE-----'), as text, not base64 of it"))]
    pub ca_bundle: String,
    /// Secret of type kubernetes.io/tls in the operator's namespace with the client certificate for that vault.
    #[serde(rename = "clientTLSSecretRef")]
    pub client_tls_secret_ref: SecretReference,
}

/// A Secret in the operator's namespace; there is no way to name another one.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "name must be the plain name of a Secret in the operator's namespace, without a namespace before it"))]
    pub name: String,
}

/// What this cluster agrees to hold for a peer.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hosting {
    /// Namespaces the peer may have here; they are made if missing.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    #[x_kube(validation = ("self.all(n, n.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))", "hosting.namespaces must be names of namespaces; write each one out, patterns are not taken"))]
    #[x_kube(validation = ("self.all(n, !n.startsWith('kube-'))", "hosting.namespaces must not name a kube- namespace: it belongs to the cluster itself"))]
    pub namespaces: Vec<String>,
    /// Storage classes the peer may use here; empty means any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "set"))]
    pub storage_classes: Vec<String>,
    /// Bytes that each of the peer's embassies may take in the vault here.
    pub quota: Quantity,
}

/// What the operator saw of a site.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct SiteStatus {
    /// Whether this is the site that the operator here speaks for.
    #[serde(default)]
    pub local: bool,
    /// Signing key seen at first contact, pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// age recipient seen at first contact, pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// When contact was last gained or lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact: Option<Time>,
    /// `Reachable` and `Trusted`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
