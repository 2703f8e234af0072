//! The restic REST protocol, version 2, without deletion, locks and key files.

use std::{io, sync::Arc};

use axum::{
    Json,
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::TryStreamExt;

use crate::vault::protocol::{MAX_CONFIG, REST_V1, REST_V2, StoredObject};

use super::{
    disk::Published,
    dispatch::{Query, blocking},
    embassy::Embassy,
    refusal::Refusal,
    rights::Area,
    route::{Kind, Place, Slug, is_digest},
    store::Store,
    upload::{Received, Upload},
};

/// `POST /repo/...?create=true`: again and again if need be.
pub async fn create(query: &Query<'_>, place: &Place, slug: &Slug) -> Result<Response, Refusal> {
    if query.parameter("create") != Some("true") {
        return Err(Refusal::BadRequest("a repository is created with '?create=true'".to_owned()));
    }
    let (embassy, _) = query.writable(place, Area::Repository, &slug.site).await?;
    let (store, folder) = (Arc::clone(&query.vault.store), embassy.repository(slug));
    blocking(move || Ok(store.make(&folder)?)).await?;
    Ok(StatusCode::OK.into_response())
}

/// `GET .../config`
pub async fn read_config(query: &Query<'_>, place: &Place, slug: &Slug) -> Result<Response, Refusal> {
    let folder = folder(query, place, slug).await?;
    send(query, format!("{folder}/config"), "config").await
}

/// `POST .../config`: once, or the same again after a lost answer.
pub async fn write_config(
    query: &Query<'_>,
    place: &Place,
    slug: &Slug,
    upload: &mut Upload,
) -> Result<Response, Refusal> {
    let (embassy, quota) = writable(query, place, slug).await?;
    let target = format!("{}/config", embassy.repository(slug));
    let received = upload.receive(query.vault, &embassy, MAX_CONFIG, quota).await?;
    let digest = received.digest.clone();
    let (store, stored) = (Arc::clone(&query.vault.store), target.clone());
    if publish(query, place, &embassy, received, target).await? == Published::New {
        return Ok(StatusCode::OK.into_response());
    }
    let stored = blocking(move || Ok(store.read(&stored)?)).await?;
    if sha256(&stored) == digest { Ok(StatusCode::OK.into_response()) } else { Err(Refusal::Exists) }
}

/// `GET .../{kind}/`
pub async fn list(query: &Query<'_>, place: &Place, slug: &Slug, kind: Kind) -> Result<Response, Refusal> {
    let (store, folder) = (Arc::clone(&query.vault.store), folder(query, place, slug).await?);
    let objects = blocking(move || {
        // A repository that was never made must not look like an empty one.
        if !store.is_made(&folder)? {
            return Err(Refusal::NotFound("the repository".to_owned()));
        }
        Ok(objects(&*store, &folder, kind)?)
    })
    .await?;
    let accepts = query.header(header::ACCEPT).unwrap_or_default();
    if accepts.contains(REST_V2) {
        return Ok(typed(Json(objects), REST_V2));
    }
    let names: Vec<String> = objects.into_iter().map(|object| object.name).collect();
    Ok(typed(Json(names), REST_V1))
}

/// `GET .../{kind}/{name}`, whole or a range.
pub async fn read(
    query: &Query<'_>,
    place: &Place,
    slug: &Slug,
    kind: Kind,
    name: &str,
) -> Result<Response, Refusal> {
    let object = kind.object(&folder(query, place, slug).await?, name);
    send(query, object, name).await
}

/// `POST .../{kind}/{name}`: the content must be what its name says, so the same name is the same content.
pub async fn write(
    query: &Query<'_>,
    place: &Place,
    slug: &Slug,
    kind: Kind,
    name: &str,
    upload: &mut Upload,
) -> Result<Response, Refusal> {
    match kind {
        Kind::Keys => return Err(Refusal::NoKeyFiles),
        Kind::Locks => return Err(Refusal::NoLocks),
        Kind::Data | Kind::Index | Kind::Snapshots | Kind::Inventories => {}
    }
    let (embassy, quota) = writable(query, place, slug).await?;
    let limit = query.vault.max_object;
    let store = Arc::clone(&query.vault.store);
    let target = kind.object(&embassy.repository(slug), name);
    match stored(&*store, &target, name).await {
        Stored::Nothing => {}
        Stored::Sound => {
            let found = upload.digest(limit).await?;
            if found != name {
                return Err(Refusal::WrongDigest { found });
            }
            // Its first upload may not have been answered yet.
            blocking(move || Ok(store.settle(&target)?)).await?;
            return Ok(StatusCode::OK.into_response());
        }
        Stored::Damaged => {
            let object = format!("{}-{name}", kind.text());
            return mend(query, &embassy, (&target, embassy.aside(slug, &object)), name, upload).await;
        }
    }
    let received = upload.receive(query.vault, &embassy, limit, quota).await?;
    if received.digest != name {
        return Err(Refusal::WrongDigest { found: received.digest });
    }
    // Whoever published it meanwhile published the same content.
    publish(query, place, &embassy, received, target).await?;
    Ok(StatusCode::OK.into_response())
}

/// What lies under an object's name.
enum Stored {
    Nothing,
    Sound,
    Damaged,
}

/// Reads it: whoever sends an object again may have a good one in the place of a damaged one. This is rare.
async fn stored(store: &dyn Store, target: &str, name: &str) -> Stored {
    match digest_of(store, target).await {
        Ok(digest) if digest == name => Stored::Sound,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Stored::Nothing,
        // A disk that cannot read it has damaged it.
        Ok(_) | Err(_) => Stored::Damaged,
    }
}

/// Puts an upload that its name is true of in the place of a damaged object, which is kept. Its space was counted with
/// that one, so no quota refuses it.
async fn mend(
    query: &Query<'_>,
    embassy: &Arc<Embassy>,
    (target, aside): (&str, String),
    name: &str,
    upload: &mut Upload,
) -> Result<Response, Refusal> {
    let received = upload.receive(query.vault, embassy, query.vault.max_object, None).await?;
    if received.digest != name {
        return Err(Refusal::WrongDigest { found: received.digest });
    }
    let _mending = embassy.mending.lock().await;
    // Somebody else may have mended it meanwhile.
    let store = Arc::clone(&query.vault.store);
    if matches!(stored(&*store, target, name).await, Stored::Damaged) {
        let (target, kept) = (target.to_owned(), aside.clone());
        blocking(move || Ok(store.replace_damaged(received.file, &target, &kept)?)).await?;
        query.vault.metrics.mended();
        tracing::warn!(kept = aside, "a damaged object was replaced by a good one, and is kept");
    }
    Ok(StatusCode::OK.into_response())
}

async fn digest_of(store: &dyn Store, object: &str) -> io::Result<String> {
    use sha2::{Digest, Sha256};
    let (mut parts, mut hash) = (store.stream(object, 0, u64::MAX).await?, Sha256::new());
    while let Some(part) = parts.try_next().await? {
        hash.update(&part);
    }
    Ok(hex::encode(hash.finalize()))
}

async fn folder(query: &Query<'_>, place: &Place, slug: &Slug) -> Result<String, Refusal> {
    let embassy = query.readable(place, Area::Repository).await?;
    let embassy = embassy.ok_or_else(|| Refusal::NotFound("the repository".to_owned()))?;
    Ok(embassy.repository(slug))
}

async fn writable(
    query: &Query<'_>,
    place: &Place,
    slug: &Slug,
) -> Result<(Arc<Embassy>, Option<u64>), Refusal> {
    let (embassy, quota) = query.writable(place, Area::Repository, &slug.site).await?;
    let (store, folder) = (Arc::clone(&query.vault.store), embassy.repository(slug));
    if blocking(move || Ok(store.is_made(&folder)?)).await? {
        Ok((embassy, quota))
    } else {
        Err(Refusal::NoRepository)
    }
}

async fn publish(
    query: &Query<'_>,
    place: &Place,
    embassy: &Arc<Embassy>,
    received: Received,
    target: String,
) -> Result<Published, Refusal> {
    let (store, Received { file, space, .. }) = (Arc::clone(&query.vault.store), received);
    let published = blocking(move || Ok(store.publish(file, &target)?)).await?;
    if published == Published::New {
        space.keep();
        query.vault.metrics.stored(place, embassy.used());
    }
    Ok(published)
}

async fn send(query: &Query<'_>, object: String, what: &str) -> Result<Response, Refusal> {
    let (store, asked) = (Arc::clone(&query.vault.store), object.clone());
    let length = blocking(move || Ok(store.size(&asked)?)).await?;
    let length = length.ok_or_else(|| Refusal::NotFound(what.to_owned()))?;
    let (status, from, count) = match query.header(header::RANGE) {
        None => (StatusCode::OK, 0, length),
        Some(text) => {
            let (from, to) = range(text, length).ok_or(Refusal::BadRange(length))?;
            (StatusCode::PARTIAL_CONTENT, from, to - from + 1)
        }
    };
    let parts = query.vault.store.stream(&object, from, count).await.map_err(Refusal::reading(what))?;
    let body = Body::from_stream(parts);
    let mut response = typed((status, body), "application/octet-stream");
    response.headers_mut().insert(header::CONTENT_LENGTH, count.into());
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {from}-{}/{length}", from + count - 1);
        let value = HeaderValue::try_from(text).map_err(|_| Refusal::BadRange(length))?;
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

/// First and last byte of `bytes=FROM-` or `bytes=FROM-TO`.
pub fn range(text: &str, length: u64) -> Option<(u64, u64)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let from: u64 = from.parse().ok()?;
    let last = length.checked_sub(1)?;
    let to = if to.is_empty() { last } else { to.parse::<u64>().ok()?.min(last) };
    (from <= to).then_some((from, to))
}

/// Objects of that kind in a repository, and nothing else that lies there. Blocking.
pub fn objects(store: &dyn Store, repository: &str, kind: Kind) -> io::Result<Vec<StoredObject>> {
    let mut objects = vec![];
    for entry in store.list(&format!("{repository}/{}", kind.text()))? {
        let name = match kind {
            Kind::Data => entry.name.split_once('/').map(|(_, name)| name),
            _ => Some(entry.name.as_str()),
        };
        objects.extend(
            name.filter(|name| is_digest(name))
                .map(|name| StoredObject { name: name.to_owned(), size: entry.size }),
        );
    }
    Ok(objects)
}

fn typed(response: impl IntoResponse, kind: &'static str) -> Response {
    let mut response = response.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// In hex.
pub fn sha256(content: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(range("bytes=0-", 10), Some((0, 9)));
        assert_eq!(range("bytes=2-4", 10), Some((2, 4)));
        assert_eq!(range("bytes=2-99", 10), Some((2, 9)));
        for text in ["bytes=10-", "bytes=4-2", "bytes=-5", "bytes=a-b", "items=0-1", "bytes=0-1,3-4"] {
            assert_eq!(range(text, 10), None, "{text}");
        }
        assert_eq!(range("bytes=0-", 0), None);
    }
}
