//! The mandate: what the active site tells the embassy in signed mail, so that a takeover needs nothing else.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::desired::storage::ClaimDeclaration;
use crate::api::data_embassy::DataEmbassySpec;

/// Version of the payload; a reader that does not know it stops and says so.
pub const MANDATE_VERSION: i64 = if cfg!(feature = "next-version") { 2 } else { 1 };

/// What the active site mandates. Orders are not in it: each site acts on orders created at it.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mandate {
    /// `MANDATE_VERSION` of the writer.
    pub version: i64,
    /// The spec in force at the active site.
    pub spec: DataEmbassySpec,
    /// The protected claims there.
    pub claims: Vec<ClaimDeclaration>,
    /// The keys of the repositories that the reader may need.
    pub keys: Vec<SealedKey>,
}

/// A repository's key, sealed to one site's age recipient.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SealedKey {
    /// Epoch of the repository, such as `1/tallinn`.
    pub epoch: String,
    /// The site that can open it.
    pub site: String,
    /// The key, as armored age file.
    pub sealed: String,
}

/// Fields in which two specs differ, as paths such as `spec.replication.rpo`; at most ten, which is enough to act on.
#[must_use]
pub fn drift(here: &DataEmbassySpec, mandated: &DataEmbassySpec) -> Vec<String> {
    let mut paths = vec![];
    compare("spec", &json(here), &json(mandated), &mut paths);
    paths.truncate(10);
    paths
}

fn json(spec: &DataEmbassySpec) -> Value {
    serde_json::to_value(spec).unwrap_or_default()
}

fn compare(path: &str, one: &Value, other: &Value, paths: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let absent = Value::Null;
                let (one, other) = (one.get(key).unwrap_or(&absent), other.get(key).unwrap_or(&absent));
                compare(&format!("{path}.{key}"), one, other, paths);
            }
        }
        _ if one != other => paths.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::plan) fn spec() -> DataEmbassySpec {
        serde_json::from_value(json!({
            "home": "tallinn",
            "embassies": ["luxembourg"],
            "replication": {"rpo": "15m", "driver": {"builtin": {"copyMethod": "Direct"}}},
            "residency": {"allow": ["EE", "LU"]},
        }))
        .unwrap()
    }

    #[test]
    fn equal_specs_do_not_drift() {
        assert!(drift(&spec(), &spec()).is_empty());
    }

    #[test]
    fn drift_names_the_fields() {
        let mut other = spec();
        other.replication.rpo = "1h".to_owned();
        other.network.isolate = false;
        assert_eq!(drift(&spec(), &other), ["spec.network.isolate", "spec.replication.rpo"]);
    }

    #[test]
    fn a_field_on_one_side_only_drifts() {
        let mut other = spec();
        other.storage.classes.insert("fast".to_owned(), "slow".to_owned());
        assert_eq!(drift(&spec(), &other), ["spec.storage.classes"]);
    }

    #[test]
    fn a_mandate_with_an_unknown_field_is_refused() {
        let mut value =
            serde_json::to_value(Mandate { version: 1, spec: spec(), claims: vec![], keys: vec![] }).unwrap();
        value["surprise"] = json!(1);
        assert!(serde_json::from_value::<Mandate>(value).is_err());
    }
}
