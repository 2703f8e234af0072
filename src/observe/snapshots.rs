//! Which ways of taking snapshots this cluster has.

use kube::{
    Api, Client, ResourceExt,
    api::ListParams,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};

use crate::plan::snapshots::SnapshotClass;

/// Annotation of a class that is used where none is named.
const DEFAULT: &str = "snapshot.storage.kubernetes.io/is-default-class";

/// The classes, for snapshots of a volume or of a group of them; none at all if the cluster does not know such snapshots.
pub async fn classes(client: &Client, of_groups: bool) -> Result<Option<Vec<SnapshotClass>>, kube::Error> {
    let (group, kind, plural) = if of_groups {
        ("groupsnapshot.storage.k8s.io", "VolumeGroupSnapshotClass", "volumegroupsnapshotclasses")
    } else {
        ("snapshot.storage.k8s.io", "VolumeSnapshotClass", "volumesnapshotclasses")
    };
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural);
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
