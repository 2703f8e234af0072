//! What a repository is about to lose: still stored and readable, but no new copy may build on it.

use std::{collections::BTreeMap, io, sync::Arc};

use axum::{
    Json,
    response::{IntoResponse, Response},
};

use super::{
    dispatch::{Query, blocking},
    refusal::Refusal,
    rights::Area,
    route::{Place, Slug},
    store::{Store, read_if_any},
};

/// Names of packs, each with the vault's time at which it was condemned.
pub type Condemned = BTreeMap<String, i64>;

/// Reads the list of a repository. Blocking.
pub fn read(store: &dyn Store, object: &str) -> io::Result<Condemned> {
    match read_if_any(store, object)? {
        Some(text) => Ok(serde_json::from_slice(&text)?),
        None => Ok(Condemned::new()),
    }
}

/// Writes the list, if it changed. Blocking.
pub fn write(store: &dyn Store, object: &str, old: &Condemned, new: &Condemned) -> io::Result<()> {
    if old == new { Ok(()) } else { store.replace(object, &serde_json::to_vec(new)?) }
}

/// `GET /repo/{namespace}/{name}/{epoch}/condemned`: the names.
pub async fn list(query: &Query<'_>, place: &Place, slug: &Slug) -> Result<Response, Refusal> {
    let Some(embassy) = query.readable(place, Area::Repository).await? else {
        return Ok(Json(Vec::<String>::new()).into_response());
    };
    let (store, object) = (Arc::clone(&query.vault.store), embassy.condemned(&slug.text()));
    let condemned = blocking(move || Ok(read(&*store, &object)?)).await?;
    Ok(Json(condemned.into_keys().collect::<Vec<_>>()).into_response())
}
