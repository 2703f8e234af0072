//! The objects that should exist, one file per concern.

pub mod drill;
pub mod fence;
pub mod first_copy;
pub mod jobs;
pub mod network;
pub mod rbac;
pub mod storage;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{EMBASSY_LABEL, MANAGED_BY};

/// The `DataEmbassy` that an object is made for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Namespace of the `DataEmbassy`, which is the protected one.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Owner {
    /// Labels of everything that the operator makes for this embassy.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("app.kubernetes.io/managed-by".to_owned(), MANAGED_BY.to_owned()),
            (EMBASSY_LABEL.to_owned(), self.name.clone()),
        ])
    }

    /// Metadata of an object in the protected namespace, called `<embassy>-<suffix>`.
    #[must_use]
    pub fn metadata(&self, suffix: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(format!("{}-{suffix}", self.name)),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        }
    }
}
