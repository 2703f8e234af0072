//! What the active site mandates at a site where nobody else owns the `DataEmbassy`: its namespace, and itself.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::context::Context;
use super::error::RunError;
use crate::act::apply::MANAGER;
use crate::api::DataEmbassy;
use crate::api::FENCED_LABEL;
use crate::api::MANAGED_BY;
use crate::observe::post::Correspondence;
use crate::observe::post::PostError;
use crate::plan::mandate::{Mandate, drift};
use crate::trust::signing::PublicKey;

/// Brings the newest mandate of `site` into the cluster.
pub async fn receive(
    context: &Arc<Context>,
    post: &Correspondence,
    site: &str,
    key: &PublicKey,
) -> Result<(), RunError> {
    let mailbox = match post.open(site, key).await {
        Ok(mailbox) => mailbox,
        Err(PostError::Vault(error)) => return Err(RunError::again(&error.to_string())),
        Err(error) => {
            tracing::error!(namespace = post.owner.namespace, name = post.owner.name, %error, "mail refused");
            return Ok(());
        }
    };
    let Some((_, introduced)) = mailbox.mandate else { return Ok(()) };
    let spec = &introduced.mandate.spec;
    // A mandate speaks for its author's own register, and for this site as its embassy; for nothing else.
    if spec.home != site || !spec.embassies.contains(&context.settings.site) {
        tracing::error!(
            namespace = post.owner.namespace,
            name = post.owner.name,
            site,
            "the mandate names another home or another embassy: it is not applied"
        );
        return Ok(());
    }
    namespace(context, &post.owner.namespace).await?;
    apply(context, post, &introduced.mandate).await
}

/// The hosted namespace, made closed: nothing may run in it before this site has the active role.
async fn namespace(context: &Context, name: &str) -> Result<(), RunError> {
    let api: Api<Namespace> = Api::all(context.client.clone());
    let found = api.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await;
    if !found.map_err(|error| RunError::Cluster("read namespaces", error))?.items.is_empty() {
        return Ok(());
    }
    let made = json!({
        "metadata": {"name": name, "labels": {FENCED_LABEL: "true", "app.kubernetes.io/managed-by": MANAGED_BY}},
    });
    let made: Namespace = serde_json::from_value(made).map_err(RunError::defect)?;
    match api.create(&PostParams::default(), &made).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(RunError::Cluster("make the hosted namespace", error)),
    }
}

/// Where people or Git own the object, the mandate is compared, never forced.
async fn apply(context: &Context, post: &Correspondence, mandate: &Mandate) -> Result<(), RunError> {
    let api: Api<DataEmbassy> = Api::namespaced(context.client.clone(), &post.owner.namespace);
    let found = api.get_opt(&post.owner.name).await;
    let found = found.map_err(|error| RunError::Cluster("read the DataEmbassy", error))?;
    if let Some(found) = &found
        && (drift(&found.spec, &mandate.spec).iter().all(|field| *field == APPROVAL) || people_own(found))
    {
        return Ok(());
    }
    let mut wanted = DataEmbassy::new(&post.owner.name, mandate.spec.clone());
    wanted.metadata.labels = Some(post.owner.labels());
    let parameters = PatchParams::apply(MANAGER).force();
    api.patch(&post.owner.name, &parameters, &Patch::Apply(&wanted))
        .await
        .map(|_| ())
        .map_err(|error| RunError::Cluster("apply the mandate", error))
}

/// An approval is given where it is needed, and makes nobody the owner of the rest.
const APPROVAL: &str = "spec.failover.approveDiscard";

/// Whether anybody but this operator wrote the spec.
fn people_own(embassy: &DataEmbassy) -> bool {
    embassy.managed_fields().iter().any(|entry| {
        let written = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:spec"));
        written.is_some_and(|spec| !is_approval(spec))
            && entry.subresource.is_none()
            && entry.manager.as_deref() != Some(MANAGER)
    })
}

/// Whether what a field manager wrote of the spec is an approval to discard, and nothing else.
fn is_approval(spec: &Value) -> bool {
    let only = |fields: &Value, name: &str| {
        fields.as_object().is_some_and(|all| all.keys().all(|key| key == name || key == "."))
    };
    only(spec, "f:failover") && only(&spec["f:failover"], "f:approveDiscard")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(manager: &str, spec: &Value) -> DataEmbassy {
        let entry = json!({"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": spec}});
        serde_json::from_value(json!({
            "metadata": {"name": "land", "managedFields": [entry]},
            "spec": {
                "home": "tallinn", "embassies": ["luxembourg"], "residency": {"allow": ["EE"]},
                "replication": {"rpo": "1h", "driver": {"builtin": {"copyMethod": "Direct"}}},
            },
        }))
        .unwrap()
    }

    #[test]
    fn who_approves_a_discard_does_not_take_the_spec_over() {
        let approval = json!({"f:failover": {"f:approveDiscard": {".": {}, "f:number": {}, "f:site": {}}}});
        assert!(!people_own(&owned("kubectl-embassy", &approval)));
        assert!(!people_own(&owned(MANAGER, &json!({"f:home": {}}))));
        assert!(people_own(&owned("kubectl", &json!({"f:home": {}}))));
        assert!(people_own(&owned("kubectl", &json!({"f:failover": {"f:maxDataLoss": {}}}))));
    }
}
