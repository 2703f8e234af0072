//! The way to one vault, and what came over it in this round.

use std::collections::BTreeMap;

use super::context::Context;
use super::keeper::Access;
use super::memory::{Memory, Way};
use super::parties::Parties;
use super::round::pinned_key;
use crate::api::Site;
use crate::observe::post::{Correspondence, PassedOn, PostError};
use crate::plan::desired::Owner;
use crate::trust::signing::PublicKey;

/// The way to one vault.
#[derive(Default)]
pub struct Link {
    /// For the mover.
    pub access: Option<Access>,
    /// Reads and writes.
    pub post: Option<Correspondence>,
    /// Whether the vault answered every question of this round, and what it answered is believed.
    pub reach: bool,
    /// Why not.
    pub unreached: Option<String>,
    /// Mail or points that cannot be used. Nothing is decided on them until a person looked.
    pub distrust: Option<Distrust>,
}

/// Why nothing is decided on what lies in a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distrust {
    /// `NotTrusted`: who signed it, or how it is chained. `UnknownVersion`: a newer operator wrote it.
    pub reason: &'static str,
    /// In a sentence, with what to do.
    pub why: String,
}

/// Every way, by the name of the vault's site.
pub type Links = BTreeMap<String, Link>;

enum Unread {
    Unreached(String),
    Distrusted(Distrust),
}

impl From<PostError> for Unread {
    fn from(error: PostError) -> Self {
        let reason = match &error {
            PostError::Vault(error) => return Self::Unreached(error.to_string()),
            PostError::UnknownVersion { .. } => "UnknownVersion",
            _ => "NotTrusted",
        };
        Self::Distrusted(Distrust { reason, why: error.to_string() })
    }
}

/// Reads everything new at every vault.
pub async fn open(
    context: &Context,
    owner: &Owner,
    parties: &Parties,
    sites: &BTreeMap<String, Site>,
    memory: &mut Memory,
) -> Links {
    let mut ways: BTreeMap<String, Way> = BTreeMap::new();
    for vault in parties.vaults() {
        let way = memory.ways.remove(&vault).unwrap_or_default();
        ways.insert(vault, way);
    }
    // One vault that does not answer must not hold up the others.
    let opened = ways.iter_mut().map(|(vault, way)| async {
        (vault.clone(), open_one(context, owner, parties, sites, vault, way).await)
    });
    let links: Links = futures::future::join_all(opened).await.into_iter().collect();
    memory.ways = ways;
    if !parties.at_home() {
        passed_on(context, owner, parties, sites, memory).await;
    }
    links
}

async fn open_one(
    context: &Context,
    owner: &Owner,
    parties: &Parties,
    sites: &BTreeMap<String, Site>,
    vault: &str,
    way: &mut Way,
) -> Link {
    let mut link = Link::default();
    let access = match context.access(sites.get(vault), vault).await {
        Ok(access) => access,
        Err(why) => return Link { unreached: Some(why), ..link },
    };
    let client = match way.client(&access) {
        Ok(client) => client,
        Err(error) => return Link { unreached: Some(error.to_string()), ..link },
    };
    let post = Correspondence { vault: client, owner: owner.clone() };
    link.access = Some(access);
    match read(context, &post, parties, sites, vault, way).await {
        Ok(()) => link.reach = true,
        Err(Unread::Unreached(why)) => link.unreached = Some(why),
        Err(Unread::Distrusted(distrust)) => {
            (way.own, way.met) = (None, None);
            link.distrust = Some(distrust);
        }
    }
    link.post = Some(post);
    link
}

async fn read(
    context: &Context,
    post: &Correspondence,
    parties: &Parties,
    sites: &BTreeMap<String, Site>,
    vault: &str,
    way: &mut Way,
) -> Result<(), Unread> {
    let own_key = context.keys().await.signing.public();
    if way.own.is_none() {
        way.own = Some(post.open(&parties.me, &own_key).await?);
    }
    let met = parties.met_at(vault);
    let Some(key) = pinned_key(sites.get(&met)) else {
        return Err(Unread::Unreached(format!(
            "the key of {met} is not known yet: it is pinned at first contact; see kubectl get site {met}"
        )));
    };
    match &mut way.met {
        Some(mailbox) => {
            post.read(&met, &key, mailbox).await?;
        }
        None => way.met = Some(post.open(&met, &key).await?),
    }
    let keys = BTreeMap::from([(parties.me.clone(), own_key), (met, key)]);
    Ok(post.points(&keys, &mut way.points).await?)
}

/// What home passes on: letters of the other embassies, each signed by its author. One that is not believed is left out and said.
async fn passed_on(
    context: &Context,
    owner: &Owner,
    parties: &Parties,
    sites: &BTreeMap<String, Site>,
    memory: &mut Memory,
) {
    let home = memory.ways.get(&parties.me).and_then(|way| way.met.as_ref()?.report.as_ref());
    let enclosed = home.map(|report| report.enclosed.clone()).unwrap_or_default();
    for enclosure in enclosed.into_iter().filter(|enclosure| parties.others.contains(&enclosure.site)) {
        let site = enclosure.site.clone();
        let Some(key) = pinned_key(sites.get(&site)) else {
            // Pinned at first contact, by the loop that looks after the sites.
            context.introductions.lock().await.insert(site, (enclosure.public_key, enclosure.recipient));
            continue;
        };
        match newer(owner, &site, &key, &enclosure.letter, memory.passed_on.get(&site)) {
            Ok(Some(passed)) => {
                memory.passed_on.insert(site, passed);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(
                namespace = owner.namespace, name = owner.name, site, %error,
                "a letter that home passed on is not believed and counts for nothing"
            ),
        }
    }
}

fn newer(
    owner: &Owner,
    site: &str,
    key: &PublicKey,
    text: &str,
    known: Option<&PassedOn>,
) -> Result<Option<PassedOn>, PostError> {
    let passed = PassedOn::believe(owner, site, key, text, known.is_none())?;
    Ok(passed.filter(|passed| known.is_none_or(|known| known.sequence < passed.sequence)))
}
