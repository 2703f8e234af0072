//! The CustomResourceDefinitions as files: one writer, so that the committed ones can be compared byte by byte.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// Every definition of ours, in the order of the design.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    [
        super::Site::crd(),
        super::DataEmbassy::crd(),
        super::RecoveryPoint::crd(),
        super::Failover::crd(),
        super::FailoverRecord::crd(),
        super::Drill::crd(),
    ]
    .into_iter()
    .map(keep_on_uninstall)
    .collect()
}

/// Writing YAML failed; this is a defect, since the definitions are built in.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the definition of {name} as YAML: {source}")]
pub struct WriteError {
    name: String,
    source: serde_yaml::SerializeError,
}

/// File name below `crds/` and content of each definition.
pub fn files() -> Result<Vec<(String, String)>, WriteError> {
    all()
        .into_iter()
        .map(|definition| {
            let name = definition.metadata.name.clone().unwrap_or_default();
            let text = serde_yaml::to_string(&definition)
                .map_err(|source| WriteError { name: name.clone(), source })?;
            Ok((format!("{name}.yaml"), text))
        })
        .collect()
}

/// Prints all definitions as one YAML stream.
pub fn print() -> Result<(), WriteError> {
    for (_, text) in files()? {
        println!("---\n{text}");
    }
    Ok(())
}

/// Removing a definition removes every object of its kind, so Helm is told to leave them.
fn keep_on_uninstall(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let annotations = definition.metadata.annotations.get_or_insert_default();
    annotations.insert("helm.sh/resource-policy".to_owned(), "keep".to_owned());
    definition
}
