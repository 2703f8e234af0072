//! Status and events: written only when they say something new.

use k8s_openapi::{api::core::v1::ObjectReference, jiff::Timestamp};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::apply::MANAGER;

/// Why a status could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the status of {kind} {name}: {source}")]
pub struct ReportError {
    kind: String,
    name: String,
    source: kube::Error,
}

/// Patches the status if it differs from `old`. Returns whether it was written. An object that is gone has none.
pub async fn status<K, S>(api: &Api<K>, object: &K, old: Option<&S>, new: &S) -> Result<bool, ReportError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    S: Serialize + PartialEq,
{
    if old == Some(new) {
        return Ok(false);
    }
    let name = object.name_any();
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name},
        "status": serde_json::to_value(new).unwrap_or(Value::Null),
    });
    let parameters = PatchParams::apply(MANAGER).force();
    match api.patch_status(&name, &parameters, &Patch::Apply(&patch)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        Err(source) => Err(ReportError { kind: K::kind(&()).into_owned(), name, source }),
    }
}

/// Tells people what happened, beside the object. A lost event is no harm, so a failure is only logged.
pub async fn event(
    client: &Client,
    about: ObjectReference,
    warning: bool,
    reason: &str,
    action: &str,
    note: &str,
) {
    let reporter = Reporter { controller: MANAGER.to_owned(), instance: None };
    let event = Event {
        type_: if warning { EventType::Warning } else { EventType::Normal },
        reason: reason.to_owned(),
        // The API server takes at most 1 kB.
        note: Some(note.chars().take(1000).collect()),
        action: action.to_owned(),
        secondary: None,
    };
    if let Err(error) = Recorder::new(client.clone(), reporter).publish(&event, &about).await {
        tracing::debug!(%error, reason, "an event was not taken");
    }
}

/// Now, by this site's clock.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::now()
}
