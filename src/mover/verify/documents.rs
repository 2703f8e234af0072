//! Reads every manifest and every letter of an embassy and checks signatures, chains and what was seen before.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Parameters,
    chain::{Chain, Fault},
};
use crate::api::epoch::{Epoch, PointRef};
use crate::api::thinning::{THINNING_VERSION, Thinning};
use crate::mover::{engine::StoreError, failure::Failure};
use crate::plan::manifest::{MANIFEST_VERSION, Manifest};
use crate::plan::verification::{Damage, PointRange, Wrong};
use crate::trust::{
    chain::{ChainHead, Letter},
    envelope::{Envelope, Purpose},
};
use crate::vault::client::{ClientError, VaultClient};

/// After so many letters in a row that are not there the rest is not asked for one by one.
const MISSING_IN_A_ROW: i64 = 256;

/// What the signed documents say, and what is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Documents {
    /// Genuine manifests, by point.
    pub(super) manifests: BTreeMap<PointRef, Manifest>,
    /// The last genuine point of each epoch.
    pub(super) reached: Vec<PointRef>,
    /// Wrong documents.
    pub(super) damage: Vec<Damage>,
    /// How many wrong documents `damage` stands for.
    pub(super) damaged: i64,
    /// Documents that were read, and their bytes.
    pub(super) read: (i64, i64),
    /// How far each sound chain of manifests goes.
    pub(super) points: BTreeMap<Epoch, ChainHead>,
    /// How far each sound chain of letters goes.
    pub(super) mail: BTreeMap<String, ChainHead>,
    /// The newest order to give points up, if it is genuine.
    pub(super) order: Option<Thinning>,
}

/// Reads all of them.
pub(super) async fn read(client: &VaultClient, parameters: &Parameters) -> Result<Documents, Failure> {
    let mut documents = Documents::default();
    let stored = client.epochs(&parameters.namespace, &parameters.embassy).await.map_err(StoreError::from)?;
    let mut epochs: BTreeSet<Epoch> = parameters.seen.points.keys().cloned().collect();
    epochs.extend(stored.iter().filter_map(|stored| of_slug(&stored.epoch)));
    for epoch in epochs {
        documents.manifests(client, parameters, &epoch).await?;
    }
    let mailboxes = client.last_mail(&parameters.namespace, &parameters.embassy).await;
    let mailboxes = mailboxes.map_err(StoreError::from)?;
    let last =
        |site: &str| mailboxes.iter().find(|mailbox| mailbox.site == site).map_or(0, |mailbox| mailbox.last);
    let mut sites: BTreeSet<&str> = parameters.seen.mail.keys().map(String::as_str).collect();
    sites.extend(mailboxes.iter().map(|mailbox| mailbox.site.as_str()));
    for site in sites {
        documents.letters(client, parameters, site, last(site)).await?;
    }
    Ok(documents)
}

impl Documents {
    async fn manifests(
        &mut self,
        client: &VaultClient,
        parameters: &Parameters,
        epoch: &Epoch,
    ) -> Result<(), Failure> {
        let (namespace, embassy, slug) = (&parameters.namespace, &parameters.embassy, epoch.slug());
        let mut chain = Chain::new(false, parameters.seen.points.get(epoch).cloned());
        loop {
            let page = client.points(namespace, embassy, Some(&slug), chain.last()).await;
            let mut page = page.map_err(StoreError::from)?;
            // A vault that repeats itself must not keep this going for ever.
            page.retain(|stored| stored.sequence > chain.last());
            if page.is_empty() {
                break;
            }
            for stored in page {
                let point = PointRef { epoch: epoch.clone(), sequence: stored.sequence };
                let manifest = manifest(parameters, &point, &stored.text);
                chain.take(stored.sequence, &stored.text, manifest.as_ref().map(|it| it.previous.as_str()));
                self.count(&stored.text);
                self.manifests.extend(manifest.map(|manifest| (point, manifest)));
            }
        }
        let (faults, head) = chain.end();
        self.reached.extend(self.manifests.keys().rfind(|point| point.epoch == *epoch).cloned());
        self.points.extend(head.map(|head| (epoch.clone(), head)));
        for fault in faults {
            let points = vec![PointRange { epoch: epoch.clone(), from: fault.from, to: fault.to }];
            self.wrong(&format!("points/{slug}"), &fault, points);
        }
        Ok(())
    }

    async fn letters(
        &mut self,
        client: &VaultClient,
        parameters: &Parameters,
        site: &str,
        last: i64,
    ) -> Result<(), Failure> {
        let mut chain = Chain::new(true, parameters.seen.mail.get(site).cloned());
        let (mut after, mut missing) = (0, 0);
        while after < last {
            if missing >= MISSING_IN_A_ROW {
                chain.miss_until(last.saturating_add(1));
                break;
            }
            let (namespace, embassy) = (&parameters.namespace, &parameters.embassy);
            match client.mail(namespace, embassy, site, after, std::time::Duration::ZERO).await {
                Ok(page) if page.iter().all(|stored| stored.sequence <= after) => break,
                Ok(page) => {
                    missing = 0;
                    for stored in page {
                        let previous = previous(parameters, site, stored.sequence, &stored.text);
                        chain.take(stored.sequence, &stored.text, previous.as_deref());
                        self.count(&stored.text);
                        after = stored.sequence;
                    }
                }
                Err(ClientError::NotFound { .. }) => {
                    after += 1;
                    missing += 1;
                }
                Err(error) => return Err(StoreError::from(error).into()),
            }
        }
        chain.miss_until(last.saturating_add(1));
        let (faults, head) = chain.end();
        self.mail.extend(head.map(|head| (site.to_owned(), head)));
        for fault in faults {
            self.wrong(&format!("mail/{site}"), &fault, vec![]);
        }
        Ok(())
    }

    /// Reads the newest order. To be done after the objects were read: what is gone by then was given up before.
    pub(super) async fn order(
        &mut self,
        client: &VaultClient,
        parameters: &Parameters,
    ) -> Result<(), Failure> {
        let stored = client.thinning(&parameters.namespace, &parameters.embassy).await;
        let Some(stored) = stored.map_err(StoreError::from)? else { return Ok(()) };
        self.count(&stored.text);
        self.order = order(parameters, stored.sequence, &stored.text);
        if self.order.is_none() {
            let fault = Fault { from: stored.sequence, to: stored.sequence, wrong: Wrong::NotGenuine };
            self.wrong("thinnings", &fault, vec![]);
        }
        Ok(())
    }

    /// Whether what a point needs may be gone: it was given up, and it is not the newest of its epoch.
    pub(super) fn was_given_up(&self, point: &PointRef) -> bool {
        self.order.as_ref().is_some_and(|order| order.gives_up(point)) && !self.reached.contains(point)
    }

    fn count(&mut self, text: &str) {
        self.read.0 += 1;
        self.read.1 += i64::try_from(text.len()).unwrap_or(i64::MAX);
    }

    fn wrong(&mut self, folder: &str, fault: &Fault, points: Vec<PointRange>) {
        self.damaged = self.damaged.saturating_add(fault.to - fault.from).saturating_add(1);
        let file = if fault.from == fault.to {
            format!("{folder}/{}.json", fault.from)
        } else {
            format!("{folder}/{}.json to {}.json", fault.from, fault.to)
        };
        self.damage.push(Damage { file, wrong: fault.wrong, points });
    }
}

/// The epoch of a slug such as `2-luxembourg`.
fn of_slug(slug: &str) -> Option<Epoch> {
    let (number, site) = slug.split_once('-')?;
    format!("{number}/{site}").parse().ok()
}

/// The manifest, if the pinned key of its site signed it for this very place.
fn manifest(parameters: &Parameters, point: &PointRef, text: &str) -> Option<Manifest> {
    let payload = opened(parameters, &point.epoch.site, Purpose::Manifest, text)?;
    let read: Manifest = serde_json::from_str(&payload).ok()?;
    let here = read.namespace == parameters.namespace && read.embassy == parameters.embassy;
    (read.version == MANIFEST_VERSION && here && read.point == *point).then_some(read)
}

/// What a letter names as the one before it, if the pinned key of its site signed it for this very place.
fn previous(parameters: &Parameters, site: &str, sequence: i64, text: &str) -> Option<String> {
    let payload = opened(parameters, site, Purpose::Mail, text)?;
    let letter: Letter = serde_json::from_str(&payload).ok()?;
    let embassy = format!("{}/{}", parameters.namespace, parameters.embassy);
    let here = letter.sequence == sequence && letter.body["embassy"] == embassy;
    here.then_some(letter.previous)
}

/// An order, if the pinned key of its author signed it for this very place. Home and the vault's own site give orders.
fn order(parameters: &Parameters, sequence: i64, text: &str) -> Option<Thinning> {
    let author = Envelope::parse(text).ok()?.author;
    let payload = opened(parameters, &author, Purpose::Thinning, text)?;
    let read: Thinning = serde_json::from_str(&payload).ok()?;
    let here = read.namespace == parameters.namespace && read.embassy == parameters.embassy;
    (read.version == THINNING_VERSION && here && read.sequence == sequence).then_some(read)
}

fn opened(parameters: &Parameters, site: &str, purpose: Purpose, text: &str) -> Option<String> {
    let key = parameters.keys.get(site)?;
    // A text that means the same and is written otherwise is not the one that was stored.
    let envelope = Envelope::parse(text).ok().filter(|envelope| envelope.to_text() == text)?;
    envelope.open(key, site, purpose).ok().map(str::to_owned)
}
