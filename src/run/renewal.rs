//! Client certificates that came with an invitation renew themselves: asked for and answered in signed mail, tried at the vault,
//! and only then put in the place of the old ones.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;
use tokio::sync::Mutex;

use super::context::Context;
use super::error::RunError;
use super::keeper::{KeeperError, invited_by, text, trusted};
use super::memory::Memory;
use super::round::Round;
use crate::api::Site;
use crate::api::site::VaultAccess;
use crate::plan::renewal::Answer;
use crate::plan::renewal::Holding;
use crate::plan::renewal::Life;
use crate::plan::renewal::Renewal;
use crate::plan::renewal::Request;
use crate::plan::renewal::Step;
use crate::plan::renewal::next;
use crate::trust::certificates::Validity;
use crate::trust::identity::PeerIdentity;
use crate::trust::identity::Role;
use crate::trust::requests::Request as KeyRequest;
use crate::trust::requests::check_client;
use crate::trust::tls::Material;
use crate::vault::client::VaultClient;

/// An answer takes two reports; after this long a person should look.
const PATIENCE: Duration = Duration::from_hours(1);
/// Where `kubectl apply` keeps what it applied, private keys included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// What is put into use, as named in every client Secret.
const IN_USE: [&str; 5] = ["tls.crt", "tls.key", "mover.crt", "mover.key", "ca.crt"];
/// What waits for its certificates.
const WAITING: [&str; 4] = ["next-operator.key", "next-operator.csr", "next-mover.key", "next-mover.csr"];

/// Requests under way, by the site whose vault they are for. They are kept in Secrets; losing this costs time only.
#[derive(Default)]
pub struct Renewals(Mutex<BTreeMap<String, UnderWay>>);

#[derive(Clone)]
struct UnderWay {
    request: Request,
    since: Instant,
    /// Whether a report carries it.
    in_mail: bool,
    trouble: Option<String>,
}

/// How it stands with the certificates for one vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is to be done.
    Fresh,
    /// They renew themselves at this moment.
    Renewing,
    /// A person must act; why they do not renew themselves.
    Expiring(String),
    /// Nothing is left of them.
    Over,
}

impl Renewals {
    async fn want(&self, host: &str, request: Request) -> UnderWay {
        let mut all = self.0.lock().await;
        let known = all.get(host).filter(|known| known.request == request).cloned();
        let new = UnderWay { request, since: Instant::now(), in_mail: false, trouble: None };
        let under_way = known.unwrap_or(new);
        all.insert(host.to_owned(), under_way.clone());
        under_way
    }

    async fn end(&self, host: &str) {
        self.0.lock().await.remove(host);
    }

    /// The request for `host`, which a report is about to carry.
    pub async fn carried(&self, host: &str) -> Option<Request> {
        let mut all = self.0.lock().await;
        let under_way = all.get_mut(host)?;
        under_way.in_mail = true;
        Some(under_way.request.clone())
    }

    async fn is_answered_by(&self, host: &str, answer: &Answer) -> bool {
        self.0.lock().await.get(host).is_some_and(|under_way| under_way.request == answer.request)
    }

    async fn failed(&self, host: &str, why: String) {
        if let Some(under_way) = self.0.lock().await.get_mut(host) {
            under_way.trouble = Some(why);
        }
    }
}

impl UnderWay {
    fn standing(&self, host: &str) -> Standing {
        if let Some(why) = &self.trouble {
            return Standing::Expiring(format!("what {host} issued is not used: {why}"));
        }
        if !self.in_mail {
            return Standing::Expiring(format!(
                "it is renewed in the mail of a DataEmbassy with {host}, and there is none"
            ));
        }
        if self.since.elapsed() > PATIENCE {
            return Standing::Expiring(format!(
                "it was asked for in signed mail an hour ago and {host} has not answered: see the log of the operator there"
            ));
        }
        Standing::Renewing
    }
}

/// Secret with the keys that wait for certificates, and with the last renewal.
fn store_name(host: &str) -> String {
    format!("data-embassy-renewal-{host}")
}

/// Does what is next for the vault of `host`.
pub async fn look(context: &Context, host: &str, vault: &VaultAccess) -> Result<Standing, RunError> {
    let (keeper, name) = (&context.keeper, &vault.client_tls_secret_ref.name);
    // A missing Secret is said by whoever wants to use it.
    let Some(used) = keeper.get(name).await? else { return Ok(Standing::Fresh) };
    let validity = Validity::of(&text(&used, "tls.crt").unwrap_or_default()).map_err(KeeperError::from)?;
    context.metrics.expires(host, "client", validity.until);
    let invited = invited_by(&used) == Some(host);
    let store = if invited { keeper.get(&store_name(host)).await? } else { None };
    let now = SystemTime::now();
    let holding = Holding {
        invited,
        life: life(&validity, now),
        pending: store.as_ref().and_then(request).is_some(),
        renewed_is_newer: store.as_ref().is_some_and(|store| is_newer(store, &validity, now)),
    };
    let mut fields = store.as_ref().map(fields).unwrap_or_default();
    match next(&holding) {
        Step::Nothing => {}
        Step::Use => {
            put_into_use(context, used, &fields).await?;
            tracing::info!(site = host, secret = name, "client certificates renewed");
            return Ok(Standing::Fresh);
        }
        Step::Make => {
            for role in ["operator", "mover"] {
                let made = KeyRequest::generate().map_err(KeeperError::from)?;
                fields.insert(format!("next-{role}.key"), made.key_pem.to_string());
                fields.insert(format!("next-{role}.csr"), made.request_pem);
            }
            let kept = keeper.keep(&store_name(host), store.as_ref(), fields).await?;
            if let Some(request) = request(&kept) {
                return Ok(context.renewals.want(host, request).await.standing(host));
            }
        }
        Step::Ask => {
            if let Some(request) = store.as_ref().and_then(request) {
                return Ok(context.renewals.want(host, request).await.standing(host));
            }
        }
        Step::Forget => {
            fields.retain(|name, _| !WAITING.contains(&name.as_str()));
            keeper.keep(&store_name(host), store.as_ref(), fields).await?;
        }
    }
    context.renewals.end(host).await;
    Ok(match holding.life {
        Life::Fresh => Standing::Fresh,
        Life::Due => Standing::Expiring("it did not come with an invitation of this version".to_owned()),
        Life::Over => Standing::Over,
    })
}

fn life(validity: &Validity, now: SystemTime) -> Life {
    match (validity.is_over(now), validity.is_due(now)) {
        (true, _) => Life::Over,
        (_, true) => Life::Due,
        _ => Life::Fresh,
    }
}

fn is_newer(store: &Secret, used: &Validity, now: SystemTime) -> bool {
    let kept = text(store, "tls.crt").and_then(|certificate| Validity::of(&certificate).ok());
    kept.is_some_and(|kept| kept.replaces(used, now))
}

fn request(store: &Secret) -> Option<Request> {
    Some(Request { operator: text(store, "next-operator.csr")?, mover: text(store, "next-mover.csr")? })
}

fn fields(store: &Secret) -> BTreeMap<String, String> {
    let all = IN_USE.into_iter().chain(WAITING);
    all.filter_map(|name| Some((name.to_owned(), text(store, name)?))).collect()
}

/// Replaces the certificates in use, as read: whoever wrote first wins, and this is looked at again.
async fn put_into_use(
    context: &Context,
    mut used: Secret,
    fields: &BTreeMap<String, String>,
) -> Result<(), RunError> {
    let data = used.data.get_or_insert_default();
    for name in IN_USE {
        if let Some(value) = fields.get(name) {
            data.insert(name.to_owned(), ByteString(value.clone().into_bytes()));
        }
    }
    // The old private key is worth nothing to anybody any more, so it does not stay there either.
    used.annotations_mut().remove(LAST_APPLIED);
    context.keeper.replace(&used).await?;
    Ok(())
}

/// Keeps what was issued, if it fits the keys that wait and the vault takes it, and puts it into use.
async fn receive(context: &Context, host: &str, vault: &VaultAccess, answer: &Answer) -> Result<(), String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let store = context.keeper.get(&store_name(host)).await.map_err(|error| said(&error))?;
    let Some(store) = store.filter(|store| request(store).as_ref() == Some(&answer.request)) else {
        return Ok(()); // an answer to what is wanted no more
    };
    let ca = trusted(&vault.ca_bundle, Some(&answer.authorities));
    let mut fields = BTreeMap::from([("ca.crt".to_owned(), answer.authorities.clone())]);
    for (role, certificate, used) in
        [(Role::Operator, &answer.operator, "tls"), (Role::Mover, &answer.mover, "mover")]
    {
        let key = text(&store, &format!("next-{role}.key")).unwrap_or_default();
        let identity = PeerIdentity { site: context.settings.site.clone(), role };
        check_client(certificate, &key, &answer.authorities, &identity, SystemTime::now())
            .map_err(|error| said(&error))?;
        let material = Material { ca: ca.clone(), certificate: certificate.clone(), key: key.clone() };
        let client = VaultClient::new(&vault.url, &material).map_err(|error| said(&error))?;
        let known = client.whoami().await.map_err(|error| said(&error))?;
        if known.site != identity.site || known.role != role.to_string() {
            return Err(format!("the vault takes its bearer for {} of {}", known.role, known.site));
        }
        fields.insert(format!("{used}.crt"), certificate.clone());
        fields.insert(format!("{used}.key"), key);
    }
    let name = store_name(host);
    context.keeper.keep(&name, Some(&store), fields).await.map_err(|error| said(&error))?;
    look(context, host, vault).await.map(drop).map_err(|error| said(&error))
}

/// Takes what the signed letter of `host` answers. A renewal that fails is said in its `Site` and holds nothing up.
pub async fn take(context: &Context, host: &Site, answer: &Answer) {
    let (name, Some(vault)) = (host.name_any(), &host.spec.vault) else { return };
    if !context.renewals.is_answered_by(&name, answer).await {
        return;
    }
    if let Err(why) = receive(context, &name, vault, answer).await {
        tracing::warn!(site = name, why, "the client certificates that were issued are not used");
        context.renewals.failed(&name, why).await;
    }
}

/// Certificates for a site whose signed letter asks for them; `given` is what it was told before.
pub async fn answer(
    context: &Context,
    site: &Site,
    request: &Request,
    given: Option<&Answer>,
) -> Result<Option<Answer>, KeeperError> {
    let (name, keys) = (site.name_any(), context.keys().await);
    let Some(authorities) = &keys.authorities else { return Ok(None) };
    if site.spec.hosting.is_none() {
        tracing::warn!(
            site = name,
            "asks for client certificates, but its Site here has no spec.hosting: not issued"
        );
        return Ok(None);
    }
    if let Some(given) = given.filter(|given| given.request == *request) {
        return Ok(Some(given.clone()));
    }
    tracing::info!(site = name, "client certificates issued on its signed request");
    Ok(Some(Answer {
        operator: authorities.issuing.answer(&request.operator, &name, Role::Operator)?,
        mover: authorities.issuing.answer(&request.mover, &name, Role::Mover)?,
        authorities: authorities.bundle(),
        request: request.clone(),
    }))
}

impl Round {
    /// Takes the certificates that the report of the site that is met at a vault brings.
    pub async fn take_certificates(&self, memory: &Memory, vault: &str) {
        let (peer, me) = (self.parties.met_at(vault), &self.parties.me);
        let met = memory.ways.get(vault).and_then(|way| way.met.as_ref()?.report.as_ref());
        let said = met.and_then(|report| report.certificates.get(me)?.answer());
        if let (Some(answer), Some(host)) = (said, self.sites.get(&peer)) {
            take(&self.context, host, answer).await;
        }
    }

    /// What this site's next report at a vault says of certificates, by the site that is addressed.
    pub async fn certificates(&self, memory: &Memory, vault: &str) -> BTreeMap<String, Renewal> {
        let (peer, me) = (self.parties.met_at(vault), &self.parties.me);
        // At another site's vault this one asks; at its own it answers.
        if peer == vault {
            let request = self.context.renewals.carried(&peer).await;
            return request.map(|request| (peer, Renewal::Request(request))).into_iter().collect();
        }
        let Some(way) = memory.ways.get(vault) else { return BTreeMap::new() };
        let met = way.met.as_ref().and_then(|mailbox| mailbox.report.as_ref());
        let wanted = met.and_then(|report| report.certificates.get(me)?.request());
        let (Some(request), Some(site)) = (wanted, self.sites.get(&peer)) else { return BTreeMap::new() };
        let own = way.own.as_ref().and_then(|mailbox| mailbox.report.as_ref());
        let given = own.and_then(|report| report.certificates.get(&peer)?.answer());
        match answer(&self.context, site, request, given).await {
            Ok(answer) => answer.map(|answer| (peer, Renewal::Answer(answer))).into_iter().collect(),
            Err(error) => {
                tracing::warn!(site = peer, %error, "asks for client certificates: not issued");
                BTreeMap::new()
            }
        }
    }
}
