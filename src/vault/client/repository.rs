//! One repository at a vault, for blocking code. Must not be used on a thread of an asynchronous runtime.

use std::{
    io::{self, Read},
    sync::Arc,
    thread::sleep,
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    Method,
    blocking::{Body, Client, RequestBuilder},
    header::{ACCEPT, RANGE},
};
use sha2::{Digest, Sha256};

use crate::trust::tls::{Forward, Material, blocking_client, blocking_client_through};
use crate::vault::protocol::{REST_V2, StoredObject};

use super::{
    ClientError,
    throttle::{Throttle, Throttled},
};

/// How often a request is sent in all.
const TRIES: u32 = 5;
/// Before the second try; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// For an answer without a body.
const PATIENCE: Duration = Duration::from_mins(1);
/// A slower link than this many bytes a second is taken for a broken one.
const SLOWEST: u64 = 32 << 10;
/// Size to wait for where it is not known before.
const UNKNOWN: u64 = 64 << 20;

/// A client of one repository. Clones share their connections.
#[derive(Clone, Debug)]
pub struct RepositoryClient {
    client: Client,
    /// With a slash at its end.
    url: String,
    pause: Duration,
    throttle: Option<Arc<Throttle>>,
}

impl RepositoryClient {
    /// `base_url` is `https://host:port`; `path` is `<namespace>/<name>/<epoch slug>`.
    pub fn new(base_url: &str, path: &str, material: &Material) -> Result<Self, ClientError> {
        let url = format!("{}/repo/{path}/", base_url.trim_end_matches('/'));
        Ok(Self { client: blocking_client(material)?, url, pause: FIRST_PAUSE, throttle: None })
    }

    /// Of a vault that is reached through a local port.
    pub fn through(
        base_url: &str,
        path: &str,
        material: &Material,
        forward: &Forward,
    ) -> Result<Self, ClientError> {
        let client = blocking_client_through(material, Some(forward))?;
        Ok(Self { client, ..Self::new(base_url, path, material)? })
    }

    /// With another pause before the second try.
    #[must_use]
    pub fn with_pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// With a limit to what is sent and received.
    #[must_use]
    pub fn with_throttle(self, throttle: Throttle) -> Self {
        Self { throttle: Some(Arc::new(throttle)), ..self }
    }

    /// Where the repository is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes the repository, if it is not there yet.
    pub fn create(&self) -> Result<(), ClientError> {
        let url = format!("{}?create=true", self.url);
        self.send(&url, 0, |client| client.request(Method::POST, &url)).map(drop)
    }

    /// Names and sizes of all objects of that kind; `config` is listed under its own name, if it is there.
    pub fn list(&self, kind: &str) -> Result<Vec<(String, u64)>, ClientError> {
        if kind == "config" {
            return Ok(self.config_size()?.map(|size| (kind.to_owned(), size)).into_iter().collect());
        }
        let url = format!("{}{kind}/", self.url);
        let body = self.send(&url, UNKNOWN, |client| client.get(&url).header(ACCEPT, REST_V2))?;
        let objects: Vec<StoredObject> =
            serde_json::from_slice(&body).map_err(|error| ClientError::unexpected(&url, &error))?;
        Ok(objects.into_iter().map(|object| (object.name, object.size)).collect())
    }

    /// Names of packs that the vault is about to free. One of a version that frees nothing does not know the question.
    pub fn condemned(&self) -> Result<Vec<String>, ClientError> {
        let url = format!("{}condemned", self.url);
        match self.send(&url, UNKNOWN, |client| client.get(&url)) {
            Ok(body) => serde_json::from_slice(&body).map_err(|error| ClientError::unexpected(&url, &error)),
            Err(ClientError::NotFound { .. }) => Ok(vec![]),
            Err(error) => Err(error),
        }
    }

    /// A whole object. The name of `config` does not matter.
    pub fn read(&self, kind: &str, name: &str) -> Result<Bytes, ClientError> {
        let url = self.object(kind, name);
        self.send(&url, UNKNOWN, |client| client.get(&url))
    }

    /// SHA-256 in hex of an object of about `size` bytes; it is never held as a whole.
    pub fn digest(&self, kind: &str, name: &str, size: u64) -> Result<String, ClientError> {
        let url = self.object(kind, name);
        self.receive(&url, size, |client| client.get(&url), digest_of)
    }

    /// A part of an object. One that ends early is an error: a line that was cut shows in the answer's length, so the object does.
    pub fn read_range(&self, kind: &str, name: &str, offset: u32, length: u32) -> Result<Bytes, ClientError> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let url = self.object(kind, name);
        let range = format!("bytes={offset}-{}", u64::from(offset) + u64::from(length) - 1);
        let body = self.send(&url, length.into(), |client| client.get(&url).header(RANGE, &range))?;
        if body.len() as u64 == u64::from(length) {
            Ok(body)
        } else {
            let message = format!("{kind}/{name} ends {} bytes after {offset}, not {length}", body.len());
            Err(ClientError::TooShort { message })
        }
    }

    /// Stores an object. The same again is no error.
    #[allow(clippy::needless_pass_by_value)] // every caller gives it away
    pub fn write(&self, kind: &str, name: &str, bytes: Bytes) -> Result<(), ClientError> {
        let url = self.object(kind, name);
        let size = bytes.len() as u64;
        // Cloning `Bytes` copies nothing.
        self.send(&url, size, |client| client.request(Method::POST, &url).body(self.body(bytes.clone())))
            .map(drop)
    }

    fn body(&self, bytes: Bytes) -> Body {
        if self.throttle.is_none() {
            return bytes.into();
        }
        let size = bytes.len() as u64;
        Body::sized(Throttled { inner: io::Cursor::new(bytes), throttle: self.throttle.clone() }, size)
    }

    fn config_size(&self) -> Result<Option<u64>, ClientError> {
        match self.read("config", "") {
            Ok(bytes) => Ok(Some(bytes.len() as u64)),
            Err(ClientError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn object(&self, kind: &str, name: &str) -> String {
        if kind == "config" { format!("{}config", self.url) } else { format!("{}{kind}/{name}", self.url) }
    }

    fn send(
        &self,
        url: &str,
        size: u64,
        request: impl Fn(&Client) -> RequestBuilder,
    ) -> Result<Bytes, ClientError> {
        self.receive(url, size, request, whole)
    }

    /// Sends until it is answered and the answer is received, `size` bytes being on their way.
    fn receive<T>(
        &self,
        url: &str,
        size: u64,
        request: impl Fn(&Client) -> RequestBuilder,
        take: fn(&mut dyn Read) -> io::Result<T>,
    ) -> Result<T, ClientError> {
        let limit = PATIENCE + Duration::from_secs(size / SLOWEST);
        let mut pause = self.pause;
        for _ in 1..TRIES {
            match self.once(url, request(&self.client).timeout(limit), take) {
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, "trying again in {pause:?}");
                    sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                result => return result,
            }
        }
        self.once(url, request(&self.client).timeout(limit), take)
    }

    fn once<T>(
        &self,
        url: &str,
        request: RequestBuilder,
        take: fn(&mut dyn Read) -> io::Result<T>,
    ) -> Result<T, ClientError> {
        let response = request.send().map_err(|error| ClientError::transport(url, &error.without_url()))?;
        let cut = |error: io::Error| ClientError::transport(url, &error);
        let status = response.status();
        let mut body = Throttled { inner: response, throttle: self.throttle.clone() };
        if status.is_success() {
            take(&mut body).map_err(cut)
        } else {
            Err(ClientError::answer(status.as_u16(), &whole(&mut body).map_err(cut)?))
        }
    }
}

fn whole(body: &mut dyn Read) -> io::Result<Bytes> {
    let mut content = vec![];
    body.read_to_end(&mut content)?;
    Ok(content.into())
}

fn digest_of(body: &mut dyn Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut part = vec![0; 128 << 10];
    loop {
        match body.read(&mut part)? {
            0 => return Ok(hex::encode(hash.finalize())),
            length => hash.update(&part[..length]),
        }
    }
}
