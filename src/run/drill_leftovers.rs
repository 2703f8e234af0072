//! Namespaces of drills that nobody will end: their Drill was deleted, or the DataEmbassy that it rehearsed.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt, api::ListParams};

use super::context::Context;
use super::error::RunError;
use crate::act;
use crate::api::DRILL_LABEL;
use crate::api::DataEmbassy;
use crate::api::Drill;

/// Removes them.
pub async fn remove(context: &Context) -> Result<(), RunError> {
    let client = &context.client;
    let all = ListParams::default();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let marked = namespaces.list(&all.clone().labels(DRILL_LABEL)).await;
    let marked = marked.map_err(|error| RunError::Cluster("read the namespaces of drills", error))?;
    if marked.items.is_empty() {
        return Ok(());
    }
    let drills = Api::<Drill>::all(client.clone()).list(&all).await;
    let drills = drills.map_err(|error| RunError::Cluster("read Drills", error))?;
    let embassies = Api::<DataEmbassy>::all(client.clone()).list(&all).await;
    let embassies = embassies.map_err(|error| RunError::Cluster("read DataEmbassies", error))?;
    let known: BTreeSet<(Option<String>, String)> =
        embassies.items.iter().map(|embassy| (embassy.namespace(), embassy.name_any())).collect();
    let looked_after: BTreeSet<String> = drills
        .items
        .iter()
        .filter(|drill| {
            !drill.has_ended() && known.contains(&(drill.namespace(), drill.spec.embassy.clone()))
        })
        .filter_map(ResourceExt::uid)
        .collect();
    for namespace in &marked.items {
        let Some(uid) = namespace.labels().get(DRILL_LABEL).filter(|uid| !looked_after.contains(*uid)) else {
            continue;
        };
        tracing::info!(namespace = namespace.name_any(), "removing what is left of a drill");
        act::drill::remove(client, namespace, uid).await?;
    }
    Ok(())
}
