//! A vault as its operators use it: identity, policies, manifests, mail.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, RequestBuilder};
use serde::de::DeserializeOwned;

use crate::trust::tls::{Forward, Material, client, client_through};
use crate::vault::protocol::{
    EpochPoints, Keys, Mailbox, Policy, StoredEmbassy, StoredLetter, StoredPoint, StoredThinning, WhoAmI,
};

use super::ClientError;

/// For a whole answer, beside the time that was asked to wait. Nothing is repeated: the next reconcile is the repetition.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client of one vault. Clones share their connections.
#[derive(Clone, Debug)]
pub struct VaultClient {
    client: Client,
    url: String,
}

impl VaultClient {
    /// `url` is `https://host:port`.
    pub fn new(url: &str, material: &Material) -> Result<Self, ClientError> {
        Ok(Self { client: client(material)?, url: url.trim_end_matches('/').to_owned() })
    }

    /// Of a vault that is reached through a local port.
    pub fn through(url: &str, material: &Material, forward: &Forward) -> Result<Self, ClientError> {
        let client = client_through(material, Some(forward))?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned() })
    }

    /// Who the vault takes this client for, and whose it is.
    pub async fn whoami(&self) -> Result<WhoAmI, ClientError> {
        self.get("/whoami", Duration::ZERO).await
    }

    /// The public keys of the vault's site.
    pub async fn keys(&self) -> Result<Keys, ClientError> {
        self.get("/keys", Duration::ZERO).await
    }

    /// What is stored here. At the own vault only.
    pub async fn embassies(&self) -> Result<Vec<StoredEmbassy>, ClientError> {
        self.get("/embassies", Duration::ZERO).await
    }

    /// How far the points of each epoch go.
    pub async fn epochs(&self, namespace: &str, name: &str) -> Result<Vec<EpochPoints>, ClientError> {
        self.get(&format!("/epochs/{namespace}/{name}"), Duration::ZERO).await
    }

    /// Sets what a foreign site may store. At the own vault only.
    pub async fn put_policy(&self, site: &str, policy: &Policy) -> Result<(), ClientError> {
        let url = format!("{}/policy/{site}", self.url);
        let text = serde_json::to_string(policy).map_err(|error| ClientError::unexpected(&url, &error))?;
        self.put(&format!("/policy/{site}"), text).await
    }

    /// Stores a signed manifest. The same again is no error; another one is a conflict with the stored text.
    pub async fn put_point(
        &self,
        namespace: &str,
        name: &str,
        epoch: &str,
        sequence: i64,
        text: String,
    ) -> Result<(), ClientError> {
        self.put(&format!("/points/{namespace}/{name}/{epoch}/{sequence}"), text).await
    }

    /// One signed manifest.
    pub async fn point(
        &self,
        namespace: &str,
        name: &str,
        epoch: &str,
        sequence: i64,
    ) -> Result<StoredPoint, ClientError> {
        self.get(&format!("/points/{namespace}/{name}/{epoch}/{sequence}"), Duration::ZERO).await
    }

    /// All signed manifests in the order of points, or those of one epoch, or those after a sequence.
    pub async fn points(
        &self,
        namespace: &str,
        name: &str,
        epoch: Option<&str>,
        after: i64,
    ) -> Result<Vec<StoredPoint>, ClientError> {
        let epoch = epoch.map(|epoch| format!("&epoch={epoch}")).unwrap_or_default();
        self.get(&format!("/points/{namespace}/{name}?after={after}{epoch}"), Duration::ZERO).await
    }

    /// The newest order to give points up, if there is any.
    pub async fn thinning(&self, namespace: &str, name: &str) -> Result<Option<StoredThinning>, ClientError> {
        match self.get(&format!("/thinnings/{namespace}/{name}"), Duration::ZERO).await {
            Ok(stored) => Ok(Some(stored)),
            Err(ClientError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Orders the vault to give points up. The same again is no error.
    pub async fn put_thinning(
        &self,
        namespace: &str,
        name: &str,
        sequence: i64,
        text: String,
    ) -> Result<(), ClientError> {
        self.put(&format!("/thinnings/{namespace}/{name}/{sequence}"), text).await
    }

    /// Posts the next letter of `site`. The last one again is no error; any other is a conflict with the last sequence.
    pub async fn put_mail(
        &self,
        namespace: &str,
        name: &str,
        site: &str,
        sequence: i64,
        text: String,
    ) -> Result<(), ClientError> {
        self.put(&format!("/mail/{namespace}/{name}/{site}/{sequence}"), text).await
    }

    /// Letters of `site` after a sequence, at most 64. Waits up to `wait` (55 s) for the first.
    pub async fn mail(
        &self,
        namespace: &str,
        name: &str,
        site: &str,
        after: i64,
        wait: Duration,
    ) -> Result<Vec<StoredLetter>, ClientError> {
        let path = format!("/mail/{namespace}/{name}/{site}?after={after}&wait={}", wait.as_secs());
        self.get(&path, wait).await
    }

    /// How far the mail of each site goes.
    pub async fn last_mail(&self, namespace: &str, name: &str) -> Result<Vec<Mailbox>, ClientError> {
        self.get(&format!("/mail/{namespace}/{name}"), Duration::ZERO).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, wait: Duration) -> Result<T, ClientError> {
        let url = format!("{}{path}", self.url);
        let body = send(&url, self.client.get(&url).timeout(PATIENCE + wait)).await?;
        serde_json::from_slice(&body).map_err(|error| ClientError::unexpected(&url, &error))
    }

    async fn put(&self, path: &str, text: String) -> Result<(), ClientError> {
        let url = format!("{}{path}", self.url);
        send(&url, self.client.put(&url).timeout(PATIENCE).body(text)).await.map(drop)
    }
}

async fn send(url: &str, request: RequestBuilder) -> Result<Bytes, ClientError> {
    let lost = |error: reqwest::Error| ClientError::transport(url, &error.without_url());
    let response = request.send().await.map_err(lost)?;
    let status = response.status();
    let body = response.bytes().await.map_err(lost)?;
    if status.is_success() { Ok(body) } else { Err(ClientError::answer(status.as_u16(), &body)) }
}
