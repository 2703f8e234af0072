//! Whether an object in the cluster already is what is wanted, so that an unchanged intent is not sent again.
//!
//! The intent's hash travels in an annotation: it shows fields that were dropped from the intent, which a comparison of
//! values cannot; the comparison shows drift of the values, which the hash cannot.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Annotation with the hash of the intent that was applied last.
pub const INTENT_ANNOTATION: &str = "dataembassy.io/intent";

/// Puts the hash of `object` into its own annotations.
pub fn stamp(object: &mut Value) {
    let hash = hash(object);
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations =
            metadata.entry("annotations").or_insert_with(|| Value::Object(serde_json::Map::new()));
        annotations[INTENT_ANNOTATION] = Value::String(hash);
    }
}

/// Whether `live` carries all that the stamped `intent` says and was made from this very intent.
#[must_use]
pub fn holds(intent: &Value, live: &Value) -> bool {
    let annotation = |object: &Value| object["metadata"]["annotations"][INTENT_ANNOTATION].clone();
    annotation(intent) == annotation(live) && contains(live, intent)
}

/// Every field of `part` is in `whole` with the same value; lists must be equally long. Empty values count as absent,
/// since the API server drops them.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(key, value)| whole.get(key).map_or(is_empty(value), |present| contains(present, value))),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part))
        }
        (whole, part) => whole == part,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// First half of the SHA-256 of the JSON text; `serde_json` writes maps in the order of their keys.
fn hash(object: &Value) -> String {
    hex::encode(&Sha256::digest(object.to_string().as_bytes())[..16])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stamped(mut object: Value) -> Value {
        stamp(&mut object);
        object
    }

    #[test]
    fn defaults_of_the_server_are_no_drift() {
        let intent = stamped(json!({"metadata": {"name": "a"}, "spec": {"x": 1, "selector": {}}}));
        let mut live = intent.clone();
        live["metadata"]["uid"] = json!("u");
        live["spec"]["defaulted"] = json!(true);
        assert!(holds(&intent, &live));
        live["spec"].as_object_mut().unwrap().remove("selector");
        assert!(holds(&intent, &live), "an empty selector may be dropped");
    }

    #[test]
    fn a_changed_value_is_drift() {
        let intent = stamped(json!({"metadata": {"name": "a"}, "spec": {"rules": [{"port": 1}]}}));
        for changed in [json!([{"port": 2}]), json!([]), json!([{"port": 1}, {"port": 2}])] {
            let mut live = intent.clone();
            live["spec"]["rules"] = changed;
            assert!(!holds(&intent, &live));
        }
    }

    #[test]
    fn a_field_that_the_intent_dropped_is_drift() {
        let before = stamped(json!({"metadata": {"name": "a"}, "spec": {"x": 1, "y": 2}}));
        let after = stamped(json!({"metadata": {"name": "a"}, "spec": {"x": 1}}));
        assert!(!holds(&after, &before));
    }
}
