//! What sites write to each other in signed mail.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::{failover::Document, mandate::Mandate, renewal::Renewal, verification::Checked};
use crate::api::epoch::PointRef;

/// The body of one letter.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Namespace and name of the `DataEmbassy`: a letter of one says nothing about another.
    pub embassy: String,
    /// What is said.
    pub says: Says,
}

/// What a letter says.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub enum Says {
    /// What a site says of itself.
    Report(Box<Report>),
    /// What the active site asks of the other one.
    Mandate(Box<Introduced>),
}

/// A snapshot of the author's record, and a sign of life.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// When it was written, by the author's clock; for people only.
    pub time: Time,
    /// Sequence of the author's last mandate in the same mailbox; 0 for none.
    pub mandate: i64,
    /// What the protocol stands on.
    pub document: Document,
    /// The author's newest committed recovery point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<PointRef>,
    /// The newest point that the author has restored, every blob checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<PointRef>,
    /// The author's last verification of all that its own vault holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Checked>,
    /// From home to an embassy: the newest report of every other embassy, which the reader has no other way to get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enclosed: Vec<Enclosure>,
    /// What is asked and answered about client certificates, by the site that is addressed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub certificates: BTreeMap<String, Renewal>,
}

/// A letter of another site, passed on as its author signed it.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Enclosure {
    /// The author.
    pub site: String,
    /// The signing key of the author that home has pinned, for a reader that has not pinned any yet.
    pub public_key: String,
    /// Recipient for what is sealed to the author, likewise.
    pub recipient: String,
    /// The signed letter.
    pub letter: String,
}

/// A mandate, with the keys of its author: a reader that has not pinned any yet takes these.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Introduced {
    /// Signing key of the author, `ed25519:…`.
    pub public_key: String,
    /// Recipient for what is sealed to the author, `age1…`.
    pub recipient: String,
    /// What is asked.
    pub mandate: Mandate,
}
