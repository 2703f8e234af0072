//! `Site` objects: first contact, pinned keys, whether the site's vault answers, what this site hosts for it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{Api, ResourceExt};
use kube_quantity::ParsedQuantity;

use super::context::Context;
use super::error::RunError;
use super::keeper::{Access, VAULT_TLS};
use super::renewal::{self, Standing};
use crate::act;
use crate::api::Site;
use crate::api::conditions::condition;
use crate::api::site::SiteStatus;
use crate::observe::post::Correspondence;
use crate::plan::desired::Owner;
use crate::trust::certificates::Validity;
use crate::trust::signing::PublicKey;
use crate::vault::client::VaultClient;
use crate::vault::protocol::Policy;

/// Between looks at a site that says nothing new.
pub const INTERVAL: Duration = Duration::from_secs(20);

/// What was found out about a site.
struct Contact {
    reachable: Option<bool>,
    reason: &'static str,
    message: String,
    public_key: Option<String>,
    recipient: Option<String>,
}

/// Looks at every site.
pub async fn look(context: &Arc<Context>) -> Result<(), RunError> {
    let sites = context.sites().await.map_err(|error| RunError::Cluster("read Sites", error))?;
    for site in sites.values() {
        let contact = if site.name_any() == context.settings.site {
            itself(context).await
        } else if site.spec.vault.is_some() {
            by_its_vault(context, site).await
        } else {
            by_its_mail(context, site).await
        };
        report(context, site, contact).await?;
        if site.name_any() != context.settings.site {
            host(context, site).await?;
        }
    }
    Ok(())
}

async fn itself(context: &Context) -> Contact {
    let keys = context.keys().await;
    let takes_over =
        keys.authorities.as_ref().and_then(|authorities| authorities.takes_over().ok().flatten());
    if let Some(issuing) = keys.authorities.as_ref().map(|authorities| authorities.issuing.certificate_pem())
        && let Ok(validity) = Validity::of(issuing)
    {
        context.metrics.expires(&context.settings.site, "authority", validity.until);
    }
    let (reason, message) = match takes_over {
        None => ("Local", "the operator here speaks for this site".to_owned()),
        Some(at) => (
            "AuthorityChanging",
            format!(
                "a new authority issues the vault's certificate from {} on. Sites that were invited have heard of it by \
                 then; where people wrote spec.vault.caBundle for certificates of their own, they must add the field \
                 ca.crt of Secret {VAULT_TLS} to it before",
                date(at)
            ),
        ),
    };
    Contact {
        reachable: Some(true),
        reason,
        message,
        public_key: Some(keys.signing.public().to_string()),
        recipient: Some(keys.identity.recipient()),
    }
}

async fn by_its_vault(context: &Context, site: &Site) -> Contact {
    let name = site.name_any();
    let failed = |message: String| Contact {
        reachable: Some(false),
        reason: "VaultUnreachable",
        message,
        public_key: None,
        recipient: None,
    };
    let Some(vault) = &site.spec.vault else { return failed("its Site has no spec.vault".to_owned()) };
    let standing = match renewal::look(context, &name, vault).await {
        Ok(standing) => standing,
        // Another writer was first: the next look reads what it wrote.
        Err(error) if error.is_conflict() => Standing::Renewing,
        Err(error) => Standing::Expiring(format!("how much is left of it is not known ({error})")),
    };
    let access = match context.access(Some(site), &name).await {
        Ok(access) => access,
        Err(message) => return failed(message),
    };
    let keys = match VaultClient::new(&access.url, &access.operator) {
        Ok(client) => client.keys().await,
        Err(error) => Err(error),
    };
    match keys {
        Ok(keys) if keys.site != name => failed(format!(
            "the vault at {} belongs to site {}, not {name}: correct spec.vault.url",
            access.url, keys.site
        )),
        Ok(keys) => {
            let (reason, message) = answering(&name, &context.settings.site, &access, standing);
            Contact {
                reachable: Some(true),
                reason,
                message,
                public_key: keys.public_key,
                recipient: keys.recipient,
            }
        }
        Err(error) if standing == Standing::Over => Contact {
            reason: "CertificateExpired",
            ..failed(format!(
                "the client certificate ran out: {} ({error})",
                invite(&name, &context.settings.site)
            ))
        },
        Err(error) => failed(error.to_string()),
    }
}

/// What is to be said of a vault that answers.
fn answering(host: &str, me: &str, access: &Access, standing: Standing) -> (&'static str, String) {
    let authorities_end = Validity::longest(&access.operator.ca).is_ok_and(|v| v.is_due(SystemTime::now()));
    match standing {
        Standing::Renewing => (
            "CertificateRenewing",
            "its vault answers; new client certificates are asked for in signed mail".to_owned(),
        ),
        Standing::Expiring(why) => (
            "CertificateExpiring",
            format!(
                "its vault answers, but the client certificate ends before long and does not renew itself: {why}. Act before \
                 it ends: {}",
                invite(host, me)
            ),
        ),
        Standing::Over => {
            ("CertificateExpiring", format!("the client certificate ran out: {}", invite(host, me)))
        }
        Standing::Fresh if authorities_end => (
            "AuthorityExpiring",
            format!(
                "its vault answers, but less than a third is left of the life of every authority that spec.vault.caBundle \
                 names: add the field ca.crt of Secret {VAULT_TLS} in {host} to it. Certificates that came with an \
                 invitation bring it with their next renewal"
            ),
        ),
        Standing::Fresh => ("Answering", "its vault answers".to_owned()),
    }
}

fn invite(host: &str, me: &str) -> String {
    format!("run 'kubectl embassy invite {me}' in {host} again and apply what it prints here")
}

fn date(at: SystemTime) -> String {
    Timestamp::try_from(at).map_or_else(|error| error.to_string(), |at| at.strftime("%Y-%m-%d").to_string())
}

/// A site that this one never dials shows its keys in the first mandate that it leaves in the vault here, or home shows them.
async fn by_its_mail(context: &Context, site: &Site) -> Contact {
    let name = site.name_any();
    let unknown = |message: String| Contact {
        reachable: None,
        reason: "NeverDialled",
        message,
        public_key: None,
        recipient: None,
    };
    if pinned(site).is_some() {
        return unknown("this site is never dialled: see the DataEmbassies for its reports".to_owned());
    }
    match introduction(context, &name).await {
        Ok(Some((public_key, recipient))) => Contact {
            public_key: Some(public_key),
            recipient: Some(recipient),
            ..unknown("its first letter came".to_owned())
        },
        Ok(None) => unknown("it has left no letter in the vault here yet".to_owned()),
        Err(why) => unknown(why),
    }
}

async fn introduction(context: &Context, site: &str) -> Result<Option<(String, String)>, String> {
    if let Some(shown) = context.introductions.lock().await.get(site) {
        return Ok(Some(shown.clone()));
    }
    let vault = local_vault(context).await?;
    for stored in vault.embassies().await.map_err(|error| error.to_string())? {
        if stored.owner != site {
            continue;
        }
        let owner = Owner { namespace: stored.namespace, name: stored.name };
        let post = Correspondence { vault: vault.clone(), owner };
        if let Some(shown) = post.introduction(site).await.map_err(|error| error.to_string())? {
            return Ok(Some((shown.public_key, shown.recipient)));
        }
    }
    Ok(None)
}

/// The vault of this site.
pub async fn local_vault(context: &Context) -> Result<VaultClient, String> {
    let access = context.access(None, &context.settings.site).await?;
    VaultClient::new(&access.url, &access.operator).map_err(|error| error.to_string())
}

fn pinned(site: &Site) -> Option<&String> {
    let status = site.status.as_ref().and_then(|status| status.public_key.as_ref());
    site.spec.public_key.as_ref().or(status)
}

/// The first key that was seen is pinned; another one is refused until a person writes it into the spec.
async fn report(context: &Context, site: &Site, contact: Contact) -> Result<(), RunError> {
    let old = site.status.clone().unwrap_or_default();
    let shown = contact.public_key.as_ref().filter(|key| key.parse::<PublicKey>().is_ok());
    let (trusted, reason, message) = match (pinned(site), shown) {
        (Some(pinned), Some(shown)) if pinned != shown => (
            Some(false),
            "KeyChanged",
            format!(
                "the site shows the key {shown}, but {pinned} is pinned: nothing it signs is believed. If its people \
                 confirm the change, write the new key into spec.publicKey (and its recipient into spec.recipient)"
            ),
        ),
        (Some(_), _) => (Some(true), "Pinned", "its key is pinned".to_owned()),
        (None, Some(_)) => (Some(true), "Pinned", "its key was pinned at first contact".to_owned()),
        (None, None) => (None, "NoContact", "its key is not known yet".to_owned()),
    };
    let now = Timestamp::now();
    let generation = site.metadata.generation.unwrap_or_default();
    let reachable = condition(
        &old.conditions,
        "Reachable",
        contact.reachable,
        contact.reason,
        &contact.message,
        generation,
        now,
    );
    let was =
        old.conditions.iter().find(|condition| condition.type_ == "Reachable").map(|c| c.status.clone());
    let changed = was.as_ref() != Some(&reachable.status);
    let status = SiteStatus {
        local: site.name_any() == context.settings.site,
        public_key: old.public_key.clone().or_else(|| shown.cloned()),
        recipient: old.recipient.clone().or_else(|| shown.and(contact.recipient.clone())),
        last_contact: if changed { Some(Time(now)) } else { old.last_contact.clone() },
        conditions: vec![
            reachable,
            condition(&old.conditions, "Trusted", trusted, reason, &message, generation, now),
        ],
    };
    let api: Api<Site> = Api::all(context.client.clone());
    act::report::status(&api, site, site.status.as_ref(), &status).await?;
    Ok(())
}

/// Tells the vault what it may hold for the site, and makes what the site asked for.
async fn host(context: &Arc<Context>, site: &Site) -> Result<(), RunError> {
    if context.keys().await.local.is_none() {
        return Ok(());
    }
    let name = site.name_any();
    let Ok(vault) = local_vault(context).await else { return Ok(()) };
    let key = super::round::pinned_key(Some(site));
    let public_key = key.as_ref().map(ToString::to_string);
    let policy = site.spec.hosting.as_ref().map_or_else(
        || Policy { namespaces: vec![], quota_bytes: 0, public_key: public_key.clone() },
        |hosting| Policy {
            public_key: public_key.clone(),
            namespaces: hosting.namespaces.clone(),
            quota_bytes: ParsedQuantity::try_from(&hosting.quota)
                .ok()
                .and_then(|quantity| quantity.to_bytes_i64())
                .unwrap_or(0),
        },
    );
    if let Err(error) = vault.put_policy(&name, &policy).await {
        tracing::warn!(site = name, %error, "the vault here did not take the hosting policy; trying again");
        return Ok(());
    }
    let Some(key) = key else { return Ok(()) };
    let stored = match vault.embassies().await {
        Ok(stored) => stored,
        Err(error) => return Err(RunError::again(&error.to_string())),
    };
    for embassy in stored
        .into_iter()
        .filter(|stored| stored.owner == name && policy.namespaces.contains(&stored.namespace))
    {
        let owner = Owner { namespace: embassy.namespace, name: embassy.name };
        let post = Correspondence { vault: vault.clone(), owner };
        super::hosting::receive(context, &post, &name, &key).await?;
    }
    Ok(())
}
