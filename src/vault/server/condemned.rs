//! What a repository is about to lose: still stored and readable, but no new copy may build on it.

use std::{collections::BTreeMap, fs, io, path::Path};

use axum::{
    Json,
    response::{IntoResponse, Response},
};

use super::{
    disk::Workshop,
    dispatch::{Query, blocking},
    refusal::Refusal,
    rights::Area,
    route::{Place, Slug},
};

/// Names of packs, each with the vault's time at which it was condemned.
pub type Condemned = BTreeMap<String, i64>;

/// Reads the list of a repository. Blocking.
pub fn read(file: &Path) -> io::Result<Condemned> {
    match fs::read(file) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Condemned::new()),
        Err(error) => Err(error),
    }
}

/// Writes the list, if it changed. Blocking.
pub fn write(file: &Path, old: &Condemned, new: &Condemned, workshop: &Workshop) -> io::Result<()> {
    if old == new {
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        super::disk::make_folders(folder)?;
    }
    workshop.replace(file, &serde_json::to_vec(new)?)
}

/// `GET /repo/{namespace}/{name}/{epoch}/condemned`: the names.
pub async fn list(query: &Query<'_>, place: &Place, slug: &Slug) -> Result<Response, Refusal> {
    let Some(embassy) = query.readable(place, Area::Repository)? else {
        return Ok(Json(Vec::<String>::new()).into_response());
    };
    let file = embassy.condemned(&slug.text());
    let condemned = blocking(move || Ok(read(&file)?)).await?;
    Ok(Json(condemned.into_keys().collect::<Vec<_>>()).into_response())
}
