//! What this site writes to the others: reports, and as the active site mandates.

use std::{collections::BTreeSet, time::Instant};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::ResourceExt;

use super::error::RunError;
use super::memory::Memory;
use super::repository_keys;
use super::round::{Round, pinned_key, pinned_recipient};
use crate::api::EMBASSY_LABEL;
use crate::api::GROUP_LABEL;
use crate::api::MANAGED_BY;
use crate::api::data_embassy::Custody;
use crate::api::epoch::Epoch;
use crate::api::failover_record::FailoverRecordSpec;
use crate::observe::post::{Mailbox, report_of};
use crate::plan::desired::storage::ClaimDeclaration;
use crate::plan::failover::document::{document, is_due};
use crate::plan::failover::volumes;
use crate::plan::letter::Enclosure;
use crate::plan::letter::Introduced;
use crate::plan::letter::Message;
use crate::plan::letter::Report;
use crate::plan::letter::Says;
use crate::plan::mandate::MANDATE_VERSION;
use crate::plan::mandate::Mandate;
use crate::plan::mandate::SealedKey;
use crate::vault::client::ClientError;

impl Round {
    /// Sends what is due, at every vault in reach: first the mandate, since a report refers to it.
    pub async fn write_mail(&self, memory: &mut Memory, record: &FailoverRecordSpec) -> Result<(), RunError> {
        let mut result = Ok(());
        for vault in self.parties.vaults() {
            // One vault that fails must not silence this site at the others.
            result = self.write_at(memory, &vault, record).await.and(result);
        }
        result
    }

    async fn write_at(
        &self,
        memory: &mut Memory,
        vault: &str,
        record: &FailoverRecordSpec,
    ) -> Result<(), RunError> {
        let read = memory.ways.get(vault).is_some_and(|way| way.own.is_some());
        if !self.reaches(vault) || !read {
            return Ok(());
        }
        self.take_certificates(memory, vault).await;
        if record.role.rules() {
            self.mandate(memory, vault, record).await?;
        }
        self.write_report(memory, vault, record).await
    }

    async fn write_report(
        &self,
        memory: &mut Memory,
        vault: &str,
        record: &FailoverRecordSpec,
    ) -> Result<(), RunError> {
        let verified = volumes::clean_at(&record.volumes)
            .filter(|at| at.point.epoch.site != self.parties.me)
            .map(|at| at.point.clone());
        let own = memory.ways.get(vault).and_then(|way| way.own.as_ref());
        let report = Report {
            time: Time(Timestamp::now()),
            mandate: own.and_then(|mailbox| mailbox.mandate.as_ref()).map_or(0, |(sequence, _)| *sequence),
            document: document(record, self.writable_pods()),
            newest: memory.newest(|epoch| epoch.site == self.parties.me).map(|newest| newest.point.clone()),
            verified,
            verification: self.checked_at(memory, &self.parties.me).cloned(),
            enclosed: self.enclosures(memory, vault),
            certificates: self.certificates(memory, vault).await,
        };
        let last = own.and_then(|mailbox| mailbox.report.as_ref());
        let changed = last.is_none_or(|last| {
            (last.mandate, &last.newest, &last.verified, &last.verification)
                != (report.mandate, &report.newest, &report.verified, &report.verification)
                || last.certificates != report.certificates
                || is_due(Some(&last.document), &report.document, &self.asking(memory, vault))
                || self.enclosures_due(memory, vault, last, &report)
        });
        let sent = memory.ways.get(vault).and_then(|way| way.sent);
        let overdue = sent.is_none_or(|sent| sent.elapsed() >= self.context.settings.report_interval);
        if !changed && !overdue {
            return Ok(());
        }
        self.post(memory, vault, Says::Report(Box::new(report))).await?;
        if let Some(way) = memory.ways.get_mut(vault) {
            way.sent = Some(Instant::now());
        }
        Ok(())
    }

    /// The readers of a vault that wait for an echo.
    fn asking<'a>(&'a self, memory: &Memory, vault: &str) -> Vec<&'a str> {
        let readers = self.parties.others.iter().filter(|site| self.parties.vault_towards(site) == vault);
        let asks =
            |site: &&String| memory.report(&self.parties, site).is_some_and(|report| report.document.asks);
        readers.filter(asks).map(String::as_str).collect()
    }

    /// What home passes on to the embassy of a vault.
    fn enclosures(&self, memory: &Memory, vault: &str) -> Vec<Enclosure> {
        let others = self.parties.others.iter().filter(|site| self.parties.at_home() && *site != vault);
        let enclosure = |site: &String| {
            let known = self.sites.get(site);
            Some(Enclosure {
                site: site.clone(),
                public_key: pinned_key(known)?.to_string(),
                recipient: pinned_recipient(known)?,
                letter: memory.ways.get(site)?.met.as_ref()?.report_letter.clone(),
            })
        };
        others.filter_map(enclosure).filter(|enclosure| !enclosure.letter.is_empty()).collect()
    }

    /// Whether the reader of a vault waits for news that would be enclosed.
    fn enclosures_due(&self, memory: &Memory, vault: &str, last: &Report, next: &Report) -> bool {
        let asking = self.asking(memory, vault);
        next.enclosed.iter().any(|enclosure| {
            let sent = last.enclosed.iter().find(|sent| sent.site == enclosure.site);
            let sent = sent.and_then(|sent| report_of(&sent.letter)).map(|report| report.document);
            let news = memory.report(&self.parties, &enclosure.site);
            news.is_some_and(|news| is_due(sent.as_ref(), &news.document, &asking))
        })
    }

    async fn mandate(
        &self,
        memory: &mut Memory,
        vault: &str,
        record: &FailoverRecordSpec,
    ) -> Result<(), RunError> {
        let reader = self.parties.met_at(vault);
        let Some(recipient) = pinned_recipient(self.sites.get(&reader)) else { return Ok(()) };
        let Some(way) = memory.ways.get(vault) else { return Ok(()) };
        let claims: Vec<ClaimDeclaration> = self.claim_declarations();
        let own = way.points.keys().filter(|point| point.epoch.site == self.parties.me);
        let mut epochs: Vec<_> = own.map(|point| point.epoch.clone()).collect();
        epochs.push(record.epoch.clone());
        epochs.sort();
        epochs.dedup();
        if !self.may_hold_keys(&reader) {
            epochs.clear();
        }
        let sent = way.own.as_ref().and_then(|mailbox| mailbox.mandate.as_ref());
        let same = sent.is_some_and(|(_, Introduced { mandate: sent, .. })| {
            sent.spec == self.embassy.spec
                && sent.claims == claims
                && epochs.iter().all(|epoch| sent.keys.iter().any(|key| key.epoch == epoch.to_string()))
        });
        if same {
            return Ok(());
        }
        let mut keys: Vec<SealedKey> = vec![];
        for epoch in &epochs {
            let key = repository_keys::own(&self.context.keeper, &self.owner, epoch).await?;
            keys.push(repository_keys::sealed(epoch, &key, &reader, &recipient)?);
        }
        let own = self.context.keys().await;
        let introduced = Introduced {
            public_key: own.signing.public().to_string(),
            recipient: own.identity.recipient(),
            mandate: Mandate { version: MANDATE_VERSION, spec: self.embassy.spec.clone(), claims, keys },
        };
        self.post(memory, vault, Says::Mandate(Box::new(introduced))).await
    }

    /// Whether the keys of this site's repositories go to that site. Home always has all of them.
    fn may_hold_keys(&self, site: &str) -> bool {
        self.embassy.spec.keys.custody == Custody::Embassy || site == self.parties.home
    }

    /// Where the keys stay at home: which of them nobody has a copy of. What was proved once is not looked at again.
    pub async fn find_unkept_keys(
        &self,
        memory: &mut Memory,
        record: &FailoverRecordSpec,
    ) -> Result<(), RunError> {
        memory.unkept.clear();
        if self.embassy.spec.keys.custody != Custody::Home || !self.parties.at_home() {
            return Ok(());
        }
        let points = memory.points().map(|committed| &committed.manifest.point.epoch);
        let own = points
            .chain(record.role.rules().then_some(&record.epoch))
            .filter(|epoch| epoch.site == record.site);
        let epochs: BTreeSet<Epoch> = own.filter(|epoch| !memory.kept.contains(epoch)).cloned().collect();
        for epoch in epochs {
            if repository_keys::is_kept(&self.context.keeper, &self.owner, &epoch).await? {
                memory.kept.insert(epoch);
            } else {
                memory.unkept.push(epoch);
            }
        }
        Ok(())
    }

    fn claim_declarations(&self) -> Vec<ClaimDeclaration> {
        let declare = |claim: &k8s_openapi::api::core::v1::PersistentVolumeClaim| {
            let spec = claim.spec.as_ref()?;
            let mut labels = claim.labels().clone();
            if labels.get("app.kubernetes.io/managed-by").is_some_and(|by| by == MANAGED_BY) {
                labels.remove("app.kubernetes.io/managed-by");
            }
            labels.remove(EMBASSY_LABEL);
            labels.remove(GROUP_LABEL);
            Some(ClaimDeclaration {
                name: claim.name_any(),
                size: spec.resources.as_ref()?.requests.as_ref()?.get("storage")?.clone(),
                storage_class: spec.storage_class_name.clone(),
                access_modes: spec.access_modes.clone().unwrap_or_default(),
                labels,
            })
        };
        self.seen.claims.iter().filter_map(declare).collect()
    }

    /// Puts the next letter into this site's mailbox at a vault.
    async fn post(&self, memory: &mut Memory, vault: &str, says: Says) -> Result<(), RunError> {
        let post = self.links.get(vault).and_then(|link| link.post.as_ref());
        let way = memory.ways.get_mut(vault);
        let (Some(post), Some(way)) = (post, way) else { return Ok(()) };
        let Some(mailbox) = &way.own else { return Ok(()) };
        let embassy = format!("{}/{}", self.owner.namespace, self.owner.name);
        let body = serde_json::to_value(Message { embassy, says: says.clone() }).map_err(RunError::defect)?;
        let keys = self.context.keys().await;
        let (text, head) = mailbox.head.compose(body, &keys.signing, &self.parties.me);
        let (namespace, name) = (&self.owner.namespace, &self.owner.name);
        match post.vault.put_mail(namespace, name, &self.parties.me, head.sequence, text).await {
            Ok(()) => {}
            Err(error) => {
                // Whether it arrived is not known: what is there is read again before anything is written.
                way.own = None;
                return match error {
                    ClientError::Conflict { .. } => Err(RunError::Conflict),
                    error => Err(RunError::again(&error.to_string())),
                };
            }
        }
        let mailbox = way.own.get_or_insert_with(Mailbox::default);
        match says {
            Says::Report(report) => mailbox.report = Some(*report),
            Says::Mandate(mandate) => mailbox.mandate = Some((head.sequence, *mandate)),
        }
        mailbox.head = head;
        Ok(())
    }
}
