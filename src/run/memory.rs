//! What is remembered of one embassy between reconciles; losing it costs time only.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::drills::Rehearsal;
use super::hold::Hooks;
use super::keeper::Access;
use super::parties::Parties;
use super::snapshots::Watching;
use super::thinning::Thinned;
use super::verification::Verification;
use crate::api::epoch::{Epoch, PointRef};
use crate::observe::post::{Committed, Mailbox, PassedOn};
use crate::plan::failover::trace::Did;
use crate::plan::letter::{Introduced, Report};
use crate::plan::manifest::Manifest;
use crate::plan::status::Trouble;
use crate::vault::client::{ClientError, VaultClient};

/// What is remembered.
#[derive(Default)]
pub struct Memory {
    /// By the name of the vault's site.
    pub ways: BTreeMap<String, Way>,
    /// What home passed on of sites that share no vault with this one.
    pub passed_on: BTreeMap<String, PassedOn>,
    /// Sequence of the last mandate at each vault whose keys were kept.
    pub received: BTreeMap<String, i64>,
    /// The act that is under way.
    pub acting: Option<Did>,
    /// The order that took effect in this very round; its status is newer than what was read.
    pub begun: Option<String>,
    /// Failures in a row, and when to try again.
    pub failures: u32,
    /// Not before this.
    pub retry_at: Option<Instant>,
    /// Why the last attempt failed.
    pub trouble: Option<Trouble>,
    /// The verification of this site's own vault.
    pub verification: Verification,
    /// How far each vault was thinned out, by its site.
    pub thinnings: BTreeMap<String, Thinned>,
    /// Epochs whose keys people have copies of.
    pub kept: BTreeSet<Epoch>,
    /// Epochs whose keys are in this cluster only, where people are to keep copies.
    pub unkept: Vec<Epoch>,
    /// The drill that is under way.
    pub rehearsal: Option<Rehearsal>,
    /// Hooks that run.
    pub hooks: Hooks,
    /// Waits for snapshots.
    pub snapshots: Option<Watching>,
}

/// One vault, as far as it was read.
#[derive(Default)]
pub struct Way {
    /// The client of the vault and what it was made from.
    client: Option<(String, VaultClient)>,
    /// This site's own mailbox there.
    pub own: Option<Mailbox>,
    /// The mailbox of the site that this one meets there.
    pub met: Option<Mailbox>,
    /// Committed points there.
    pub points: BTreeMap<PointRef, Committed>,
    /// When the last report was sent.
    pub sent: Option<Instant>,
    /// Waits for mail.
    pub courier: Option<Background>,
}

/// A task that ends with this handle.
pub struct Background(pub tokio::task::JoinHandle<()>);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Way {
    /// The client of the vault, kept while the certificates stay the same.
    pub fn client(&mut self, access: &Access) -> Result<VaultClient, ClientError> {
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

    /// The newest point of a reign there.
    #[must_use]
    pub fn last(&self, epoch: &Epoch) -> Option<&Committed> {
        self.points.iter().rev().find(|(point, _)| point.epoch == *epoch).map(|(_, committed)| committed)
    }
}

impl Memory {
    /// The mailbox in which a site is met; none of one that home passes on: the mailbox there is home's.
    fn met(&self, parties: &Parties, site: &str) -> Option<&Mailbox> {
        let vault = Some(parties.vault_towards(site)).filter(|_| parties.share_vault(site))?;
        self.ways.get(vault)?.met.as_ref()
    }

    /// The last report of a site, from itself or passed on.
    #[must_use]
    pub fn report(&self, parties: &Parties, site: &str) -> Option<&Report> {
        let passed_on = self.passed_on.get(site).map(|passed| &passed.report);
        passed_on.or_else(|| self.met(parties, site)?.report.as_ref())
    }

    /// How long ago the last letter of a site came, by this site's monotonic clock.
    #[must_use]
    pub fn silence(&self, parties: &Parties, site: &str) -> Option<Duration> {
        let heard = match self.passed_on.get(site) {
            Some(passed) => passed.heard,
            None => self.met(parties, site)?.heard,
        };
        heard.map(|heard| heard.elapsed())
    }

    /// The last mandate of the site that is met at a vault, and its sequence.
    #[must_use]
    pub fn mandate(&self, vault: &str) -> Option<&(i64, Introduced)> {
        self.ways.get(vault)?.met.as_ref()?.mandate.as_ref()
    }

    /// A committed point and the vault that holds it.
    #[must_use]
    pub fn committed(&self, point: &PointRef) -> Option<(&str, &Committed)> {
        self.ways.iter().find_map(|(vault, way)| Some((vault.as_str(), way.points.get(point)?)))
    }

    /// Every committed point of every vault.
    pub fn points(&self) -> impl Iterator<Item = &Committed> {
        self.ways.values().flat_map(|way| way.points.values())
    }

    /// The newest committed point for which `of` holds, by (epoch, sequence).
    #[must_use]
    pub fn newest(&self, of: impl Fn(&Epoch) -> bool) -> Option<&Manifest> {
        let points = self.points().map(|committed| &committed.manifest);
        points.filter(|manifest| of(&manifest.point.epoch)).max_by(|one, other| one.point.cmp(&other.point))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

    use super::*;
    use crate::plan::failover::document::document;
    use crate::plan::failover::first_record::first_day;

    /// What luxembourg knows once it read a report of tallinn that passes nothing on.
    fn memory() -> Memory {
        let report = Report {
            time: Time(Timestamp::UNIX_EPOCH),
            mandate: 0,
            document: document(&first_day("tallinn", "luxembourg"), true),
            newest: None,
            verified: None,
            verification: None,
            enclosed: vec![],
            certificates: BTreeMap::new(),
        };
        let met = Mailbox { report: Some(report), heard: Some(Instant::now()), ..Mailbox::default() };
        let way = Way { met: Some(met), ..Way::default() };
        Memory { ways: BTreeMap::from([("luxembourg".to_owned(), way)]), ..Memory::default() }
    }

    #[test]
    fn homes_word_is_not_taken_for_that_of_another_embassy() {
        let others = vec!["tallinn".to_owned(), "riga".to_owned()];
        let parties = Parties { me: "luxembourg".to_owned(), home: "tallinn".to_owned(), others };
        let memory = memory();
        assert!(memory.report(&parties, "tallinn").is_some());
        assert!(memory.report(&parties, "riga").is_none(), "nothing was heard of riga");
        assert_eq!(memory.silence(&parties, "riga"), None);
    }
}
