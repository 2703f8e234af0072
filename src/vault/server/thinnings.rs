//! Orders to give recovery points up: signed by the active site, each following the one before, and the newest one holds.

use std::{
    io,
    sync::{Arc, PoisonError},
};

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use crate::api::thinning::{THINNING_VERSION, Thinning};
use crate::trust::envelope::{Envelope, Purpose, digest};
use crate::trust::signing::PublicKey;
use crate::vault::protocol::{MAX_DOCUMENT, StoredThinning};

use super::{
    about::own_key,
    disk::Published,
    dispatch::{Query, blocking},
    embassy::Reservation,
    refusal::Refusal,
    rights::Area,
    route::Place,
    store::{Store, exists, numbers_in, same},
    upload::Upload,
};

/// The newest order that is stored in `folder`, and its text. Blocking.
pub fn read_newest(store: &dyn Store, folder: &str) -> io::Result<Option<(Thinning, String)>> {
    let Some(last) = numbers_in(store, folder)?.pop() else { return Ok(None) };
    let unreadable = |error: String| {
        io::Error::new(io::ErrorKind::InvalidData, format!("order {last} cannot be read: {error}"))
    };
    let content = store.read(&format!("{folder}/{last}.json"))?;
    let text = String::from_utf8(content).map_err(|error| unreadable(error.to_string()))?;
    let envelope = Envelope::parse(&text).map_err(|error| unreadable(error.to_string()))?;
    let order = serde_json::from_str(&envelope.payload).map_err(|error| unreadable(error.to_string()))?;
    Ok(Some((order, text)))
}

/// `PUT /thinnings/{namespace}/{name}/{sequence}`
pub async fn put(
    query: &Query<'_>,
    place: &Place,
    sequence: i64,
    upload: &mut Upload,
) -> Result<Response, Refusal> {
    let (embassy, quota) = query.writable(place, Area::Thinnings, &query.peer.site).await?;
    let text = upload.text(MAX_DOCUMENT).await?;
    let envelope = Envelope::parse(&text).map_err(|error| Refusal::BadThinning(error.to_string()))?;
    let author = envelope.author.clone();
    may_order(query, place, &author)?;
    let key = key_of(query, &author).await?;
    let order = believe(&envelope, &key)?;
    let about = (&order.namespace, &order.embassy, &order.vault, order.sequence);
    if about != (&place.namespace, &place.name, &query.vault.site, sequence) {
        return Err(Refusal::BadThinning(format!(
            "it speaks of order {} about {}/{} at {}",
            order.sequence, order.namespace, order.embassy, order.vault
        )));
    }
    let vault = Arc::clone(query.vault);
    let mut space = Reservation::new(&embassy, quota);
    let published = blocking(move || {
        let _committing = embassy.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let (store, folder) = (&*vault.store, embassy.thinnings());
        let target = format!("{folder}/{sequence}.json");
        if exists(store, &target)? {
            return same(store, &target, &text);
        }
        let before = read_newest(store, &folder)?.map(|(before, text)| (before, digest(&text)));
        let before = before.as_ref().map(|(before, digest)| (before, digest.as_str()));
        order.follows(before).map_err(|error| Refusal::BadThinning(error.to_string()))?;
        space.grow(text.len() as u64)?;
        if store.create(&target, text.as_bytes())? == Published::Exists {
            return same(store, &target, &text);
        }
        space.keep();
        Ok(Published::New)
    })
    .await?;
    tracing::info!(
        namespace = place.namespace,
        name = place.name,
        author,
        sequence,
        "order to give points up"
    );
    Ok(match published {
        Published::New => StatusCode::CREATED.into_response(),
        Published::Exists => StatusCode::OK.into_response(),
    })
}

/// `GET /thinnings/{namespace}/{name}`: the newest one.
pub async fn newest(query: &Query<'_>, place: &Place) -> Result<Response, Refusal> {
    let nothing = || Refusal::NotFound("an order to give recovery points up".to_owned());
    let embassy = query.readable(place, Area::Thinnings).await?.ok_or_else(nothing)?;
    let store = Arc::clone(&query.vault.store);
    let found = blocking(move || Ok(read_newest(&*store, &embassy.thinnings())?)).await?;
    let (order, text) = found.ok_or_else(nothing)?;
    Ok(Json(StoredThinning { sequence: order.sequence, text }).into_response())
}

/// Whether that site may speak of this embassy. Who brings its word does not matter: a vault that was lost gets it from a folder.
fn may_order(query: &Query<'_>, place: &Place, author: &str) -> Result<(), Refusal> {
    let policy = query.vault.policies.get(author);
    let hosted = policy.is_some_and(|policy| policy.namespaces.contains(&place.namespace));
    if author == query.vault.site || author == query.peer.site || hosted {
        return Ok(());
    }
    Err(Refusal::BadThinning(format!("site '{author}' has no say about namespace {}", place.namespace)))
}

/// The key that the vault's own operator pinned for a site.
async fn key_of(query: &Query<'_>, author: &str) -> Result<PublicKey, Refusal> {
    let pinned = match query.vault.policies.get(author) {
        Some(policy) => policy.public_key,
        None => own_key(query).await?,
    };
    let text = pinned.ok_or_else(|| {
        Refusal::BadThinning(format!(
            "no signing key of site '{author}' is pinned here: accept its Site first"
        ))
    })?;
    text.parse()
        .map_err(|error| Refusal::BadThinning(format!("the pinned key of site '{author}' is none: {error}")))
}

fn believe(envelope: &Envelope, key: &PublicKey) -> Result<Thinning, Refusal> {
    let refuse = |error: String| Refusal::BadThinning(error);
    let payload =
        envelope.open(key, &envelope.author, Purpose::Thinning).map_err(|error| refuse(error.to_string()))?;
    let order: Thinning = serde_json::from_str(payload).map_err(|error| refuse(error.to_string()))?;
    if order.version == THINNING_VERSION {
        Ok(order)
    } else {
        Err(refuse(format!("it has version {}, and this vault reads {THINNING_VERSION}", order.version)))
    }
}
