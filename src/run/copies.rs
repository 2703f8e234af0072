//! A copy of the register: its source and number are settled, a mover makes it, and its manifest is published last.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::ResourceExt;

use super::error::RunError;
use super::memory::Memory;
use super::movers::{ended, succeeded};
use super::round::Round;
use crate::api::FailoverRecord;
use crate::api::epoch::PointRef;
use crate::api::failover_record::FailoverRecordSpec;
use crate::api::recovery_point::Consistency;
use crate::observe::post::Committed;
use crate::plan::desired::jobs::Verb;
use crate::plan::failover::volumes;
use crate::plan::hooks::planned;
use crate::plan::manifest::Contents;
use crate::plan::manifest::MANIFEST_VERSION;
use crate::plan::manifest::Manifest;
use crate::plan::snapshots;
use crate::plan::task::{Source, Task};
use crate::trust::envelope::Envelope;
use crate::trust::envelope::Purpose;
use crate::trust::envelope::digest;
use crate::vault::client::ClientError;

impl Round {
    /// Makes a copy in that vault, unless one is under way. Its number is on record before the mover starts.
    pub async fn copy(
        &mut self,
        memory: &mut Memory,
        vault: &str,
        consistency: Consistency,
    ) -> Result<(), RunError> {
        let Some(record) = self.seen.record.clone() else { return Ok(()) };
        let under_way = self.seen.jobs.iter().filter(|job| !ended(job)).filter_map(Task::of).find(|task| {
            let is_final = |it: Consistency| it == Consistency::Final;
            let same = matches!(task, Task::Backup { manifest, .. } if is_final(manifest.consistency) == is_final(consistency));
            same && task.is_current(&record.spec)
        });
        if under_way.is_some() || !self.may_start(memory, true).await? {
            return Ok(());
        }
        let running = consistency != Consistency::Final;
        let source = if running { self.source() } else { Source::Volumes };
        if source != Source::Volumes
            && let Some(why) = self.unfit_for_snapshots().await?
        {
            self.failed(memory, Verb::Backup, "SnapshotsUnavailable", why).await;
            return Ok(());
        }
        let mut freeze = record.spec.freeze.clone();
        let consistency = if running {
            if freeze.is_none() {
                let hooks = planned(&self.embassy.spec.replication.hooks, &self.seen.pods);
                if !hooks.is_empty() {
                    return self.freeze(memory, &record, hooks).await;
                }
            }
            match Self::begin_held(memory, freeze.as_ref()) {
                None => return Ok(()),
                Some(true) => Consistency::Quiesced,
                Some(false) => snapshots::consistency(source, self.seen.claims.len()),
            }
        } else {
            consistency
        };
        let manifest = self.next_manifest(memory, &record.spec, vault, consistency);
        let sequence = manifest.point.sequence;
        if let Some(freeze) = freeze.as_mut().filter(|freeze| !freeze.thawing) {
            freeze.sequence = Some(sequence);
        }
        let spec = FailoverRecordSpec { sequence, freeze, ..record.spec.clone() };
        self.seen.record = self.note(&record, spec).await?.or(Some(record));
        let manifest = Box::new(manifest);
        self.start_mover(memory, &Task::Backup { vault: vault.to_owned(), manifest, source }).await
    }

    /// The manifest of the next copy, without its contents.
    fn next_manifest(
        &self,
        memory: &Memory,
        record: &FailoverRecordSpec,
        vault: &str,
        consistency: Consistency,
    ) -> Manifest {
        let committed = memory.newest(|epoch| *epoch == record.epoch);
        let sequence = committed.map_or(0, |manifest| manifest.point.sequence).max(record.sequence) + 1;
        let last = memory.ways.get(vault).and_then(|way| way.last(&record.epoch));
        let empty = String::new;
        Manifest {
            version: MANIFEST_VERSION,
            namespace: self.owner.namespace.clone(),
            embassy: self.owner.name.clone(),
            point: PointRef { epoch: record.epoch.clone(), sequence },
            cut_time: Time(Timestamp::now()),
            claims: self.seen.claims.iter().map(ResourceExt::name_any).collect(),
            contents: Contents {
                snapshot: empty(),
                bytes: 0,
                files: 0,
                objects: 0,
                content_digest: empty(),
                inventory: empty(),
            },
            consistency,
            previous: last.map(|committed| committed.digest.clone()).unwrap_or_default(),
            ancestry: record.ancestry.clone(),
        }
    }

    /// Publishes the manifest last: from here on the recovery point exists.
    pub(super) async fn commit(
        &self,
        memory: &mut Memory,
        record: &FailoverRecord,
        task: &Task,
        vault: &str,
        manifest: Manifest,
    ) -> Result<Option<FailoverRecord>, RunError> {
        let post = self.links.get(vault).and_then(|link| link.post.as_ref());
        let (Some(post), Some(way)) = (post, memory.ways.get_mut(vault)) else {
            return Err(RunError::again(&format!("the vault of {vault} is out of reach")));
        };
        let payload = serde_json::to_string(&manifest).map_err(RunError::defect)?;
        let keys = self.context.keys().await;
        let text = Envelope::sign(&keys.signing, &self.parties.me, Purpose::Manifest, payload).to_text();
        let (epoch, sequence) = (manifest.point.epoch.slug(), manifest.point.sequence);
        let (namespace, name) = (&self.owner.namespace, &self.owner.name);
        match post.vault.put_point(namespace, name, &epoch, sequence, text.clone()).await {
            Ok(()) => {}
            Err(ClientError::Conflict { .. }) => {
                // Another point has this number: what is there is read again, and the copy is made anew.
                way.points.retain(|point, _| point.epoch != manifest.point.epoch);
                return Ok(None);
            }
            Err(ClientError::Refused { reason, message }) if reason == "Incomplete" => {
                self.failed(memory, task.verb(), "RepositoryDamaged", message).await;
                return Ok(None);
            }
            Err(ClientError::Refused { reason, message }) if reason == "AboutToGo" => {
                self.failed(memory, task.verb(), "CopyTooSlow", message).await;
                return Ok(None);
            }
            Err(error) => return Err(RunError::again(&error.to_string())),
        }
        tracing::info!(
            namespace, name, vault, point = %manifest.point, bytes = manifest.contents.bytes,
            files = manifest.contents.files, "recovery point committed"
        );
        let committed = Committed { digest: digest(&text), manifest: manifest.clone() };
        way.points.insert(manifest.point.clone(), committed);
        succeeded(memory);
        if manifest.consistency == Consistency::Final && !self.writable_pods() {
            return self
                .note(record, volumes::copied(&record.spec, &manifest.point().data, &self.claim_uids()))
                .await;
        }
        Ok(None)
    }
}
