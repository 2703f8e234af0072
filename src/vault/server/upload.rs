//! A request's body: counted, bounded, and read to its end even if it is refused.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio::{
    fs::File,
    io::{AsyncWriteExt, BufWriter},
};

use super::{
    Vault,
    disk::Unfinished,
    embassy::{Embassy, Reservation},
    refusal::Refusal,
};

/// A client that sends nothing for so long is gone.
const IDLE: Duration = Duration::from_mins(1);
/// How much of a refused body is read, so that the client sees the answer instead of a reset.
const DRAIN: u64 = 1 << 30;
/// Bytes per write to disk.
const WRITE: usize = 1 << 20;

/// A request's body.
pub struct Upload {
    stream: BodyDataStream,
    received: u64,
    ended: bool,
}

/// A whole body on disk, synced, without a name yet.
pub struct Received {
    /// Publish it, or it vanishes.
    pub file: Unfinished,
    /// SHA-256 in hex.
    pub digest: String,
    /// Keep it once it is published.
    pub space: Reservation,
}

impl Upload {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(body: Body) -> Self {
        Self { stream: body.into_data_stream(), received: 0, ended: false }
    }

    /// Bytes that arrived.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        if self.ended {
            return Ok(None);
        }
        match tokio::time::timeout(IDLE, self.stream.next()).await {
            Ok(Some(Ok(chunk))) => {
                self.received += chunk.len() as u64;
                Ok(Some(chunk))
            }
            Ok(None) => {
                self.ended = true;
                Ok(None)
            }
            Ok(Some(Err(_))) | Err(_) => {
                self.ended = true;
                Err(Refusal::Interrupted)
            }
        }
    }

    /// Reads what is left and throws it away: an answer in the middle of an upload is lost in a reset.
    pub async fn drain(&mut self) {
        while self.received < DRAIN && matches!(self.next().await, Ok(Some(_))) {}
    }

    /// The body as text of at most `limit` bytes.
    pub async fn text(&mut self, limit: u64) -> Result<String, Refusal> {
        let mut text = vec![];
        while let Some(chunk) = self.next().await? {
            if self.received > limit {
                return Err(Refusal::TooLarge(limit));
            }
            text.extend_from_slice(&chunk);
        }
        String::from_utf8(text).map_err(|_| Refusal::BadRequest("the document is not UTF-8 text".to_owned()))
    }

    /// SHA-256 in hex of at most `limit` bytes, kept nowhere.
    pub async fn digest(&mut self, limit: u64) -> Result<String, Refusal> {
        let mut hash = Sha256::new();
        while let Some(chunk) = self.next().await? {
            if self.received > limit {
                return Err(Refusal::TooLarge(limit));
            }
            hash.update(&chunk);
        }
        Ok(hex::encode(hash.finalize()))
    }

    /// Writes at most `limit` bytes to an unfinished file, within the embassy's `quota`.
    pub async fn receive(
        &mut self,
        vault: &Vault,
        embassy: &Arc<Embassy>,
        limit: u64,
        quota: Option<u64>,
    ) -> Result<Received, Refusal> {
        let (unfinished, file) = vault.store.begin()?;
        // Each write of a tokio file is a task of its own; one for a few KiB would cost more than the write.
        let mut file = BufWriter::with_capacity(WRITE, File::from_std(file));
        let mut space = Reservation::new(embassy, quota);
        let mut hash = Sha256::new();
        while let Some(chunk) = self.next().await? {
            if self.received > limit {
                return Err(Refusal::TooLarge(limit));
            }
            space.grow(chunk.len() as u64)?;
            hash.update(&chunk);
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        file.get_ref().sync_all().await?;
        Ok(Received { file: unfinished, digest: hex::encode(hash.finalize()), space })
    }
}
