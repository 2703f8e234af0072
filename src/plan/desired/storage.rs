//! Standby volumes: claims like the ones at the active site, in this cluster's storage classes. They are only ever made
//! or grown, never shrunk, replaced or removed: they may hold the last good copy.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube_quantity::ParsedQuantity;
use serde::{Deserialize, Serialize};

use super::Owner;
use crate::api::data_embassy::Storage;

/// A protected claim, as the active site's mandate declares it.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimDeclaration {
    /// Name of the claim, the same at every site.
    pub name: String,
    /// Requested size.
    pub size: Quantity,
    /// Storage class at the declaring site, if it is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// Such as `ReadWriteOnce`.
    pub access_modes: Vec<String>,
    /// The user's labels of the claim.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Why a claim cannot be made here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The host does not offer the class to that peer.
    #[error(
        "claim {claim} needs storage class '{class}' here, which Site.spec.hosting.storageClasses does not list: \
         map it in DataEmbassy.spec.storage.classes or let the host add it"
    )]
    ClassNotHosted {
        /// Name of the claim.
        claim: String,
        /// Class after mapping.
        class: String,
    },
    /// A size that cannot be read.
    #[error("claim {claim} asks for '{size}', which is not a quantity such as 10Gi")]
    InvalidSize {
        /// Name of the claim.
        claim: String,
        /// The text.
        size: String,
    },
}

/// What decides the standby claims.
#[derive(Debug, Clone)]
pub struct StorageIntent<'a> {
    /// For whom.
    pub owner: &'a Owner,
    /// What the active site declares.
    pub declared: &'a [ClaimDeclaration],
    /// The user's class map.
    pub storage: &'a Storage,
    /// Classes that this host offers; empty means any.
    pub hosted_classes: &'a [String],
    /// Sizes of the claims that exist here.
    pub existing: &'a BTreeMap<String, Quantity>,
}

/// The claims to apply. A claim that exists is named only if it must grow.
pub fn claims(intent: &StorageIntent) -> Result<Vec<PersistentVolumeClaim>, StorageError> {
    let mut made = vec![];
    for declared in intent.declared {
        let class = declared
            .storage_class
            .as_ref()
            .map(|home| intent.storage.classes.get(home).unwrap_or(home).clone());
        if let Some(class) = &class
            && !intent.hosted_classes.is_empty()
            && !intent.hosted_classes.contains(class)
        {
            return Err(StorageError::ClassNotHosted { claim: declared.name.clone(), class: class.clone() });
        }
        let wanted = parse(declared, &declared.size)?;
        match intent.existing.get(&declared.name) {
            Some(size) if wanted <= parse(declared, size)? => {}
            _ => made.push(claim(intent.owner, declared, class)),
        }
    }
    Ok(made)
}

fn parse(declared: &ClaimDeclaration, size: &Quantity) -> Result<ParsedQuantity, StorageError> {
    ParsedQuantity::try_from(size)
        .map_err(|_| StorageError::InvalidSize { claim: declared.name.clone(), size: size.0.clone() })
}

fn claim(owner: &Owner, declared: &ClaimDeclaration, class: Option<String>) -> PersistentVolumeClaim {
    let mut labels = declared.labels.clone();
    labels.extend(owner.labels());
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(declared.name.clone()),
            namespace: Some(owner.namespace.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(declared.access_modes.clone()),
            storage_class_name: class,
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), declared.size.clone())])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(size: &str) -> ClaimDeclaration {
        ClaimDeclaration {
            name: "data".to_owned(),
            size: Quantity(size.to_owned()),
            storage_class: Some("fast-ssd".to_owned()),
            access_modes: vec!["ReadWriteOnce".to_owned()],
            labels: BTreeMap::new(),
        }
    }

    fn plan(
        size: &str,
        existing: Option<&str>,
        hosted: &[&str],
    ) -> Result<Vec<PersistentVolumeClaim>, StorageError> {
        let owner = Owner { namespace: "registers".to_owned(), name: "land".to_owned() };
        let storage = Storage { classes: BTreeMap::from([("fast-ssd".to_owned(), "local-path".to_owned())]) };
        let existing = existing.map(|s| ("data".to_owned(), Quantity(s.to_owned()))).into_iter().collect();
        let hosted: Vec<String> = hosted.iter().map(ToString::to_string).collect();
        claims(&StorageIntent {
            owner: &owner,
            declared: &[declared(size)],
            storage: &storage,
            hosted_classes: &hosted,
            existing: &existing,
        })
    }

    #[test]
    fn the_class_is_mapped() {
        let made = plan("1Gi", None, &[]).unwrap();
        assert_eq!(made[0].spec.as_ref().unwrap().storage_class_name.as_deref(), Some("local-path"));
    }

    #[test]
    fn a_claim_grows_and_never_shrinks() {
        assert_eq!(plan("2Gi", Some("1Gi"), &[]).unwrap().len(), 1);
        assert_eq!(plan("1024Mi", Some("1Gi"), &[]).unwrap().len(), 0);
        assert_eq!(plan("500Mi", Some("1Gi"), &[]).unwrap().len(), 0);
    }

    #[test]
    fn a_class_that_is_not_hosted_is_named() {
        let error = plan("1Gi", None, &["slow"]).unwrap_err();
        assert!(error.to_string().contains("'local-path'"), "{error}");
        assert!(plan("1Gi", None, &["local-path"]).is_ok());
    }

    #[test]
    fn a_size_that_is_none_is_named() {
        assert!(matches!(plan("big", None, &[]), Err(StorageError::InvalidSize { .. })));
    }
}
