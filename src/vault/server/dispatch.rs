//! One request: its route, the caller's rights, its answer, what metrics and logs say of it.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Method, Request, header, request::Parts},
    response::{IntoResponse, Response},
};
use hyper::body::Body as _;

use crate::trust::identity::{IdentityError, PeerIdentity};
use crate::vault::protocol::Policy;

use super::{
    Vault, about, condemned,
    embassy::Embassy,
    mail, points,
    refusal::Refusal,
    repository,
    rights::{Access, Area, Caller},
    route::{Place, Route},
    thinnings,
    upload::Upload,
};

/// Answers a request. Never fails: a refusal is an answer too.
pub async fn handle(
    vault: &Arc<Vault>,
    peer: &Result<PeerIdentity, IdentityError>,
    request: Request<Body>,
) -> Response {
    let (parts, body) = request.into_parts();
    let mut upload = Upload::new(body);
    let route = Route::parse(parts.uri.path());
    let class = route.as_ref().map_or("none", Route::class);
    let answer = match (peer, route) {
        (Err(error), _) => Err(Refusal::from(error.clone())),
        (_, _) if parts.method == Method::DELETE => Err(Refusal::NeverDeletes),
        (_, Err(refusal)) => Err(refusal),
        (Ok(peer), Ok(route)) => match policy_of(vault, &peer.site).await {
            Ok(policy) => Query { vault, peer, policy, parts: &parts }.answer(route, &mut upload).await,
            Err(refusal) => Err(refusal),
        },
    };
    let response = answer.unwrap_or_else(|refusal| {
        note(vault, peer, &parts, &refusal);
        refusal.into_response()
    });
    upload.drain().await;
    vault.metrics.received(upload.received());
    vault.metrics.answered(class, response.status().as_u16(), length(&parts, &response));
    response
}

async fn policy_of(vault: &Arc<Vault>, site: &str) -> Result<Option<Policy>, Refusal> {
    if vault.policies.are_stale() {
        let vault = Arc::clone(vault);
        blocking(move || Ok(vault.policies.refresh()?)).await?;
    }
    Ok(vault.policies.get(site))
}

/// A request whose caller is known.
pub struct Query<'a> {
    /// The vault it came to.
    pub vault: &'a Arc<Vault>,
    /// Who asks.
    pub peer: &'a PeerIdentity,
    policy: Option<Policy>,
    parts: &'a Parts,
}

impl Query<'_> {
    async fn answer(&self, route: Route, upload: &mut Upload) -> Result<Response, Refusal> {
        let method = self.parts.method.clone();
        let get = method == Method::GET || method == Method::HEAD;
        match route {
            Route::WhoAmI if get => Ok(about::who_am_i(self)),
            Route::Keys if get => about::keys(self).await,
            Route::Embassies if get => about::embassies(self).await,
            Route::Epochs(place) if get => points::epochs(self, &place).await,
            Route::Policy(site) if method == Method::PUT => about::set_policy(self, site, upload).await,
            Route::Repository(place, slug) if method == Method::POST => {
                repository::create(self, &place, &slug).await
            }
            Route::Config(place, slug) if get => repository::read_config(self, &place, &slug).await,
            Route::Config(place, slug) if method == Method::POST => {
                repository::write_config(self, &place, &slug, upload).await
            }
            Route::Objects(place, slug, kind) if get => repository::list(self, &place, &slug, kind).await,
            Route::Object(place, slug, kind, name) if get => {
                repository::read(self, &place, &slug, kind, &name).await
            }
            Route::Object(place, slug, kind, name) if method == Method::POST => {
                repository::write(self, &place, &slug, kind, &name, upload).await
            }
            Route::Condemned(place, slug) if get => condemned::list(self, &place, &slug).await,
            Route::Thinnings(place) if get => thinnings::newest(self, &place).await,
            Route::Thinning(place, sequence) if method == Method::PUT => {
                thinnings::put(self, &place, sequence, upload).await
            }
            Route::Points(place) if get => points::list(self, &place).await,
            Route::Point(place, slug, sequence) if get => points::get(self, &place, &slug, sequence).await,
            Route::Point(place, slug, sequence) if method == Method::PUT => {
                points::put(self, &place, &slug, sequence, upload).await
            }
            Route::Mailboxes(place) if get => mail::mailboxes(self, &place).await,
            Route::Letters(place, author) if get => mail::letters(self, &place, &author).await,
            Route::Letter(place, author, sequence) if method == Method::PUT => {
                mail::put(self, &place, &author, sequence, upload).await
            }
            _ => Err(Refusal::BadMethod(method.to_string())),
        }
    }

    /// What rights are decided from.
    #[must_use]
    pub fn caller(&self) -> Caller<'_> {
        Caller { peer: self.peer, local: &self.vault.site, policy: self.policy.as_ref() }
    }

    /// The embassy, if it is stored here and the caller may read it.
    pub async fn readable(&self, place: &Place, area: Area) -> Result<Option<Arc<Embassy>>, Refusal> {
        let caller = self.caller();
        caller.enter(area, Access::Read)?;
        let Some(embassy) = self.find(place).await? else {
            // Only whom it may belong to learns that there is nothing.
            return match caller.owner_to_be(&place.namespace, &[]) {
                Ok(_) => Ok(None),
                Err(refusal) => Err(refusal),
            };
        };
        caller.read(&embassy.owner)?;
        Ok(Some(embassy))
    }

    /// The embassy, made if needed, if the caller may write as `author`; and the bytes it may take.
    pub async fn writable(
        &self,
        place: &Place,
        area: Area,
        author: &str,
    ) -> Result<(Arc<Embassy>, Option<u64>), Refusal> {
        let caller = self.caller();
        caller.enter(area, Access::Write)?;
        let embassy = match self.find(place).await? {
            Some(embassy) => embassy,
            None => self.adopt(place, author).await?,
        };
        caller.write(&embassy.owner, author, &place.namespace)?;
        Ok((embassy, caller.limit(area)))
    }

    async fn find(&self, place: &Place) -> Result<Option<Arc<Embassy>>, Refusal> {
        let known = self.vault.embassies.get(place);
        if known.is_some() || !self.vault.store.is_shared() {
            return Ok(known);
        }
        let (vault, place) = (Arc::clone(self.vault), place.clone());
        blocking(move || Ok(vault.embassies.find(&place)?)).await
    }

    async fn adopt(&self, place: &Place, author: &str) -> Result<Arc<Embassy>, Refusal> {
        let hosted = self.vault.policies.hosted_in(&place.namespace);
        let owner = self.caller().owner_to_be(&place.namespace, &hosted)?;
        self.caller().write(&owner, author, &place.namespace)?;
        let (vault, place) = (Arc::clone(self.vault), place.clone());
        blocking(move || Ok(vault.embassies.get_or_create(&place, &owner)?)).await
    }

    /// A value of the query part.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let pairs = self.parts.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// A number of the query part; `default` if it is not there.
    pub fn number(&self, name: &str, default: u64) -> Result<u64, Refusal> {
        match self.parameter(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| Refusal::BadRequest(format!("the parameter '{name}' must be a number"))),
        }
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Runs `work` where it may block.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Refusal::Disk(std::io::Error::other(error))),
    }
}

fn note(vault: &Vault, peer: &Result<PeerIdentity, IdentityError>, parts: &Parts, refusal: &Refusal) {
    vault.metrics.refused(refusal.reason());
    let peer = peer.as_ref().map_or_else(|_| "nobody".to_owned(), ToString::to_string);
    let (method, path, reason) = (&parts.method, parts.uri.path(), refusal.reason());
    if refusal.status().is_server_error() {
        tracing::error!(peer, %method, path, reason, "{refusal}");
    } else {
        tracing::debug!(peer, %method, path, reason, "{refusal}");
    }
}

fn length(parts: &Parts, response: &Response) -> u64 {
    if parts.method == Method::HEAD {
        return 0;
    }
    let declared = response.headers().get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|value| value.to_str().ok()?.parse().ok());
    declared.or_else(|| response.body().size_hint().exact()).unwrap_or(0)
}
