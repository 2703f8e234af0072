//! Applies the captured objects of a recovery point. All are tried; one that is refused fails the run by name.

pub mod order;

use std::time::Duration;

use kube::{
    Api, Client, Discovery, Error,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::Value;

use super::{
    capture::OBJECTS_FILE,
    engine::{Engine, Node, Reader},
    failure::Failure,
    outcome::ActivateDone,
};

/// Owner of the fields in server-side apply.
const MANAGER: &str = "dataembassy.io/activate";
/// Waits between tries; admission webhooks of the cluster may only just be starting.
const WAITS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
];

/// The captured objects of a snapshot; their number must be the manifest's.
pub fn read_objects(engine: Engine, snapshot: &str, expected: u64) -> Result<Vec<Value>, Failure> {
    let reader = engine.reader()?;
    let root = reader.tree(reader.snapshot(snapshot)?)?;
    let Some(file) = find(&reader, &root)? else {
        return Err(Failure::Mismatch("it holds no objects".to_owned()));
    };
    let mut text = vec![];
    for chunk in file.content.unwrap_or_default() {
        text.extend_from_slice(&reader.chunk(chunk)?);
    }
    let objects: Vec<Value> = serde_json::from_slice(&text)
        .map_err(|error| Failure::Damaged(format!("the captured objects are unreadable: {error}")))?;
    if objects.len() as u64 == expected {
        Ok(objects)
    } else {
        Err(Failure::Mismatch(format!("expected {expected} objects, found {}", objects.len())))
    }
}

fn find(reader: &Reader, root: &[Node]) -> Result<Option<Node>, Failure> {
    let folder = root.iter().find(|node| *node.name() == *"objects").and_then(|node| node.subtree);
    let Some(folder) = folder else { return Ok(None) };
    Ok(reader.tree(folder)?.into_iter().find(|node| *node.name() == *OBJECTS_FILE))
}

/// Applies objects to a namespace.
pub async fn activate(
    client: &Client,
    namespace: &str,
    mut objects: Vec<Value>,
) -> Result<ActivateDone, Failure> {
    let unreachable = |error: Error| Failure::Internal(format!("the API server does not answer: {error}"));
    let discovery = Discovery::new(client.clone()).run_aggregated().await.map_err(unreachable)?;
    order::sort(&mut objects);
    let mut refused = vec![];
    for object in &objects {
        if let Err(why) = apply(client, &discovery, namespace, object).await {
            tracing::warn!(object = name(object), why, "refused");
            refused.push(format!("{}: {why}", name(object)));
        }
    }
    if refused.is_empty() {
        Ok(ActivateDone { applied: objects.len() as u64 })
    } else {
        Err(Failure::Refused(refused))
    }
}

async fn apply(
    client: &Client,
    discovery: &Discovery,
    namespace: &str,
    object: &Value,
) -> Result<(), String> {
    let kind =
        resolve(discovery, object).ok_or("this cluster does not know its kind; install its API first")?;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
    let object_name = object["metadata"]["name"].as_str().unwrap_or_default();
    let parameters = PatchParams::apply(MANAGER).force();
    let mut waits = WAITS.iter();
    loop {
        let Err(error) = api.patch(object_name, &parameters, &Patch::Apply(object)).await else {
            return Ok(());
        };
        match waits.next().filter(|_| may_pass(&error)) {
            Some(wait) => tokio::time::sleep(*wait).await,
            None => return Err(explain(error)),
        }
    }
}

fn resolve(discovery: &Discovery, object: &Value) -> Option<ApiResource> {
    let (group, version) = match object["apiVersion"].as_str()?.split_once('/') {
        Some(parts) => parts,
        None => ("", object["apiVersion"].as_str()?),
    };
    let kind = GroupVersionKind::gvk(group, version, object["kind"].as_str()?);
    discovery.resolve_gvk(&kind).map(|(kind, _)| kind)
}

/// Whether another try may succeed: the server is busy or starting, or another writer came between.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Api(status) => matches!(status.code, 408 | 409 | 429 | 500..),
        Error::HyperError(_) | Error::Service(_) => true,
        _ => false,
    }
}

fn explain(error: Error) -> String {
    match error {
        Error::Api(status) => status.message,
        error => error.to_string(),
    }
}

/// For people: `apps/v1 Deployment db`.
fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{} {} {}", text(&object["apiVersion"]), text(&object["kind"]), text(&object["metadata"]["name"]))
}
