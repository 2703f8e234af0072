//! Which ways of taking snapshots this cluster has.

use kube::{
    Api, Client, ResourceExt,
    api::ListParams,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};

/// Annotation of a class that is used where none is named.
const DEFAULT: &str = "snapshot.storage.kubernetes.io/is-default-class";

/// A `VolumeSnapshotClass`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotClass {
    /// Its name.
    pub name: String,
    /// Whether it is used where none is named.
    pub is_default: bool,
    /// `Delete` or `Retain`.
    pub deletion_policy: String,
}

/// The classes; none at all if the cluster does not know snapshots.
pub async fn classes(client: &Client) -> Result<Option<Vec<SnapshotClass>>, kube::Error> {
    let kind = GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", "VolumeSnapshotClass");
    let resource = ApiResource::from_gvk_with_plural(&kind, "volumesnapshotclasses");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    match api.list(&ListParams::default()).await {
        Ok(list) => Ok(Some(list.items.iter().map(class).collect())),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn class(object: &DynamicObject) -> SnapshotClass {
    SnapshotClass {
        name: object.name_any(),
        is_default: object.annotations().get(DEFAULT).is_some_and(|text| text == "true"),
        deletion_policy: object.data["deletionPolicy"].as_str().unwrap_or_default().to_owned(),
    }
}
