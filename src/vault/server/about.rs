//! What the vault says of itself and its callers; policies.

use std::{io, path::Path, sync::Arc};

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use crate::trust::identity::Role;
use crate::vault::protocol::{Keys, MAX_DOCUMENT, Policy, WhoAmI};

use super::{
    dispatch::{Query, blocking},
    refusal::Refusal,
    route::is_label,
    upload::Upload,
};

/// `GET /whoami`: for everybody with a certificate, so that a person can see what is wrong with it.
pub fn who_am_i(query: &Query<'_>) -> Response {
    let site = query.peer.site.clone();
    let role = query.peer.role.to_string();
    Json(WhoAmI { site, role, vault_site: query.vault.site.clone() }).into_response()
}

/// `GET /keys`: for every operator, hosted or not, since trust comes before hosting.
pub async fn keys(query: &Query<'_>) -> Result<Response, Refusal> {
    if query.peer.role == Role::Mover {
        return Err(Refusal::NotForMovers);
    }
    let public_key = own_key(query).await?;
    let recipient = optional(&query.vault.tls.join("recipient")).await?;
    Ok(Json(Keys { site: query.vault.site.clone(), public_key, recipient }).into_response())
}

/// The signing key of the vault's own site, if it is shown here.
pub async fn own_key(query: &Query<'_>) -> Result<Option<String>, Refusal> {
    optional(&query.vault.tls.join("site.pub")).await
}

/// `GET /embassies`: for the operator of the vault's own site, which learns here what it hosts.
pub async fn embassies(query: &Query<'_>) -> Result<Response, Refusal> {
    query.caller().set_policy()?;
    if query.vault.store.is_shared() {
        let vault = Arc::clone(query.vault);
        blocking(move || Ok(vault.embassies.look()?)).await?;
    }
    Ok(Json(query.vault.embassies.list()).into_response())
}

/// `PUT /policy/{site}`
pub async fn set_policy(query: &Query<'_>, site: String, upload: &mut Upload) -> Result<Response, Refusal> {
    query.caller().set_policy()?;
    let text = upload.text(MAX_DOCUMENT).await?;
    let policy: Policy = serde_json::from_str(&text)
        .map_err(|error| Refusal::BadRequest(format!("the policy cannot be read: {error}")))?;
    check(query, &site, &policy)?;
    let vault = Arc::clone(query.vault);
    blocking(move || Ok(vault.policies.set(&site, policy)?)).await?;
    Ok(StatusCode::OK.into_response())
}

fn check(query: &Query<'_>, site: &str, policy: &Policy) -> Result<(), Refusal> {
    let bad = |text: String| Err(Refusal::BadRequest(text));
    if site == query.vault.site {
        return bad("the vault's own site needs no policy".to_owned());
    }
    if policy.quota_bytes < 0 {
        return bad("quotaBytes must not be negative".to_owned());
    }
    match policy.namespaces.iter().find(|namespace| !is_label(namespace)) {
        Some(namespace) => bad(format!("'{namespace}' is no name of a namespace")),
        None => Ok(()),
    }
}

async fn optional(path: &Path) -> Result<Option<String>, Refusal> {
    match tokio::fs::read_to_string(path).await {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
