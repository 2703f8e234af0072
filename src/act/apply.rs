//! Server-side apply of what should be, sent only where the cluster differs.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::plan::intent;

/// Field manager of everything that the controller applies.
pub const MANAGER: &str = "dataembassy.io/controller";

/// Why an object could not be brought to what is wanted.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server refused or could not be reached.
    #[error("cannot apply {kind} {name}: {source}")]
    Refused {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What the API server said.
        source: kube::Error,
    },
    /// An object that is no JSON; this is a defect.
    #[error("cannot write {kind} as JSON: {source}")]
    NotJson {
        /// Kind of the object.
        kind: String,
        /// What serde said.
        source: serde_json::Error,
    },
}

/// Kinds that can be applied in a namespace.
pub trait Applicable:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug
{
}

impl<K> Applicable for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
{
}

/// Applies each of `wanted` that `live` does not already hold. Returns how many writes it took.
pub async fn apply<K: Applicable>(
    client: &Client,
    namespace: &str,
    wanted: &[K],
    live: &[K],
) -> Result<usize, ApplyError> {
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let mut writes = 0;
    for object in wanted {
        let name = object.name_any();
        let mut intended = json(object)?;
        intent::stamp(&mut intended);
        let present = live.iter().find(|live| live.name_any() == name).map(json).transpose()?;
        if present.is_some_and(|present| intent::holds(&intended, &present)) {
            continue;
        }
        let parameters = PatchParams::apply(MANAGER).force().validation_strict();
        api.patch(&name, &parameters, &Patch::Apply(&intended))
            .await
            .map_err(|source| refused::<K>(&name, source))?;
        writes += 1;
    }
    Ok(writes)
}

/// Removes those of `live` that are not `wanted`; `live` must hold only objects of the operator's own. Never to be used
/// for anything that holds data. Returns how many writes it took.
pub async fn prune<K: Applicable>(
    client: &Client,
    namespace: &str,
    wanted: &[K],
    live: &[K],
) -> Result<usize, ApplyError> {
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let mut writes = 0;
    for object in live.iter().filter(|live| !wanted.iter().any(|wanted| wanted.name_any() == live.name_any()))
    {
        let name = object.name_any();
        // A newer object of the same name is somebody else's.
        let same = Preconditions { uid: object.uid(), resource_version: None };
        match api.delete(&name, &DeleteParams::background().preconditions(same)).await {
            Ok(_) => writes += 1,
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(source) => return Err(refused::<K>(&name, source)),
        }
    }
    Ok(writes)
}

/// The operator's own objects of a kind that belong to one embassy.
pub async fn owned<K: Applicable>(
    client: &Client,
    namespace: &str,
    embassy: &str,
) -> Result<Vec<K>, ApplyError> {
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let selector = format!(
        "app.kubernetes.io/managed-by={},{}={embassy}",
        crate::api::MANAGED_BY,
        crate::api::EMBASSY_LABEL
    );
    let listed = api.list(&ListParams::default().labels(&selector)).await;
    Ok(listed.map_err(|source| refused::<K>("(list)", source))?.items)
}

fn json<K: Applicable>(object: &K) -> Result<Value, ApplyError> {
    let mut value = serde_json::to_value(object)
        .map_err(|source| ApplyError::NotJson { kind: K::kind(&()).into_owned(), source })?;
    // A list's items carry no type; an apply needs it.
    value["apiVersion"] = Value::String(K::api_version(&()).into_owned());
    value["kind"] = Value::String(K::kind(&()).into_owned());
    Ok(value)
}

fn refused<K: Applicable>(name: &str, source: kube::Error) -> ApplyError {
    ApplyError::Refused { kind: K::kind(&()).into_owned(), name: name.to_owned(), source }
}
