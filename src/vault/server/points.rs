//! Signed manifests of recovery points: put once, when all that they need is here, and never changed.

use std::{
    io,
    path::Path,
    sync::{Arc, PoisonError},
};

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use crate::api::epoch::{Epoch, PointRef};
use crate::vault::protocol::{EpochPoints, MAX_DOCUMENT, MAX_POINTS, StoredPoint};

use super::{
    completeness,
    disk::{Published, names_in, text_of},
    dispatch::{Query, blocking},
    embassy::Reservation,
    refusal::Refusal,
    rights::Area,
    route::{Place, Slug},
    thinnings::read_newest,
    upload::Upload,
};

/// `PUT /points/{namespace}/{name}/{epoch}/{sequence}`
pub async fn put(
    query: &Query<'_>,
    place: &Place,
    slug: &Slug,
    sequence: i64,
    upload: &mut Upload,
) -> Result<Response, Refusal> {
    let (embassy, quota) = query.writable(place, Area::Points, &slug.site).await?;
    let text = upload.text(MAX_DOCUMENT).await?;
    let mut space = Reservation::new(&embassy, quota);
    let (target, repository) = (embassy.point(slug, sequence), embassy.repository(slug));
    let (vault, held) = (Arc::clone(query.vault), Arc::clone(&embassy));
    let epoch = Epoch::new(slug.number, slug.site.clone());
    let (orders, point) = (embassy.thinnings(), PointRef { epoch, sequence });
    let published = blocking(move || {
        // The same document again needs no space, so a full quota must not refuse it.
        let _committing = held.committing.lock().unwrap_or_else(PoisonError::into_inner);
        if !target.exists() {
            // What was given up is a link of the chain, and no recovery point any more.
            if !is_given_up(&orders, &point)? {
                completeness::check(&text, &repository)?;
            }
            space.grow(text.len() as u64)?;
            if vault.workshop.create(&target, text.as_bytes())? == Published::New {
                space.keep();
                return Ok(Published::New);
            }
        }
        let stored = text_of(&target)?;
        if stored == text { Ok(Published::Exists) } else { Err(Refusal::Different { text: stored }) }
    })
    .await?;
    query.vault.metrics.stored(place, embassy.used());
    Ok(match published {
        Published::New => StatusCode::CREATED.into_response(),
        Published::Exists => StatusCode::OK.into_response(),
    })
}

fn is_given_up(orders: &Path, point: &PointRef) -> Result<bool, Refusal> {
    Ok(read_newest(orders)?.is_some_and(|(order, _)| order.gives_up(point)))
}

/// `GET /points/{namespace}/{name}/{epoch}/{sequence}`
pub async fn get(query: &Query<'_>, place: &Place, slug: &Slug, sequence: i64) -> Result<Response, Refusal> {
    let what = format!("recovery point {}/{sequence}", slug.text());
    let Some(embassy) = query.readable(place, Area::Points)? else {
        return Err(Refusal::NotFound(what));
    };
    let path = embassy.point(slug, sequence);
    let text = blocking(move || text_of(&path).map_err(Refusal::reading(&what))).await?;
    Ok(Json(StoredPoint { epoch: slug.text(), sequence, text }).into_response())
}

/// `GET /points/{namespace}/{name}`, with `?epoch=` the next ones of one epoch, with `?after=` after that sequence only.
pub async fn list(query: &Query<'_>, place: &Place) -> Result<Response, Refusal> {
    let Some(embassy) = query.readable(place, Area::Points)? else {
        return Ok(Json(Vec::<StoredPoint>::new()).into_response());
    };
    let after = query.number("after", 0)?;
    let epoch = query.parameter("epoch").map(str::to_owned);
    let folder = embassy.points();
    let points = blocking(move || Ok(read_all(&folder, epoch.as_deref(), after)?)).await?;
    Ok(Json(points).into_response())
}

/// `GET /epochs/{namespace}/{name}`: each epoch that has points, with the sequence of its last.
pub async fn epochs(query: &Query<'_>, place: &Place) -> Result<Response, Refusal> {
    let Some(embassy) = query.readable(place, Area::Points)? else {
        return Ok(Json(Vec::<EpochPoints>::new()).into_response());
    };
    let folder = embassy.points();
    let found = blocking(move || Ok(last_of_each(&folder)?)).await?;
    Ok(Json(found).into_response())
}

fn last_of_each(folder: &Path) -> io::Result<Vec<EpochPoints>> {
    let mut found = vec![];
    for name in names_in(folder)?.into_iter().filter(|name| Slug::parse(name).is_some()) {
        let files = names_in(&folder.join(&name))?;
        let last = files.iter().filter_map(|file| file.strip_suffix(".json")?.parse().ok()).max();
        found.extend(last.map(|last| EpochPoints { epoch: name, last }));
    }
    Ok(found)
}

/// In the order of all points: by epoch, then by sequence.
fn read_all(folder: &Path, epoch: Option<&str>, after: u64) -> io::Result<Vec<StoredPoint>> {
    let names = names_in(folder)?;
    let mut slugs: Vec<Slug> = names.iter().filter_map(|name| Slug::parse(name)).collect();
    slugs.retain(|slug| epoch.is_none_or(|epoch| slug.text() == epoch));
    slugs.sort_by(|a, b| (a.number, &a.site).cmp(&(b.number, &b.site)));
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut points = vec![];
    for slug in slugs {
        let folder = folder.join(slug.text());
        let names = names_in(&folder)?;
        let mut sequences: Vec<i64> =
            names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect();
        sequences.retain(|sequence| *sequence > after);
        sequences.sort_unstable();
        if epoch.is_some() {
            sequences.truncate(MAX_POINTS);
        }
        for sequence in sequences {
            let text = text_of(&folder.join(format!("{sequence}.json")))?;
            points.push(StoredPoint { epoch: slug.text(), sequence, text });
        }
    }
    Ok(points)
}
