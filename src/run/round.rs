//! One look at one embassy: the cluster, the mail and the memory, made into what decisions stand on.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::context::{Context, Memory};
use super::keeper::Access;
use crate::api::DataEmbassy;
use crate::api::FENCE_ANNOTATION;
use crate::api::FENCED_LABEL;
use crate::api::Failover;
use crate::api::Site;
use crate::api::duration;
use crate::api::epoch::Epoch;
use crate::api::failover_record::FailoverRecordSpec;
use crate::api::failover_record::VolumeCondition;
use crate::observe::cluster::Seen;
use crate::observe::cluster::mounts;
use crate::observe::post::Correspondence;
use crate::observe::post::PostError;
use crate::plan::desired::Owner;
use crate::plan::failover::Order;
use crate::plan::failover::Point;
use crate::plan::failover::View;
use crate::plan::manifest::Manifest;
use crate::trust::signing::PublicKey;
use crate::vault::client::VaultClient;

/// The two sites of an embassy, as one of them sees it.
#[derive(Debug, Clone)]
pub struct Parties {
    /// This site.
    pub me: String,
    /// The other one.
    pub peer: String,
    /// The home of the register.
    pub home: String,
    /// The site whose vault both use.
    pub vault: String,
}

impl Parties {
    /// Who is who; none if this site is neither.
    #[must_use]
    pub fn of(embassy: &DataEmbassy, me: &str) -> Option<Self> {
        let (home, abroad) = (embassy.spec.home.clone(), embassy.spec.embassies.first()?.clone());
        let peer = if me == home {
            abroad.clone()
        } else if me == abroad {
            home.clone()
        } else {
            return None;
        };
        Some(Self { me: me.to_owned(), peer, home, vault: abroad })
    }
}

/// The way to the vault, and what came over it in this round.
pub struct Link {
    /// For the mover.
    pub access: Option<Access>,
    /// Reads and writes.
    pub post: Option<Correspondence>,
    /// Whether the vault answered every question of this round.
    pub reach: bool,
    /// Why not.
    pub unreached: Option<String>,
    /// What is refused, by whom it was signed or how it was chained. Nothing is decided until a person looked.
    pub distrust: Option<String>,
}

/// Everything about one embassy at this moment.
pub struct Round {
    /// Shared things.
    pub context: Arc<Context>,
    /// Which embassy.
    pub owner: Owner,
    /// What people ask for.
    pub embassy: Arc<DataEmbassy>,
    /// The two sites.
    pub parties: Parties,
    /// Every `Site` here.
    pub sites: BTreeMap<String, Site>,
    /// What the cluster holds.
    pub seen: Seen,
    /// The way to the vault.
    pub link: Link,
}

/// The signing key of a site that this one believes: the one that a person wrote, or the one pinned at first contact.
#[must_use]
pub fn pinned_key(site: Option<&Site>) -> Option<PublicKey> {
    let site = site?;
    let status = site.status.as_ref().and_then(|status| status.public_key.as_ref());
    site.spec.public_key.as_ref().or(status)?.parse().ok()
}

/// The age recipient of a site that this one believes.
#[must_use]
pub fn pinned_recipient(site: Option<&Site>) -> Option<String> {
    let site = site?;
    let status = site.status.as_ref().and_then(|status| status.recipient.as_ref());
    site.spec.recipient.as_ref().or(status).cloned()
}

impl Link {
    /// Before anything was read.
    #[must_use]
    pub const fn unread() -> Self {
        Self { access: None, post: None, reach: false, unreached: None, distrust: None }
    }

    /// Reads everything new.
    pub async fn open(
        context: &Context,
        owner: &Owner,
        parties: &Parties,
        sites: &BTreeMap<String, Site>,
        memory: &mut Memory,
    ) -> Self {
        let mut link = Self::unread();
        let access = match context.access(sites.get(&parties.vault), &parties.vault).await {
            Ok(access) => access,
            Err(why) => {
                link.unreached = Some(why);
                return link;
            }
        };
        let vault = match memory.vault(&access) {
            Ok(vault) => vault,
            Err(error) => {
                link.unreached = Some(error.to_string());
                return link;
            }
        };
        let post = Correspondence { vault, owner: owner.clone() };
        link.access = Some(access);
        match read(context, &post, parties, sites, memory).await {
            Ok(()) => link.reach = true,
            Err(Unread::Unreached(why)) => link.unreached = Some(why),
            Err(Unread::Distrusted(why)) => {
                link.reach = true;
                link.distrust = Some(why);
            }
        }
        link.post = Some(post);
        link
    }
}

impl Memory {
    /// The client of the vault, kept while the certificates stay the same.
    fn vault(&mut self, access: &Access) -> Result<VaultClient, crate::vault::client::ClientError> {
        let fingerprint = format!("{}{}{}", access.url, access.operator.ca, access.operator.certificate);
        if let Some((known, client)) = &self.client
            && *known == fingerprint
        {
            return Ok(client.clone());
        }
        let client = VaultClient::new(&access.url, &access.operator)?;
        self.client = Some((fingerprint, client.clone()));
        Ok(client)
    }
}

enum Unread {
    Unreached(String),
    Distrusted(String),
}

impl From<PostError> for Unread {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Vault(error) => Self::Unreached(error.to_string()),
            other => Self::Distrusted(other.to_string()),
        }
    }
}

async fn read(
    context: &Context,
    post: &Correspondence,
    parties: &Parties,
    sites: &BTreeMap<String, Site>,
    memory: &mut Memory,
) -> Result<(), Unread> {
    let own_key = context.keys().await.signing.public();
    if memory.own.is_none() {
        memory.own = Some(post.open(&parties.me, &own_key).await?);
    }
    let Some(peer_key) = pinned_key(sites.get(&parties.peer)) else {
        return Err(Unread::Unreached(format!(
            "the key of {} is not known yet: it is pinned at first contact; see kubectl get site {}",
            parties.peer, parties.peer
        )));
    };
    match &mut memory.peer {
        Some(mailbox) => {
            post.read(&parties.peer, &peer_key, mailbox).await?;
        }
        None => memory.peer = Some(post.open(&parties.peer, &peer_key).await?),
    }
    let keys = BTreeMap::from([(parties.me.clone(), own_key), (parties.peer.clone(), peer_key)]);
    Ok(post.points(&keys, &mut memory.points).await?)
}

impl Round {
    /// What the decision stands on.
    #[must_use]
    pub fn view(&self, record: &FailoverRecordSpec, memory: &Memory, now: Timestamp) -> View {
        let boot_ids = self.seen.boot_ids.clone();
        let annotation = self.embassy.annotations().get(FENCE_ANNOTATION).map(String::as_str);
        let peer = memory.peer.as_ref();
        View {
            cold_start: !record.boot_ids.is_empty()
                && !boot_ids.is_empty()
                && record.boot_ids.is_disjoint(&boot_ids),
            // Not one node in sight says nothing about the ones that were there.
            boot_ids: if boot_ids.is_empty() { record.boot_ids.clone() } else { boot_ids },
            pods: self.writable_pods(),
            started: self.started(record),
            document: peer.and_then(|mailbox| mailbox.report.as_ref()).map(|report| report.document.clone()),
            drained: self.link.reach,
            reach: self.link.reach,
            peer_recent: self.peer_recent(memory),
            own_point: newest(memory, |epoch| epoch.site == self.parties.me),
            peer_point: newest(memory, |epoch| {
                epoch.site == self.parties.peer || record.volumes.condition == VolumeCondition::Empty
            }),
            loss: newest_manifest(memory).map(|manifest| age(manifest, now)),
            orders: self.seen.orders.iter().filter(|order| is_open(order)).map(|o| self.order(o)).collect(),
            fence_asked: annotation == Some("true"),
            lift_asked: annotation == Some("lift"),
            approved: self.embassy.spec.failover.approve_discard.clone(),
            suspended: self.embassy.spec.suspend,
            record: record.clone(),
        }
    }

    /// Whether a Pod with a protected volume exists.
    #[must_use]
    pub fn writable_pods(&self) -> bool {
        self.seen.pods.iter().any(|pod| mounts(pod, &self.seen.claims))
    }

    /// Whether the namespace carries the fence's label.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.seen.namespace.as_ref().is_some_and(|namespace| namespace.labels().contains_key(FENCED_LABEL))
    }

    fn started(&self, record: &FailoverRecordSpec) -> bool {
        !self.is_closed()
            && self.seen.workloads.iter().all(|workload| workload.former.is_none())
            && !self.needs_activation(record)
    }

    /// Whether the captured objects must be applied here: the bytes came from the other site in this very reign.
    #[must_use]
    pub fn needs_activation(&self, record: &FailoverRecordSpec) -> bool {
        self.embassy.spec.failover.activation == crate::api::data_embassy::Activation::Captured
            && record.activated.as_ref() != Some(&record.epoch)
            && record.volumes.at.as_ref().is_some_and(|at| at.point.epoch.site != self.parties.me)
    }

    /// Whether the peer's last letter came within three report intervals.
    #[must_use]
    pub fn peer_recent(&self, memory: &Memory) -> bool {
        let within = self.context.settings.report_interval * 3;
        memory
            .peer
            .as_ref()
            .and_then(|mailbox| mailbox.heard)
            .is_some_and(|heard: Instant| heard.elapsed() < within)
    }

    fn order(&self, order: &Failover) -> Order {
        let limit = order.spec.max_data_loss.as_ref().unwrap_or(&self.embassy.spec.failover.max_data_loss);
        Order {
            name: order.name_any(),
            epoch: order.spec.epoch(),
            kind: order.spec.mode,
            ticket: order.spec.ticket.clone(),
            attestation: order.spec.attestation.as_ref().map(|attestation| attestation.peer),
            // An unreadable limit allows no loss at all.
            max_data_loss: duration::parse(limit).unwrap_or_default(),
        }
    }
}

fn is_open(order: &Failover) -> bool {
    let phase = order.status.as_ref().and_then(|status| status.phase);
    !phase.is_some_and(crate::api::failover::FailoverPhase::is_final)
}

fn newest(memory: &Memory, of: impl Fn(&Epoch) -> bool) -> Option<Point> {
    let (_, committed) = memory.points.iter().rev().find(|(point, _)| of(&point.epoch))?;
    Some(committed.manifest.point())
}

/// The newest point of either site, by (epoch, sequence).
#[must_use]
pub fn newest_manifest(memory: &Memory) -> Option<&Manifest> {
    memory.points.last_key_value().map(|(_, committed)| &committed.manifest)
}

fn age(manifest: &Manifest, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(manifest.cut_time.0)).unwrap_or_default()
}
