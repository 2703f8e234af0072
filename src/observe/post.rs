//! The correspondence of one `DataEmbassy` at one vault: letters and manifests, each signature and chain checked.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use crate::api::epoch::Epoch;
use crate::api::epoch::PointRef;
use crate::plan::desired::Owner;
use crate::plan::failover::document::DOCUMENT_VERSION;
use crate::plan::letter::Introduced;
use crate::plan::letter::Message;
use crate::plan::letter::Report;
use crate::plan::letter::Says;
use crate::plan::mandate::MANDATE_VERSION;
use crate::plan::manifest::MANIFEST_VERSION;
use crate::plan::manifest::Manifest;
use crate::trust::chain::ChainError;
use crate::trust::chain::ChainHead;
use crate::trust::chain::Letter;
use crate::trust::envelope::Envelope;
use crate::trust::envelope::EnvelopeError;
use crate::trust::envelope::Purpose;
use crate::trust::envelope::digest;
use crate::trust::signing::PublicKey;
use crate::vault::client::ClientError;
use crate::vault::client::VaultClient;

/// Why the mail could not be read, or is not believed.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The vault does not answer, or refuses.
    #[error("the vault: {0}")]
    Vault(#[from] ClientError),
    /// A letter that is not believed.
    #[error("mail of {site} is not believed: {source}")]
    Letter {
        /// Whose.
        site: String,
        /// Why.
        source: ChainError,
    },
    /// A manifest that is not believed.
    #[error("recovery point {point} is not believed: {why}")]
    Manifest {
        /// Which.
        point: String,
        /// Why.
        why: String,
    },
    /// An order to give points up that is not believed.
    #[error("order {sequence} to give recovery points up is not believed: {why}")]
    Thinning {
        /// Which.
        sequence: i64,
        /// Why.
        why: String,
    },
    /// Software of another version.
    #[error(
        "{site} runs a newer version of this operator: its {what} is {found}, and this one cannot read that. Upgrade the operator of this site; until then nothing is decided here: what is closed stays closed, and what runs goes on"
    )]
    UnknownVersion {
        /// Whose.
        site: String,
        /// Of what.
        what: &'static str,
        /// Its version, or its kind.
        found: String,
    },
    /// A letter about something else.
    #[error(
        "mail of {site} is about '{found}': its vault mixes mailboxes up, look at it before anything else"
    )]
    OtherEmbassy {
        /// Whose.
        site: String,
        /// About what.
        found: String,
    },
}

/// One mailbox, as far as it was read.
#[derive(Debug, Clone, Default)]
pub struct Mailbox {
    /// The last letter.
    pub head: ChainHead,
    /// The last report.
    pub report: Option<Report>,
    /// The signed letter with that report.
    pub report_letter: String,
    /// The last mandate and its sequence.
    pub mandate: Option<(i64, Introduced)>,
    /// When the last letter was read, by this site's monotonic clock; for the first, when it says it was written.
    pub heard: Option<Instant>,
}

/// A manifest and the digest of its signed text.
#[derive(Debug, Clone)]
pub struct Committed {
    /// What it says.
    pub manifest: Manifest,
    /// For the next one's `previous`.
    pub digest: String,
}

/// Reads and writes for one embassy.
#[derive(Clone)]
pub struct Correspondence {
    /// The vault.
    pub vault: VaultClient,
    /// The embassy.
    pub owner: Owner,
}

impl Correspondence {
    async fn letters(
        &self,
        site: &str,
        after: i64,
    ) -> Result<Vec<crate::vault::protocol::StoredLetter>, PostError> {
        Ok(self.vault.mail(&self.owner.namespace, &self.owner.name, site, after, Duration::ZERO).await?)
    }

    /// Begins to read a mailbox at its last letter; what that one refers to is read as well.
    pub async fn open(&self, site: &str, key: &PublicKey) -> Result<Mailbox, PostError> {
        let mailboxes = self.vault.last_mail(&self.owner.namespace, &self.owner.name).await?;
        let Some(last) = mailboxes.iter().find(|mailbox| mailbox.site == site).map(|mailbox| mailbox.last)
        else {
            return Ok(Mailbox::default());
        };
        let mut mailbox = Mailbox::default();
        let Some(text) = self.letters(site, last - 1).await?.into_iter().next().map(|letter| letter.text)
        else {
            return Ok(mailbox);
        };
        let letter = single(site, key, &text)?;
        mailbox.head = ChainHead { sequence: letter.sequence, digest: digest(&text) };
        take(&self.owner, site, &mut mailbox, letter, &text)?;
        mailbox.heard = mailbox.report.as_ref().and_then(|report| moment_of(&report.time));
        let wanted = mailbox.report.as_ref().map_or(0, |report| report.mandate);
        if mailbox.mandate.is_none() && wanted > 0 {
            self.fetch_mandate(site, key, &mut mailbox, wanted).await?;
        }
        Ok(mailbox)
    }

    async fn fetch_mandate(
        &self,
        site: &str,
        key: &PublicKey,
        mailbox: &mut Mailbox,
        sequence: i64,
    ) -> Result<(), PostError> {
        for stored in self.letters(site, sequence - 1).await?.into_iter().take(1) {
            let letter = single(site, key, &stored.text)?;
            let mut found = Mailbox::default();
            take(&self.owner, site, &mut found, letter, &stored.text)?;
            mailbox.mandate = found.mandate;
        }
        Ok(())
    }

    /// Reads all that came since; returns whether anything did.
    pub async fn read(&self, site: &str, key: &PublicKey, mailbox: &mut Mailbox) -> Result<bool, PostError> {
        let mut came = false;
        loop {
            let letters = self.letters(site, mailbox.head.sequence).await?;
            if letters.is_empty() {
                return Ok(came);
            }
            for stored in letters {
                let (letter, head) = mailbox
                    .head
                    .accept(&stored.text, key, site)
                    .map_err(|source| PostError::Letter { site: site.to_owned(), source })?;
                take(&self.owner, site, mailbox, letter, &stored.text)?;
                mailbox.head = head;
                mailbox.heard = Some(Instant::now());
                came = true;
            }
        }
    }

    /// The keys that the first mandate of a site shows, signed with themselves: for the first contact only.
    pub async fn introduction(&self, site: &str) -> Result<Option<Introduced>, PostError> {
        for stored in self.letters(site, 0).await? {
            let Some(shown) = shown(&stored.text) else { continue };
            let Ok(key) = shown.public_key.parse::<PublicKey>() else { continue };
            single(site, &key, &stored.text)?;
            return Ok(Some(shown));
        }
        Ok(None)
    }

    /// Reads the manifests that `known` lacks. A point counts only if all before it in its epoch do.
    pub async fn points(
        &self,
        keys: &BTreeMap<String, PublicKey>,
        known: &mut BTreeMap<PointRef, Committed>,
    ) -> Result<(), PostError> {
        for epoch in self.vault.epochs(&self.owner.namespace, &self.owner.name).await? {
            let Some(reign) = reign(&epoch.epoch) else { continue };
            let Some(key) = keys.get(&reign.site) else { continue };
            let mut last =
                known.keys().rev().find(|point| point.epoch == reign).map_or(0, |point| point.sequence);
            if last == 0 {
                // Older ones only prove what is long past; the newest of a reign carry its whole line.
                last = (epoch.last - NEWEST).max(0);
            }
            while last < epoch.last {
                let stored = self
                    .vault
                    .points(&self.owner.namespace, &self.owner.name, Some(&epoch.epoch), last)
                    .await?;
                if stored.is_empty() {
                    break;
                }
                for point in stored {
                    let which = PointRef { epoch: reign.clone(), sequence: point.sequence };
                    let committed = self.believe(&which, key, &point.text, known)?;
                    known.insert(which, committed);
                    last = point.sequence;
                }
            }
            known.retain(|point, _| point.epoch != reign || point.sequence > last - NEWEST);
        }
        Ok(())
    }

    /// One manifest, whatever else was read.
    pub async fn point(&self, which: &PointRef, key: &PublicKey) -> Result<Committed, PostError> {
        let (namespace, name) = (&self.owner.namespace, &self.owner.name);
        let stored = self.vault.point(namespace, name, &which.epoch.slug(), which.sequence).await?;
        self.believe(which, key, &stored.text, &BTreeMap::new())
    }

    pub(super) fn believe(
        &self,
        which: &PointRef,
        key: &PublicKey,
        text: &str,
        known: &BTreeMap<PointRef, Committed>,
    ) -> Result<Committed, PostError> {
        let refuse = |why: String| PostError::Manifest { point: which.to_string(), why };
        let envelope = Envelope::parse(text).map_err(|error| refuse(error.to_string()))?;
        let payload = envelope
            .open(key, &which.epoch.site, Purpose::Manifest)
            .map_err(|error| refuse(error.to_string()))?;
        let value: serde_json::Value =
            serde_json::from_str(payload).map_err(|error| refuse(error.to_string()))?;
        known_version(&which.epoch.site, "manifest", &value["version"], MANIFEST_VERSION)?;
        let manifest: Manifest = serde_json::from_value(value).map_err(|error| refuse(error.to_string()))?;
        let named = format!("{}/{}", manifest.namespace, manifest.embassy);
        if named != name_of(&self.owner) || manifest.point != *which {
            return Err(refuse(format!("it speaks of {} of {named}", manifest.point)));
        }
        let mut before = known.range(..which.clone()).rev();
        if let Some((_, before)) = before.next().filter(|(before, _)| before.epoch == which.epoch)
            && before.digest != manifest.previous
        {
            return Err(refuse(
                "it does not follow the one before it: its site has two histories".to_owned(),
            ));
        }
        Ok(Committed { manifest, digest: digest(text) })
    }
}

/// A report that came by way of another site: its signature is checked, its place in the chain is not known.
#[derive(Debug, Clone)]
pub struct PassedOn {
    /// Of the letter, in the mailbox of its author.
    pub sequence: i64,
    /// What it says.
    pub report: Report,
    /// When it was read, as for a mailbox.
    pub heard: Option<Instant>,
}

impl PassedOn {
    /// Reads a letter of `site`; none if it is no report. `first` says that nothing of that site was read before.
    pub fn believe(
        owner: &Owner,
        site: &str,
        key: &PublicKey,
        text: &str,
        first: bool,
    ) -> Result<Option<Self>, PostError> {
        let letter = single(site, key, text)?;
        let (sequence, mut mailbox) = (letter.sequence, Mailbox::default());
        take(owner, site, &mut mailbox, letter, text)?;
        Ok(mailbox.report.map(|report| {
            let heard = if first { moment_of(&report.time) } else { Some(Instant::now()) };
            Self { sequence, report, heard }
        }))
    }
}

fn name_of(owner: &Owner) -> String {
    format!("{}/{}", owner.namespace, owner.name)
}

/// A letter whose place in the chain is not known: its signature is checked.
fn single(site: &str, key: &PublicKey, text: &str) -> Result<Letter, PostError> {
    let error = |source: ChainError| PostError::Letter { site: site.to_owned(), source };
    let refuse = |source: EnvelopeError| error(ChainError::Envelope(source));
    let envelope = Envelope::parse(text).map_err(refuse)?;
    let payload = envelope.open(key, site, Purpose::Mail).map_err(refuse)?;
    serde_json::from_str(payload).map_err(|why| error(ChainError::Unreadable(why.to_string())))
}

/// What a letter says, into its mailbox.
fn take(
    owner: &Owner,
    site: &str,
    mailbox: &mut Mailbox,
    letter: Letter,
    text: &str,
) -> Result<(), PostError> {
    let unreadable = |why: serde_json::Error| PostError::Letter {
        site: site.to_owned(),
        source: ChainError::Unreadable(why.to_string()),
    };
    version(site, &letter.body)?;
    let message: Message = serde_json::from_value(letter.body).map_err(unreadable)?;
    if message.embassy != name_of(owner) {
        return Err(PostError::OtherEmbassy { site: site.to_owned(), found: message.embassy });
    }
    match message.says {
        Says::Report(report) => {
            mailbox.report = Some(*report);
            text.clone_into(&mut mailbox.report_letter);
        }
        Says::Mandate(introduced) => mailbox.mandate = Some((letter.sequence, *introduced)),
    }
    Ok(())
}

/// The moment of a letter that lay there before this process looked. By the author's clock: a time ahead says nothing.
fn moment_of(time: &Time) -> Option<Instant> {
    let age = Duration::try_from(Timestamp::now().duration_since(time.0)).ok()?;
    Instant::now().checked_sub(age)
}

/// How many manifests of an epoch are kept in memory, and read when none is known yet.
const NEWEST: i64 = 64;

/// The epoch of a slug such as `2-luxembourg`.
pub(super) fn reign(slug: &str) -> Option<Epoch> {
    let (number, site) = slug.split_once('-')?;
    format!("{number}/{site}").parse().ok()
}

/// The introduction in a letter, unverified.
fn shown(text: &str) -> Option<Introduced> {
    let envelope = Envelope::parse(text).ok()?;
    let letter: Letter = serde_json::from_str(&envelope.payload).ok()?;
    match serde_json::from_value::<Message>(letter.body).ok()?.says {
        Says::Mandate(introduced) => Some(*introduced),
        Says::Report(_) => None,
    }
}

/// The report in a letter that was read or written before, unverified.
#[must_use]
pub fn report_of(text: &str) -> Option<Report> {
    let envelope = Envelope::parse(text).ok()?;
    let letter: Letter = serde_json::from_str(&envelope.payload).ok()?;
    match serde_json::from_value::<Message>(letter.body).ok()?.says {
        Says::Report(report) => Some(*report),
        Says::Mandate(_) => None,
    }
}
/// The kinds of letters, as `Says` writes them.
const KINDS: [&str; 2] = ["report", "mandate"];

/// Refuses what a newer version wrote before its unknown fields make it unreadable.
fn version(site: &str, body: &serde_json::Value) -> Result<(), PostError> {
    let says = &body["says"];
    let kind = says.as_object().and_then(|says| says.keys().find(|kind| !KINDS.contains(&kind.as_str())));
    if let Some(kind) = kind {
        return Err(PostError::UnknownVersion {
            site: site.to_owned(),
            what: "letter",
            found: format!("of kind '{kind}'"),
        });
    }
    known_version(site, "report", &says["report"]["document"]["version"], DOCUMENT_VERSION)?;
    known_version(site, "mandate", &says["mandate"]["mandate"]["version"], MANDATE_VERSION)
}

pub(super) fn known_version(
    site: &str,
    what: &'static str,
    found: &serde_json::Value,
    known: i64,
) -> Result<(), PostError> {
    match found.as_i64() {
        Some(found) if !(1..=known).contains(&found) => {
            Err(PostError::UnknownVersion { site: site.to_owned(), what, found: format!("version {found}") })
        }
        _ => Ok(()),
    }
}
