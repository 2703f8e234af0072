//! Embassies that nothing is done for, and why.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt, api::ListParams};

use super::context::Context;
use super::error::RunError;
use super::parties::Parties;
use crate::act;
use crate::api::DataEmbassy;
use crate::api::Site;
use crate::api::conditions::ConditionType;
use crate::api::conditions::Finding;
use crate::api::conditions::merge;
use crate::api::data_embassy::DataEmbassyStatus;

/// The `DataEmbassy` that was in the namespace before this one, if there is one.
pub(super) async fn older(context: &Context, embassy: &DataEmbassy) -> Result<Option<String>, RunError> {
    let api: Api<DataEmbassy> =
        Api::namespaced(context.client.clone(), &embassy.namespace().unwrap_or_default());
    let all = api.list(&ListParams::default()).await;
    let all = all.map_err(|error| RunError::Cluster("read DataEmbassies", error))?;
    let age = |embassy: &DataEmbassy| (embassy.creation_timestamp(), embassy.name_any());
    let first = all.items.iter().min_by_key(|other| age(other)).map(ResourceExt::name_any);
    Ok(first.filter(|first| *first != embassy.name_any()))
}

/// Every named site must stand where the data may lie; also checked at admission, where Sites may be missing.
pub(super) fn residency(
    embassy: &DataEmbassy,
    parties: &Parties,
    sites: &BTreeMap<String, Site>,
) -> Option<String> {
    let allowed = &embassy.spec.residency.allow;
    for name in std::iter::once(&parties.me).chain(&parties.others) {
        match sites.get(name) {
            None => {
                return Some(format!(
                    "there is no Site {name} here: apply it, so that its jurisdiction is known"
                ));
            }
            Some(site) if !allowed.contains(&site.spec.jurisdiction) => {
                return Some(format!(
                    "Site {name} stands in {}, which spec.residency.allow does not list: nothing is copied or switched",
                    site.spec.jurisdiction.0
                ));
            }
            Some(_) => {}
        }
    }
    None
}

/// Says why nothing is done.
pub(super) async fn stop(
    context: &Context,
    embassy: &DataEmbassy,
    reason: &'static str,
    message: &str,
) -> Result<Duration, RunError> {
    let namespace = embassy.namespace().unwrap_or_default();
    let api: Api<DataEmbassy> = Api::namespaced(context.client.clone(), &namespace);
    let generation = embassy.metadata.generation.unwrap_or_default();
    let old = embassy.status.clone().unwrap_or_default();
    let findings = [
        Finding::new(ConditionType::Ready, false, reason, message),
        Finding::new(ConditionType::Reconciling, false, reason, "nothing is done"),
        Finding::new(ConditionType::Stalled, true, reason, message),
    ];
    let status = DataEmbassyStatus {
        observed_generation: Some(generation),
        conditions: merge(&old.conditions, &findings, generation, Timestamp::now()),
        ..old
    };
    act::report::status(&api, embassy, embassy.status.as_ref(), &status).await?;
    Ok(Duration::from_secs(30))
}
