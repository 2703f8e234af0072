//! Signed manifests of recovery points: put once, when all that they need is here, and never changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
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
    Vault, completeness, condemned,
    disk::Published,
    dispatch::{Query, blocking},
    embassy::{Embassy, Reservation},
    refusal::Refusal,
    rights::Area,
    route::{Place, Slug},
    store::{Store, exists, numbers_below, same, text_of},
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
    let (orders, point, slug) = (embassy.thinnings(), PointRef { epoch, sequence }, slug.text());
    let published = blocking(move || {
        let store = &*vault.store;
        // The same document again needs no space, so a full quota must not refuse it.
        let _committing = held.committing.lock().unwrap_or_else(PoisonError::into_inner);
        if !exists(store, &target)? {
            // What was given up is a link of the chain, and no recovery point any more.
            if !is_given_up(store, &orders, &point)? {
                completeness::check(&text, store, &repository, &going(&vault, &held, &slug)?)?;
            }
            space.grow(text.len() as u64)?;
            if store.create(&target, text.as_bytes())? == Published::New {
                space.keep();
                return Ok(Published::New);
            }
        }
        same(store, &target, &text)
    })
    .await?;
    query.vault.metrics.stored(place, embassy.used());
    Ok(match published {
        Published::New => StatusCode::CREATED.into_response(),
        Published::Exists => StatusCode::OK.into_response(),
    })
}

fn is_given_up(store: &dyn Store, orders: &str, point: &PointRef) -> Result<bool, Refusal> {
    Ok(read_newest(store, orders)?.is_some_and(|(order, _)| order.gives_up(point)))
}

/// Packs that another vault on the same store may be about to free: condemned for more than half of the time after which they go. No
/// point is taken that needs one of them, so that none is committed between that vault's last look and its deletion. A vault alone on
/// its store holds `committing` instead.
fn going(vault: &Vault, embassy: &Embassy, slug: &str) -> io::Result<BTreeSet<String>> {
    if !vault.store.is_shared() {
        return Ok(BTreeSet::new());
    }
    let now = vault.clock.now();
    let condemned = condemned::read(&*vault.store, &embassy.condemned(slug))?;
    let soon = condemned.into_iter().filter(|(_, since)| now - since >= vault.grace / 2);
    Ok(soon.map(|(pack, _)| format!("data/{pack}")).collect())
}

/// `GET /points/{namespace}/{name}/{epoch}/{sequence}`
pub async fn get(query: &Query<'_>, place: &Place, slug: &Slug, sequence: i64) -> Result<Response, Refusal> {
    let what = format!("recovery point {}/{sequence}", slug.text());
    let Some(embassy) = query.readable(place, Area::Points).await? else {
        return Err(Refusal::NotFound(what));
    };
    let (store, object) = (Arc::clone(&query.vault.store), embassy.point(slug, sequence));
    let text = blocking(move || text_of(&*store, &object).map_err(Refusal::reading(&what))).await?;
    Ok(Json(StoredPoint { epoch: slug.text(), sequence, text }).into_response())
}

/// `GET /points/{namespace}/{name}`, with `?epoch=` the next ones of one epoch, with `?after=` after that sequence only.
pub async fn list(query: &Query<'_>, place: &Place) -> Result<Response, Refusal> {
    let Some(embassy) = query.readable(place, Area::Points).await? else {
        return Ok(Json(Vec::<StoredPoint>::new()).into_response());
    };
    let after = query.number("after", 0)?;
    let epoch = query.parameter("epoch").map(str::to_owned);
    let (store, folder) = (Arc::clone(&query.vault.store), embassy.points());
    let points = blocking(move || Ok(read_all(&*store, &folder, epoch.as_deref(), after)?)).await?;
    Ok(Json(points).into_response())
}

/// `GET /epochs/{namespace}/{name}`: each epoch that has points, with the sequence of its last.
pub async fn epochs(query: &Query<'_>, place: &Place) -> Result<Response, Refusal> {
    let Some(embassy) = query.readable(place, Area::Points).await? else {
        return Ok(Json(Vec::<EpochPoints>::new()).into_response());
    };
    let (store, folder) = (Arc::clone(&query.vault.store), embassy.points());
    let found = blocking(move || Ok(last_of_each(&numbers_below(&*store, &folder)?))).await?;
    Ok(Json(found).into_response())
}

fn last_of_each(committed: &BTreeMap<String, BTreeSet<i64>>) -> Vec<EpochPoints> {
    let epochs = committed.iter().filter(|(slug, _)| Slug::parse(slug).is_some());
    let last = |(slug, sequences): (&String, &BTreeSet<i64>)| {
        Some(EpochPoints { epoch: slug.clone(), last: *sequences.last()? })
    };
    epochs.filter_map(last).collect()
}

/// In the order of all points: by epoch, then by sequence.
fn read_all(
    store: &dyn Store,
    folder: &str,
    epoch: Option<&str>,
    after: u64,
) -> io::Result<Vec<StoredPoint>> {
    let committed = numbers_below(store, folder)?;
    let mut slugs: Vec<Slug> = committed.keys().filter_map(|name| Slug::parse(name)).collect();
    slugs.retain(|slug| epoch.is_none_or(|epoch| slug.text() == epoch));
    slugs.sort_by(|a, b| (a.number, &a.site).cmp(&(b.number, &b.site)));
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let most = if epoch.is_some() { MAX_POINTS } else { usize::MAX };
    let mut points = vec![];
    for slug in slugs.iter().map(Slug::text) {
        let sequences = committed.get(&slug).into_iter().flatten().copied();
        let sequences: Vec<i64> = sequences.filter(|sequence| *sequence > after).take(most).collect();
        let objects: Vec<String> =
            sequences.iter().map(|sequence| format!("{folder}/{slug}/{sequence}.json")).collect();
        points.extend(sequences.into_iter().zip(store.read_each(&objects)?).map(|(sequence, text)| {
            let text = String::from_utf8_lossy(&text).into_owned();
            StoredPoint { epoch: slug.clone(), sequence, text }
        }));
    }
    Ok(points)
}
