//! Asks for the snapshots of a copy, and for volumes made of them.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};

/// Why an object of a copy could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The API server refused or could not be reached.
    #[error("cannot make {kind} {name}: {source}")]
    Api {
        /// Such as `VolumeSnapshot`.
        kind: String,
        /// Its name.
        name: String,
        /// What the API server said.
        source: kube::Error,
    },
    /// Somebody else has an object of that name, which must not be copied as if it were the register's.
    #[error("{kind} {name} is there already and is none of this copy: remove it; the copy is tried again")]
    NotOurs {
        /// Such as `VolumeSnapshot`.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// Makes those that are not there yet. One of an earlier attempt of the same Job is the same.
pub async fn make<K>(client: &Client, wanted: &[K]) -> Result<(), SnapshotError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    for object in wanted {
        let (kind, name) = (K::kind(&()).into_owned(), object.name_any());
        let failed = |source| SnapshotError::Api { kind: kind.clone(), name: name.clone(), source };
        let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
        match api.create(&PostParams::default(), object).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let named = ListParams::default().fields(&format!("metadata.name={name}"));
                let there = api.list(&named).await.map_err(failed)?;
                if !there.items.iter().all(|there| there.owner_references() == object.owner_references()) {
                    return Err(SnapshotError::NotOurs { kind, name });
                }
            }
            Err(source) => return Err(failed(source)),
        }
    }
    Ok(())
}
