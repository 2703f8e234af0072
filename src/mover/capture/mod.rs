//! Captures the objects of a namespace, all or none, in a form that another cluster accepts.

pub mod select;
pub mod strip;

use std::{fs, path::Path};

use kube::{
    Api, Client, Discovery,
    api::{DynamicObject, ListParams},
    core::ApiResource,
};
use serde_json::Value;

use self::{
    select::{is_captured, is_captured_kind, kind_name},
    strip::strip,
};
use super::failure::Failure;

/// Name of the file with the captured objects, within the folder of that name in the snapshot.
pub const OBJECTS_FILE: &str = "objects.json";

/// Captures a namespace into a folder; answers how many objects there are.
pub async fn capture(
    client: &Client,
    namespace: &str,
    excluded: &[String],
    folder: &Path,
) -> Result<u64, Failure> {
    let mut objects = vec![];
    for kind in kinds(client, excluded).await? {
        objects.extend(list(client, namespace, &kind).await?);
    }
    objects.sort_by_key(identity);
    let path = folder.join(OBJECTS_FILE);
    let text = serde_json::to_vec(&objects).map_err(|error| Failure::Internal(error.to_string()))?;
    fs::create_dir_all(folder).map_err(|error| Failure::writing(folder, error))?;
    fs::write(&path, text).map_err(|error| Failure::writing(&path, error))?;
    Ok(objects.len() as u64)
}

/// What an object is called within its namespace.
#[must_use]
pub fn identity(object: &Value) -> (String, String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&object["apiVersion"]), text(&object["kind"]), text(&object["metadata"]["name"]))
}

async fn kinds(client: &Client, excluded: &[String]) -> Result<Vec<ApiResource>, Failure> {
    let failed = |error: kube::Error| Failure::Capture {
        kind: "the kinds of the API server".to_owned(),
        message: error.to_string(),
    };
    let discovery = Discovery::new(client.clone()).run_aggregated().await.map_err(failed)?;
    // Every kind once, at its most stable version.
    let all = discovery.groups().flat_map(kube::discovery::ApiGroup::resources_by_stability);
    Ok(all
        .filter(|(kind, capabilities)| is_captured_kind(kind, capabilities, excluded))
        .map(|(kind, _)| kind)
        .collect())
}

async fn list(client: &Client, namespace: &str, kind: &ApiResource) -> Result<Vec<Value>, Failure> {
    let failed = |message: String| Failure::Capture { kind: kind_name(&kind.group, &kind.kind), message };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, kind);
    let found = api.list(&ListParams::default()).await.map_err(|error| failed(error.to_string()))?;
    let mut captured = vec![];
    for object in found {
        let mut object = serde_json::to_value(object).map_err(|error| failed(error.to_string()))?;
        // Objects of a list do not say what they are.
        object["apiVersion"] = kind.api_version.clone().into();
        object["kind"] = kind.kind.clone().into();
        if is_captured(&object) {
            strip(&mut object);
            captured.push(object);
        }
    }
    Ok(captured)
}
