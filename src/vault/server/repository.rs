//! The restic REST protocol, version 2, without deletion, locks and key files.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Json,
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use tokio_util::io::ReaderStream;

use crate::vault::protocol::{MAX_CONFIG, REST_V1, REST_V2, StoredObject};

use super::{
    disk::{Published, make_folders, names_in, sync_parent},
    dispatch::{Query, blocking},
    embassy::Embassy,
    refusal::Refusal,
    rights::Area,
    route::{Kind, Place, Slug, is_digest},
    upload::{Received, Upload},
};

/// Bytes per read from disk.
const CHUNK: usize = 256 << 10;

/// `POST /repo/...?create=true`: again and again if need be.
pub async fn create(query: &Query<'_>, place: &Place, slug: &Slug) -> Result<Response, Refusal> {
    if query.parameter("create") != Some("true") {
        return Err(Refusal::BadRequest("a repository is created with '?create=true'".to_owned()));
    }
    let (embassy, _) = query.writable(place, Area::Repository, &slug.site).await?;
    let folder = embassy.repository(slug);
    blocking(move || Ok(make_folders(&folder)?)).await?;
    Ok(StatusCode::OK.into_response())
}

/// `GET .../config`
pub async fn read_config(query: &Query<'_>, place: &Place, slug: &Slug) -> Result<Response, Refusal> {
    let folder = folder(query, place, slug)?;
    send(query, folder.join("config"), "config").await
}

/// `POST .../config`: once, or the same again after a lost answer.
pub async fn write_config(
    query: &Query<'_>,
    place: &Place,
    slug: &Slug,
    upload: &mut Upload,
) -> Result<Response, Refusal> {
    let (embassy, quota) = writable(query, place, slug).await?;
    let target = embassy.repository(slug).join("config");
    let received = upload.receive(query.vault, &embassy, MAX_CONFIG, quota).await?;
    let digest = received.digest.clone();
    let stored = target.clone();
    if publish(query, place, &embassy, received, target).await? == Published::New {
        return Ok(StatusCode::OK.into_response());
    }
    let stored = blocking(move || Ok(fs::read(stored)?)).await?;
    if sha256(&stored) == digest { Ok(StatusCode::OK.into_response()) } else { Err(Refusal::Exists) }
}

/// `GET .../{kind}/`
pub async fn list(query: &Query<'_>, place: &Place, slug: &Slug, kind: Kind) -> Result<Response, Refusal> {
    let folder = folder(query, place, slug)?;
    let objects = blocking(move || {
        // A repository that was never made must not look like an empty one.
        fs::metadata(&folder).map_err(Refusal::reading("the repository"))?;
        Ok(objects(&folder.join(kind.text()), kind)?)
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
    let path = kind.file(&folder(query, place, slug)?, name);
    send(query, path, name).await
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
    let target = kind.file(&embassy.repository(slug), name);
    match stored(&target, name).await {
        Stored::Nothing => {}
        Stored::Sound => {
            let found = upload.digest(limit).await?;
            if found != name {
                return Err(Refusal::WrongDigest { found });
            }
            // Its first upload may not have been answered yet.
            blocking(move || Ok(sync_parent(&target)?)).await?;
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
async fn stored(target: &Path, name: &str) -> Stored {
    let (target, name) = (target.to_owned(), name.to_owned());
    let found = blocking(move || Ok(digest_of(&target)?)).await;
    match found {
        Ok(digest) if digest == name => Stored::Sound,
        Err(Refusal::Disk(error)) if error.kind() == io::ErrorKind::NotFound => Stored::Nothing,
        // A disk that cannot read it has damaged it.
        Ok(_) | Err(_) => Stored::Damaged,
    }
}

/// Puts an upload that its name is true of in the place of a damaged object, which is kept. Its space was counted with
/// that one, so no quota refuses it.
async fn mend(
    query: &Query<'_>,
    embassy: &Arc<Embassy>,
    (target, aside): (&Path, PathBuf),
    name: &str,
    upload: &mut Upload,
) -> Result<Response, Refusal> {
    let received = upload.receive(query.vault, embassy, query.vault.max_object, None).await?;
    if received.digest != name {
        return Err(Refusal::WrongDigest { found: received.digest });
    }
    let _mending = embassy.mending.lock().await;
    // Somebody else may have mended it meanwhile.
    if matches!(stored(target, name).await, Stored::Damaged) {
        let (target, kept) = (target.to_owned(), aside.clone());
        blocking(move || Ok(received.file.replace_damaged(&target, &kept)?)).await?;
        query.vault.metrics.mended();
        tracing::warn!(kept = %aside.display(), "a damaged object was replaced by a good one, and is kept");
    }
    Ok(StatusCode::OK.into_response())
}

fn digest_of(path: &Path) -> io::Result<String> {
    use sha2::{Digest, Sha256};
    let (mut file, mut hash) = (fs::File::open(path)?, Sha256::new());
    let mut part = vec![0; CHUNK];
    loop {
        match io::Read::read(&mut file, &mut part)? {
            0 => return Ok(hex::encode(hash.finalize())),
            length => hash.update(&part[..length]),
        }
    }
}

fn folder(query: &Query<'_>, place: &Place, slug: &Slug) -> Result<PathBuf, Refusal> {
    let embassy = query.readable(place, Area::Repository)?;
    let embassy = embassy.ok_or_else(|| Refusal::NotFound("the repository".to_owned()))?;
    Ok(embassy.repository(slug))
}

async fn writable(
    query: &Query<'_>,
    place: &Place,
    slug: &Slug,
) -> Result<(Arc<Embassy>, Option<u64>), Refusal> {
    let (embassy, quota) = query.writable(place, Area::Repository, &slug.site).await?;
    if !tokio::fs::try_exists(embassy.repository(slug)).await? {
        return Err(Refusal::NoRepository);
    }
    Ok((embassy, quota))
}

async fn publish(
    query: &Query<'_>,
    place: &Place,
    embassy: &Arc<Embassy>,
    received: Received,
    target: PathBuf,
) -> Result<Published, Refusal> {
    let Received { file, space, .. } = received;
    let published = blocking(move || Ok(file.publish(&target)?)).await?;
    if published == Published::New {
        space.keep();
        query.vault.metrics.stored(place, embassy.used());
    }
    Ok(published)
}

async fn send(query: &Query<'_>, path: PathBuf, what: &str) -> Result<Response, Refusal> {
    let mut file = tokio::fs::File::open(path).await.map_err(Refusal::reading(what))?;
    let length = file.metadata().await?.len();
    let (status, from, count) = match query.header(header::RANGE) {
        None => (StatusCode::OK, 0, length),
        Some(text) => {
            let (from, to) = range(text, length).ok_or(Refusal::BadRange(length))?;
            file.seek(SeekFrom::Start(from)).await?;
            (StatusCode::PARTIAL_CONTENT, from, to - from + 1)
        }
    };
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(count), CHUNK));
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

fn objects(folder: &Path, kind: Kind) -> io::Result<Vec<StoredObject>> {
    let folders = match kind {
        Kind::Data => names_in(folder)?.iter().map(|name| folder.join(name)).collect(),
        _ => vec![folder.to_owned()],
    };
    let mut objects = vec![];
    for folder in folders {
        for name in names_in(&folder)?.into_iter().filter(|name| is_digest(name)) {
            let size = fs::metadata(folder.join(&name))?.len();
            objects.push(StoredObject { name, size });
        }
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
