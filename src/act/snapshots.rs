//! Asks for the snapshots of a copy, and for volumes made of them.

use std::fmt::Debug;

use k8s_openapi::{NamespaceResourceScope, api::core::v1::PersistentVolumeClaim};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::api::GROUP_LABEL;

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

/// Labels the claims that are to be snapshotted together: groups are made by labels only.
pub async fn gather(
    client: &Client,
    embassy: &str,
    claims: &[PersistentVolumeClaim],
) -> Result<(), SnapshotError> {
    let gathered =
        |claim: &&PersistentVolumeClaim| claim.labels().get(GROUP_LABEL).is_some_and(|of| of == embassy);
    for claim in claims.iter().filter(|claim| !gathered(claim)) {
        let api: Api<PersistentVolumeClaim> =
            Api::namespaced(client.clone(), &claim.namespace().unwrap_or_default());
        let label = json!({"metadata": {"uid": claim.uid(), "labels": {GROUP_LABEL: embassy}}});
        let labelled = api.patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(label)).await;
        labelled.map_err(|source| SnapshotError::Api {
            kind: "the label of claim".to_owned(),
            name: claim.name_any(),
            source,
        })?;
    }
    Ok(())
}
