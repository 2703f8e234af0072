//! What vault and clients say to each other: the JSON shapes and the limits both sides know.

use serde::{Deserialize, Serialize};

/// Media type of version 2 of the restic REST protocol: lists hold names and sizes.
pub const REST_V2: &str = "application/vnd.x.restic.rest.v2";
/// Media type of version 1: lists hold names.
pub const REST_V1: &str = "application/vnd.x.restic.rest.v1";
/// Longest signed document: a letter, a manifest or a policy.
pub const MAX_DOCUMENT: u64 = 256 << 10;
/// Longest repository configuration.
pub const MAX_CONFIG: u64 = 64 << 10;
/// Most letters in one answer.
pub const MAX_LETTERS: i64 = 64;
/// Most manifests in one answer about one epoch.
pub const MAX_POINTS: usize = 256;
/// Longest wait for a letter, in seconds.
pub const MAX_WAIT: u64 = 55;

/// Every answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// One of a closed set of words, for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// Last sequence of the mailbox, where the letter did not follow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<i64>,
    /// What is stored, where another text was there first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What a site may store at this vault. Set by the vault's own operator only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// Namespaces whose embassies the site may own here.
    pub namespaces: Vec<String>,
    /// Bytes that each of them may take.
    pub quota_bytes: i64,
    /// The site's signing key, as it is pinned: `ed25519:…`. Without it the site gives nothing up here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// Answer of `/whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhoAmI {
    /// The caller's site.
    pub site: String,
    /// The caller's role.
    pub role: String,
    /// The site that the vault belongs to.
    pub vault_site: String,
}

/// Answer of `/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keys {
    /// The site that the vault belongs to.
    pub site: String,
    /// Its signing key, if it shows one.
    #[serde(default)]
    pub public_key: Option<String>,
    /// Its age recipient, if it shows one.
    #[serde(default)]
    pub recipient: Option<String>,
}

/// One object of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredObject {
    /// SHA-256 of its content, in hex.
    pub name: String,
    /// In bytes.
    pub size: u64,
}

/// One signed manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPoint {
    /// The epoch's slug, `<number>-<site>`.
    pub epoch: String,
    /// From 1 within the epoch.
    pub sequence: i64,
    /// The envelope, exactly as it was put.
    pub text: String,
}

/// How far the points of an epoch go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochPoints {
    /// The epoch's slug, `<number>-<site>`.
    pub epoch: String,
    /// Sequence of its last point.
    pub last: i64,
}

/// The newest order to give recovery points up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredThinning {
    /// From 1, without gaps.
    pub sequence: i64,
    /// The envelope, exactly as it was put.
    pub text: String,
}

/// One embassy that is stored here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEmbassy {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The site that owns it.
    pub owner: String,
}

/// One letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLetter {
    /// From 1, without gaps.
    pub sequence: i64,
    /// The envelope, exactly as it was put.
    pub text: String,
}

/// How far a site's mail goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    /// The site that writes it.
    pub site: String,
    /// Sequence of its last letter.
    pub last: i64,
}
