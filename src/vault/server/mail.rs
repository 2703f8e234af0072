//! Mail: one gapless sequence of letters for each site, and waiting for the next one.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::vault::protocol::{MAX_DOCUMENT, MAX_LETTERS, MAX_WAIT, Mailbox, StoredLetter};

use super::{
    disk::Published,
    dispatch::{Query, blocking},
    embassy::{Embassy, Reservation},
    refusal::Refusal,
    rights::Area,
    route::Place,
    store::{Store, text_of},
    upload::Upload,
};

/// How often a reader looks for an embassy that nobody wrote to yet.
const LOOK: Duration = Duration::from_millis(500);
/// How often a reader looks for a letter that another vault on the same store may have taken.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// `PUT /mail/{namespace}/{name}/{site}/{sequence}`
pub async fn put(
    query: &Query<'_>,
    place: &Place,
    author: &str,
    sequence: i64,
    upload: &mut Upload,
) -> Result<Response, Refusal> {
    let (embassy, quota) = query.writable(place, Area::Mail, author).await?;
    let text = upload.text(MAX_DOCUMENT).await?;
    let _posting = embassy.posting.lock().await;
    let last = look(query, &embassy, author).await?;
    let (vault, target) = (Arc::clone(query.vault), embassy.letter(author, sequence));
    if sequence == last {
        let stored = blocking(move || Ok(text_of(&*vault.store, &target)?)).await?;
        let same = stored == text;
        return if same { Ok(StatusCode::OK.into_response()) } else { Err(out_of_order(last, sequence)) };
    }
    if sequence != last + 1 {
        return Err(out_of_order(last, sequence));
    }
    let mut space = Reservation::new(&embassy, quota);
    space.grow(text.len() as u64)?;
    let stored = blocking(move || {
        Ok(match vault.store.create(&target, text.as_bytes())? {
            Published::New => None,
            // Written by a request that failed just afterwards, or through another vault; it is the letter all the same.
            Published::Exists => Some(text_of(&*vault.store, &target)? == text),
        })
    })
    .await?;
    space.keep();
    query.vault.metrics.stored(place, embassy.used());
    embassy.note_letter(author, sequence);
    match stored {
        None => Ok(StatusCode::CREATED.into_response()),
        Some(true) => Ok(StatusCode::OK.into_response()),
        Some(false) => Err(out_of_order(sequence, sequence)),
    }
}

/// `GET /mail/{namespace}/{name}/{site}?after=N&wait=SECONDS`
pub async fn letters(query: &Query<'_>, place: &Place, author: &str) -> Result<Response, Refusal> {
    let after = i64::try_from(query.number("after", 0)?).unwrap_or(i64::MAX);
    let wait = Duration::from_secs(query.number("wait", 0)?.min(MAX_WAIT));
    let until = Instant::now() + wait;
    let Some(embassy) = appear(query, place, until).await? else {
        return Ok(Json(Vec::<StoredLetter>::new()).into_response());
    };
    arrive(query, &embassy, author, after, until).await?;
    let last = embassy.last_letter(author).min(after.saturating_add(MAX_LETTERS));
    let (store, author) = (Arc::clone(&query.vault.store), author.to_owned());
    let letters = blocking(move || stored(&*store, &embassy, &author, after.saturating_add(1), last)).await?;
    Ok(Json(letters).into_response())
}

/// Letters from `first` to `last`, or to the first one that the disk lost.
fn stored(
    store: &dyn Store,
    embassy: &Embassy,
    author: &str,
    first: i64,
    last: i64,
) -> Result<Vec<StoredLetter>, Refusal> {
    let mut letters = vec![];
    for sequence in first..=last {
        match text_of(store, &embassy.letter(author, sequence)) {
            Ok(text) => letters.push(StoredLetter { sequence, text }),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !letters.is_empty() => break,
            Err(error) => return Err(Refusal::reading(&format!("letter {sequence} of {author}"))(error)),
        }
    }
    Ok(letters)
}

/// `GET /mail/{namespace}/{name}`
pub async fn mailboxes(query: &Query<'_>, place: &Place) -> Result<Response, Refusal> {
    let embassy = query.readable(place, Area::Mail).await?;
    if let Some(embassy) = &embassy {
        for author in [&embassy.owner, &query.vault.site] {
            look(query, embassy, author).await?;
        }
    }
    let letters = embassy.map(|embassy| embassy.letters.borrow().clone()).unwrap_or_default();
    let mailboxes: Vec<Mailbox> = letters.into_iter().map(|(site, last)| Mailbox { site, last }).collect();
    Ok(Json(mailboxes).into_response())
}

/// The embassy, as soon as anything is stored for it.
async fn appear(query: &Query<'_>, place: &Place, until: Instant) -> Result<Option<Arc<Embassy>>, Refusal> {
    loop {
        let embassy = query.readable(place, Area::Mail).await?;
        let now = Instant::now();
        if embassy.is_some() || now >= until || query.vault.stopping.is_cancelled() {
            return Ok(embassy);
        }
        sleep_until(until.min(now + LOOK)).await;
    }
}

/// Waits for a letter after `after`, but not longer than `until` and not while the vault stops.
async fn arrive(
    query: &Query<'_>,
    embassy: &Arc<Embassy>,
    author: &str,
    after: i64,
    until: Instant,
) -> Result<(), Refusal> {
    let mut letters = embassy.letters.subscribe();
    let is_shared = query.vault.store.is_shared();
    loop {
        look(query, embassy, author).await?;
        let pause = if is_shared { until.min(Instant::now() + LOOK_AROUND) } else { until };
        let next = letters.wait_for(|letters| letters.get(author).is_some_and(|last| *last > after));
        let has_come = tokio::select! {
            waited = timeout_at(pause, next) => waited.is_ok(),
            () = query.vault.stopping.cancelled() => true,
        };
        if has_come || Instant::now() >= until {
            return Ok(());
        }
    }
}

/// Sequence of the author's last letter, also if another vault on the same store took it.
async fn look(query: &Query<'_>, embassy: &Arc<Embassy>, author: &str) -> Result<i64, Refusal> {
    if !query.vault.store.is_shared() {
        return Ok(embassy.last_letter(author));
    }
    let (embassy, author) = (Arc::clone(embassy), author.to_owned());
    blocking(move || Ok(embassy.look(&author)?)).await
}

fn out_of_order(last: i64, found: i64) -> Refusal {
    Refusal::OutOfOrder { last, found }
}
