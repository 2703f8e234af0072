//! The failover record: made, adopted and written, and each step told as an event, a line and a trace.

use super::error::RunError;
use super::memory::Memory;
use super::round::Round;
use crate::act;
use crate::act::record::Written;
use crate::api::FailoverRecord;
use crate::api::failover_record::FailoverRecordSpec;
use crate::plan::failover::Action;
use crate::plan::failover::Document;
use crate::plan::failover::View;
use crate::plan::failover::first_record::Before;
use crate::plan::failover::first_record::Beginning;
use crate::plan::failover::first_record::adopt;
use crate::plan::failover::first_record::begin;
use crate::plan::failover::trace::Did;
use crate::plan::failover::trace::Trace;

impl Round {
    pub(super) async fn first_record(
        &self,
        memory: &Memory,
    ) -> Result<Result<FailoverRecord, String>, RunError> {
        let others = self.parties.others.iter();
        let peers = others.map(|site| {
            let report = memory.report(&self.parties, site);
            (site.as_str(), report.map(|report| &report.document))
        });
        let all_read = self.links.values().all(|link| link.reach);
        let beginning = begin(&Before {
            site: &self.parties.me,
            peers: peers.collect(),
            home: &self.parties.home,
            boot_ids: &self.seen.boot_ids,
            own_document: all_read.then(|| own_document(memory)),
            volumes_exist: !self.seen.claims.is_empty(),
        });
        match beginning {
            Beginning::Join(what) => {
                let unreached = self.links.values().find_map(|link| link.unreached.as_ref());
                let why = unreached.map_or_else(String::new, |why| format!(": {why}"));
                Ok(Err(format!("joining; waiting for {what}{why}")))
            }
            Beginning::AskPerson(what) => Ok(Err(what.to_owned())),
            Beginning::Record(spec, why) => {
                let record =
                    durable(act::record::create(&self.context.client, &self.owner, *spec, why).await?)?;
                self.told(&record, why).await;
                self.trace(None, Did::Begin(Box::new(record.spec.clone())));
                Ok(Ok(record))
            }
        }
    }

    /// A record that is behind this site's own mail, as after a restore of etcd, takes over what the mail says, held.
    pub(super) async fn adopted(
        &self,
        memory: &Memory,
        record: FailoverRecord,
    ) -> Result<FailoverRecord, RunError> {
        let Some(spec) = own_document(memory).and_then(|own| adopt(&record.spec, own)) else {
            return Ok(record);
        };
        let why = "the record is older than this site's own mail: held until the other sites confirm";
        let adopted = self.write_record(&record, spec, why).await?;
        self.trace(None, Did::Adopt(Box::new(adopted.spec.clone())));
        Ok(adopted)
    }

    pub(super) async fn write_record(
        &self,
        record: &FailoverRecord,
        spec: FailoverRecordSpec,
        why: &str,
    ) -> Result<FailoverRecord, RunError> {
        let written =
            act::record::replace(&self.context.client, &self.owner, record, spec, Some(why)).await?;
        let written = durable(written)?;
        self.told(&written, why).await;
        Ok(written)
    }

    /// Writes what is no news to the peer.
    pub async fn note(
        &self,
        record: &FailoverRecord,
        spec: FailoverRecordSpec,
    ) -> Result<Option<FailoverRecord>, RunError> {
        if spec == record.spec {
            return Ok(None);
        }
        durable(act::record::replace(&self.context.client, &self.owner, record, spec, None).await?).map(Some)
    }

    /// Every change of the record is one structured line and one event.
    async fn told(&self, record: &FailoverRecord, why: &str) {
        let spec = &record.spec;
        tracing::info!(
            namespace = self.owner.namespace, name = self.owner.name, revision = spec.revision,
            role = spec.role.as_str(), epoch = %spec.epoch, held = spec.held(), why, "transition"
        );
        self.context.metrics.transition(&self.owner);
        let note = format!("{} in epoch {}: {why}", spec.role.as_str(), spec.epoch);
        self.event(false, spec.role.as_str(), "Transition", &note).await;
    }

    /// What was done and what it stood on is one line that can be replayed.
    pub(super) fn trace(&self, view: Option<&View>, did: Did) {
        let embassy = format!("{}/{}", self.owner.namespace, self.owner.name);
        let record = did.record().or(view.map(|view| &view.record));
        let epoch = record.map(|record| record.epoch.to_string()).unwrap_or_default();
        let point = record.and_then(|record| record.volumes.at.as_ref()).map(|at| at.point.to_string());
        let action = did.name();
        let trace = Trace::of(embassy, view, did);
        let (view_digest, trace) = (&trace.digest, trace.line());
        tracing::info!(
            namespace = self.owner.namespace,
            name = self.owner.name,
            view_digest,
            action,
            epoch,
            point,
            trace,
            "step"
        );
    }

    /// An act is traced when it begins, not in every round in which it goes on.
    pub(super) fn trace_act(&self, memory: &mut Memory, view: &View, action: &Action) {
        let act = Did::act(action);
        if let Some(begun) = act.clone().filter(|_| act != memory.acting) {
            self.trace(Some(view), begun);
        }
        memory.acting = act;
    }
}

/// The record as it was written; where somebody else wrote first, it must be read again.
pub(super) fn durable(written: Written) -> Result<FailoverRecord, RunError> {
    match written {
        Written::Done(record) => Ok(*record),
        Written::ReadAgain => Err(RunError::Conflict),
    }
}

/// This site's own newest document in any vault.
fn own_document(memory: &Memory) -> Option<&Document> {
    let own = memory.ways.values().filter_map(|way| way.own.as_ref()?.report.as_ref());
    own.map(|report| &report.document).max_by_key(|document| document.revision)
}
