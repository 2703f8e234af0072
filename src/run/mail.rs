//! What this site writes to its peer: reports, and as the active site mandates.

use std::time::Instant;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::ResourceExt;

use super::context::Memory;
use super::error::RunError;
use super::repository_keys;
use super::round::{Round, pinned_recipient};
use crate::api::EMBASSY_LABEL;
use crate::api::MANAGED_BY;
use crate::api::failover_record::FailoverRecordSpec;
use crate::observe::post::Mailbox;
use crate::plan::desired::storage::ClaimDeclaration;
use crate::plan::failover::document::{document, is_due};
use crate::plan::failover::volumes;
use crate::plan::letter::Introduced;
use crate::plan::letter::Message;
use crate::plan::letter::Report;
use crate::plan::letter::Says;
use crate::plan::mandate::MANDATE_VERSION;
use crate::plan::mandate::Mandate;
use crate::plan::mandate::SealedKey;
use crate::vault::client::ClientError;

impl Round {
    /// Sends what is due: first the mandate, since a report refers to it.
    pub async fn write_mail(&self, memory: &mut Memory, record: &FailoverRecordSpec) -> Result<(), RunError> {
        if !self.link.reach || memory.own.is_none() {
            return Ok(());
        }
        if record.role.rules() {
            self.mandate(memory, record).await?;
        }
        self.write_report(memory, record).await
    }

    async fn write_report(&self, memory: &mut Memory, record: &FailoverRecordSpec) -> Result<(), RunError> {
        let peer = memory.peer.as_ref().and_then(|mailbox| mailbox.report.as_ref());
        let peer_asks = peer.is_some_and(|report| report.document.asks);
        let own = memory.own.as_ref();
        let last = own.and_then(|mailbox| mailbox.report.as_ref());
        let newest = memory.points.keys().rev().find(|point| point.epoch.site == self.parties.me).cloned();
        let verified = volumes::clean_at(&record.volumes)
            .filter(|at| at.point.epoch.site != self.parties.me)
            .map(|at| at.point.clone());
        let report = Report {
            time: Time(Timestamp::now()),
            mandate: own.and_then(|mailbox| mailbox.mandate.as_ref()).map_or(0, |(sequence, _)| *sequence),
            document: document(record, self.writable_pods()),
            newest,
            verified,
        };
        let changed = last.is_none_or(|last| {
            (last.mandate, &last.newest, &last.verified) != (report.mandate, &report.newest, &report.verified)
                || is_due(Some(&last.document), &report.document, peer_asks)
        });
        let interval = self.context.settings.report_interval;
        let overdue = memory.sent.is_none_or(|sent| sent.elapsed() >= interval);
        if !changed && !overdue {
            return Ok(());
        }
        self.post(memory, Says::Report(Box::new(report))).await?;
        memory.sent = Some(Instant::now());
        Ok(())
    }

    async fn mandate(&self, memory: &mut Memory, record: &FailoverRecordSpec) -> Result<(), RunError> {
        let Some(recipient) = pinned_recipient(self.sites.get(&self.parties.peer)) else { return Ok(()) };
        let claims: Vec<ClaimDeclaration> = self.claim_declarations();
        let mut epochs: Vec<_> = memory
            .points
            .keys()
            .filter(|point| point.epoch.site == self.parties.me)
            .map(|p| p.epoch.clone())
            .collect();
        epochs.push(record.epoch.clone());
        epochs.sort();
        epochs.dedup();
        let sent =
            memory.own.as_ref().and_then(|mailbox| mailbox.mandate.as_ref()).map(|(_, sent)| &sent.mandate);
        let same = sent.is_some_and(|sent| {
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
            keys.push(repository_keys::sealed(epoch, &key, &self.parties.peer, &recipient)?);
        }
        let own = self.context.keys().await;
        let introduced = Introduced {
            public_key: own.signing.public().to_string(),
            recipient: own.identity.recipient(),
            mandate: Mandate { version: MANDATE_VERSION, spec: self.embassy.spec.clone(), claims, keys },
        };
        self.post(memory, Says::Mandate(Box::new(introduced))).await
    }

    fn claim_declarations(&self) -> Vec<ClaimDeclaration> {
        let declare = |claim: &k8s_openapi::api::core::v1::PersistentVolumeClaim| {
            let spec = claim.spec.as_ref()?;
            let mut labels = claim.labels().clone();
            if labels.get("app.kubernetes.io/managed-by").is_some_and(|by| by == MANAGED_BY) {
                labels.remove("app.kubernetes.io/managed-by");
            }
            labels.remove(EMBASSY_LABEL);
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

    /// Puts the next letter into this site's mailbox.
    async fn post(&self, memory: &mut Memory, says: Says) -> Result<(), RunError> {
        let (Some(post), Some(mailbox)) = (&self.link.post, &memory.own) else { return Ok(()) };
        let embassy = format!("{}/{}", self.owner.namespace, self.owner.name);
        let body = serde_json::to_value(Message { embassy, says: says.clone() }).map_err(RunError::defect)?;
        let keys = self.context.keys().await;
        let (text, head) = mailbox.head.compose(body, &keys.signing, &self.parties.me);
        let (namespace, name) = (&self.owner.namespace, &self.owner.name);
        match post.vault.put_mail(namespace, name, &self.parties.me, head.sequence, text).await {
            Ok(()) => {}
            Err(error) => {
                // Whether it arrived is not known: what is there is read again before anything is written.
                memory.own = None;
                return match error {
                    ClientError::Conflict { .. } => Err(RunError::Conflict),
                    error => Err(RunError::again(&error.to_string())),
                };
            }
        }
        let mailbox = memory.own.get_or_insert_with(Mailbox::default);
        match says {
            Says::Report(report) => mailbox.report = Some(*report),
            Says::Mandate(mandate) => mailbox.mandate = Some((head.sequence, *mandate)),
        }
        mailbox.head = head;
        Ok(())
    }
}
