//! One reconcile of one embassy: observe, decide, act, write to the peer, report.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::SinkExt;
use k8s_openapi::{api::batch::v1::Job, jiff::Timestamp};
use kube::{Api, Resource, ResourceExt, api::ListParams};

use super::context::{Context, target};
use super::error::RunError;
use super::link::{self, Links};
use super::memory::{Background, Memory};
use super::parties::Parties;
use super::round::Round;
use crate::act;
use crate::api::DataEmbassy;
use crate::api::FailoverRecord;
use crate::api::conditions::ConditionType;
use crate::api::conditions::Finding;
use crate::api::conditions::merge;
use crate::api::data_embassy::DataEmbassyStatus;
use crate::api::duration;
use crate::api::failover_record::{FailoverRecordSpec, VolumeCondition};
use crate::api::recovery_point::Consistency;
use crate::observe;
use crate::observe::post::Correspondence;
use crate::plan::desired::Owner;
use crate::plan::failover::Action;
use crate::plan::failover::Document;
use crate::plan::failover::View;
use crate::plan::failover::decide;
use crate::plan::failover::first_record::Before;
use crate::plan::failover::first_record::Beginning;
use crate::plan::failover::first_record::adopt;
use crate::plan::failover::first_record::begin;
use crate::plan::failover::invariants;
use crate::plan::failover::trace::Did;
use crate::plan::failover::trace::Trace;
use crate::plan::failover::volumes;
use crate::plan::schedule;
use crate::plan::task::Task;

/// Most writes of the record in one reconcile; a protocol that needs more is looked at again at once.
const STEPS: usize = 8;

/// Reconciles; the answer is when to look again if nothing happens before.
pub async fn reconcile(embassy: Arc<DataEmbassy>, context: Arc<Context>) -> Result<Duration, RunError> {
    context.metrics.reconciles.inc();
    let owner = Owner { namespace: embassy.namespace().unwrap_or_default(), name: embassy.name_any() };
    let memory = context.memory(&owner).await;
    let mut memory = memory.lock().await;
    if embassy.metadata.deletion_timestamp.is_some() {
        return Ok(Duration::from_secs(30));
    }
    let Some(parties) = Parties::of(&embassy, &context.settings.site) else {
        let message = format!(
            "this cluster is site {}, which is neither spec.home nor spec.embassies: nothing is done here",
            context.settings.site
        );
        return stop(&context, &embassy, "NotASite", &message).await;
    };
    if let Some(first) = older(&context, &embassy).await? {
        let message = format!(
            "DataEmbassy {first} protects this namespace already: a namespace has one register and one fence. Delete \
             this one, or move its register into a namespace of its own"
        );
        return stop(&context, &embassy, "NamespaceTaken", &message).await;
    }
    let sites = context.sites().await.map_err(|error| RunError::Cluster("read Sites", error))?;
    if let Some(message) = residency(&embassy, &parties, &sites) {
        return stop(&context, &embassy, "Residency", &message).await;
    }
    let seen = Box::pin(observe::cluster::see(&context.client, &owner, &embassy)).await?;
    let mut round =
        Round { context: Arc::clone(&context), owner, embassy, parties, sites, seen, links: Links::new() };
    round.look_after_freeze(&mut memory).await?;
    round.fence_first(&mut memory).await?;
    round.links = link::open(&context, &round.owner, &round.parties, &round.sites, &mut memory).await;
    round.await_mail(&mut memory);
    Box::pin(round.run(&mut memory)).await
}

/// The `DataEmbassy` that was in the namespace before this one, if there is one.
async fn older(context: &Context, embassy: &DataEmbassy) -> Result<Option<String>, RunError> {
    let api: Api<DataEmbassy> =
        Api::namespaced(context.client.clone(), &embassy.namespace().unwrap_or_default());
    let all = api.list(&ListParams::default()).await;
    let all = all.map_err(|error| RunError::Cluster("read DataEmbassies", error))?;
    let age = |embassy: &DataEmbassy| (embassy.creation_timestamp(), embassy.name_any());
    let first = all.items.iter().min_by_key(|other| age(other)).map(ResourceExt::name_any);
    Ok(first.filter(|first| *first != embassy.name_any()))
}

/// Every named site must stand where the data may lie; also checked at admission, where Sites may be missing.
fn residency(
    embassy: &DataEmbassy,
    parties: &Parties,
    sites: &std::collections::BTreeMap<String, crate::api::Site>,
) -> Option<String> {
    let allowed = &embassy.spec.residency.allow;
    for name in std::iter::once(&parties.me).chain(&parties.others) {
        match sites.get(name) {
            None => {
                return Some(format!(
                    "there is no Site {name} here: apply it, so that its jurisdiction is known"
                ));
            }
            Some(site) if !allowed.contains(&site.spec.jurisdiction) => {
                return Some(format!(
                    "Site {name} stands in {}, which spec.residency.allow does not list: nothing is copied or switched",
                    site.spec.jurisdiction.0
                ));
            }
            Some(_) => {}
        }
    }
    None
}

/// Says why nothing is done.
async fn stop(
    context: &Context,
    embassy: &DataEmbassy,
    reason: &'static str,
    message: &str,
) -> Result<Duration, RunError> {
    let namespace = embassy.namespace().unwrap_or_default();
    let api: Api<DataEmbassy> = Api::namespaced(context.client.clone(), &namespace);
    let generation = embassy.metadata.generation.unwrap_or_default();
    let old = embassy.status.clone().unwrap_or_default();
    let findings = [
        Finding::new(ConditionType::Ready, false, reason, message),
        Finding::new(ConditionType::Reconciling, false, reason, "nothing is done"),
        Finding::new(ConditionType::Stalled, true, reason, message),
    ];
    let status = DataEmbassyStatus {
        observed_generation: Some(generation),
        conditions: merge(&old.conditions, &findings, generation, Timestamp::now()),
        ..old
    };
    act::report::status(&api, embassy, embassy.status.as_ref(), &status).await?;
    Ok(Duration::from_secs(30))
}

impl Round {
    /// Before the vault is even asked: a site that was started anew, that a person fences, or that is closed for any other
    /// reason lets nothing run. Its kubelets may have started the register by themselves, and every second counts.
    async fn fence_first(&mut self, memory: &mut Memory) -> Result<(), RunError> {
        self.remember_carriers().await?;
        let Some(record) = self.seen.record.clone() else { return Ok(()) };
        let view = self.view(&record.spec, memory, Timestamp::now());
        if (view.cold_start || (view.fence_asked && !record.spec.human_fence))
            && let Action::Write(spec, why) = decide(&view)
        {
            invariants::check_write(&record.spec, &spec)?;
            let wrote = self.write_record(&record, *spec, why).await?;
            self.trace(Some(&view), Did::Write(Box::new(wrote.spec.clone())));
            self.seen.record = Some(wrote);
        }
        let closed = self.seen.record.as_ref().is_some_and(|r| !r.spec.role.rules() || r.spec.held());
        if closed {
            self.look_after_freeze(memory).await?;
            self.close().await?;
            self.give_up_final_copies().await?;
        }
        Ok(())
    }

    async fn run(&mut self, memory: &mut Memory) -> Result<Duration, RunError> {
        if self.links.values().all(|link| link.distrust.is_some())
            && let Some(distrust) = self.distrust().cloned()
        {
            // Nothing is decided on mail that is not believed; what is closed stays closed, and what runs goes on.
            let runs = self.seen.record.as_ref().is_some_and(|r| r.spec.role.rules() && !r.spec.held());
            if runs && !self.is_closed() {
                self.permit().await?;
            }
            return stop(&self.context, &self.embassy, distrust.reason, &distrust.why).await;
        }
        self.receive_mandates(memory).await?;
        let mut record = match self.seen.record.clone() {
            Some(record) => self.adopted(memory, record).await?,
            None => match self.first_record(memory).await? {
                Ok(record) => record,
                Err(waiting) => return stop(&self.context, &self.embassy, "Joining", &waiting).await,
            },
        };
        self.seen.record = Some(record.clone());
        if let Some(written) = self.finish_movers(memory, &record).await? {
            record = written;
            self.seen.record = Some(record.clone());
        }
        self.provide_snapshots(memory, &record).await?;
        if !record.spec.role.rules() {
            self.standby_volumes(memory).await?;
        }
        memory.begun = None;
        let (view, action) = self.steps(memory, record).await?;
        self.perform(memory, &view, &action).await?;
        self.routine(memory, &view, &action).await?;
        self.verify_vault(memory).await?;
        self.drill(memory, &view.record).await;
        self.thin_out(memory, &view.record).await;
        self.write_mail(memory, &view.record).await?;
        self.keep_points(memory).await?;
        self.find_unkept_keys(memory, &view.record).await?;
        self.report(memory, &view, &action).await?;
        Ok(self.next_look(memory, &view, &action))
    }

    async fn first_record(&self, memory: &Memory) -> Result<Result<FailoverRecord, String>, RunError> {
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
                match act::record::create(&self.context.client, &self.owner, *spec, why).await? {
                    act::record::Written::Done(record) => {
                        self.told(&record, why).await;
                        self.trace(None, Did::Begin(Box::new(record.spec.clone())));
                        Ok(Ok(*record))
                    }
                    act::record::Written::ReadAgain => Err(RunError::Conflict),
                }
            }
        }
    }

    /// A record that is behind this site's own mail, as after a restore of etcd, takes over what the mail says, held.
    async fn adopted(&self, memory: &Memory, record: FailoverRecord) -> Result<FailoverRecord, RunError> {
        let Some(spec) = own_document(memory).and_then(|own| adopt(&record.spec, own)) else {
            return Ok(record);
        };
        let why = "the record is older than this site's own mail: held until the other sites confirm";
        let adopted = self.write_record(&record, spec, why).await?;
        self.trace(None, Did::Adopt(Box::new(adopted.spec.clone())));
        Ok(adopted)
    }

    async fn write_record(
        &self,
        record: &FailoverRecord,
        spec: FailoverRecordSpec,
        why: &str,
    ) -> Result<FailoverRecord, RunError> {
        match act::record::replace(&self.context.client, &self.owner, record, spec, Some(why)).await? {
            act::record::Written::Done(written) => {
                self.told(&written, why).await;
                Ok(*written)
            }
            act::record::Written::ReadAgain => Err(RunError::Conflict),
        }
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
    fn trace(&self, view: Option<&View>, did: Did) {
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
    fn trace_act(&self, memory: &mut Memory, view: &View, action: &Action) {
        let act = Did::act(action);
        if let Some(begun) = act.clone().filter(|_| act != memory.acting) {
            self.trace(Some(view), begun);
        }
        memory.acting = act;
    }

    /// Decides and writes until an act, or nothing, is next.
    async fn steps(
        &mut self,
        memory: &mut Memory,
        mut record: FailoverRecord,
    ) -> Result<(View, Action), RunError> {
        for _ in 0..STEPS {
            self.seen.record = Some(record.clone());
            let view = self.view(&record.spec, memory, Timestamp::now());
            match (decide(&view), self.restore_under_way(memory, &record.spec)) {
                (Action::Write(spec, why), _) => {
                    invariants::check_write(&record.spec, &spec)?;
                    let spec = *spec;
                    self.begun(memory, &view, &spec).await?;
                    record = self.write_record(&record, spec, why).await?;
                    self.trace(Some(&view), Did::Write(Box::new(record.spec.clone())));
                }
                (Action::Note(spec), _) => {
                    self.tell_replaced(&view, &spec).await;
                    if let Some(written) = self.note(&record, *spec).await? {
                        record = written;
                    }
                }
                (Action::Restore { .. } | Action::Backup(_), _) if view.suspended => {
                    return Ok((view, Action::Wait("spec.suspend to become false")));
                }
                // Finished first: with copies that come faster than a restore takes, none would ever end.
                (Action::Restore { discard, .. }, Some(point)) => {
                    return Ok((view, Action::Restore { point: Box::new(point), discard }));
                }
                (Action::Restore { point, discard }, None) => {
                    invariants::check_restore(&record.spec, discard)?;
                    let spec = volumes::restoring(&record.spec, &point.data, &self.claim_uids());
                    match self.note(&record, spec).await? {
                        Some(written) => record = written,
                        None => return Ok((view, Action::Restore { point, discard })),
                    }
                }
                (action, _) => return Ok((view, action)),
            }
        }
        Err(RunError::Conflict)
    }

    /// A copy that somebody deleted is news, though it is made again.
    async fn tell_replaced(&self, view: &View, next: &FailoverRecordSpec) {
        let was_whole = volumes::clean_at(&view.record.volumes).is_some();
        if view.replaced && was_whole && next.volumes.condition == VolumeCondition::Restoring {
            let note =
                "a claim that held the copy here was deleted: it is copied again from the vault, whole";
            tracing::warn!(namespace = self.owner.namespace, name = self.owner.name, "{note}");
            self.event(true, "ClaimReplaced", "Restore", note).await;
        }
    }

    async fn perform(&mut self, memory: &mut Memory, view: &View, action: &Action) -> Result<(), RunError> {
        let record = &view.record;
        let closes = !record.role.rules() || record.held();
        if matches!(action, Action::Fence) || closes && !self.is_closed() {
            self.look_after_freeze(memory).await?;
            self.close().await?;
        }
        self.trace_act(memory, view, action);
        match action {
            Action::Start => {
                invariants::check_start(record)?;
                self.open(memory, record).await
            }
            Action::Restore { point, .. } => {
                let Some((_, committed)) = memory.committed(&point.data.point) else { return Ok(()) };
                let manifest = &committed.manifest;
                let here = |name: &String| self.seen.claims.iter().any(|claim| claim.name_any() == *name);
                if !manifest.claims.iter().all(here) {
                    return Ok(()); // they are being made; the next look finds them
                }
                self.ensure_mover(memory, &Task::Restore(Box::new(manifest.clone()))).await
            }
            Action::Backup(towards) => {
                let vault = self.parties.vault_towards(towards).to_owned();
                self.copy(memory, &vault, Consistency::Final).await
            }
            Action::Wait(_) if view.sealed => self.end_restores().await,
            _ => Ok(()),
        }
    }

    /// Where the site is sealed, a restore whose order was withdrawn would wait for its key for ever.
    async fn end_restores(&self) -> Result<(), RunError> {
        let restores = |job: &&Job| matches!(Task::of(job), Some(Task::Restore(_)));
        for job in self.seen.jobs.iter().filter(restores) {
            act::movers::remove(&self.context.client, job).await?;
        }
        Ok(())
    }

    /// A copy of the running register, when one is due.
    pub async fn scheduled_copy(&mut self, memory: &mut Memory, view: &View) -> Result<(), RunError> {
        let record = &view.record;
        let runs = record.role == crate::api::failover_record::Role::Active && !record.held();
        if !runs || view.suspended {
            return Ok(());
        }
        match self.copy_due_first(memory, view) {
            Some((due_in, vault)) if due_in.is_zero() => self.copy(memory, &vault, Consistency::Fuzzy).await,
            _ => Ok(()),
        }
    }

    /// The vault in reach whose next copy is due first, and in what time.
    fn copy_due_first(&self, memory: &Memory, view: &View) -> Option<(Duration, String)> {
        let rpo = duration::parse(&self.embassy.spec.replication.rpo).unwrap_or_default();
        let due_in = |vault: &str| {
            let identity = format!("{}/{}/{vault}", self.owner.namespace, self.owner.name);
            let last = memory.ways.get(vault).and_then(|way| way.last(&view.record.epoch));
            let cut = last.map(|committed| committed.manifest.cut_time.0);
            schedule::due_in(cut, Timestamp::now(), schedule::interval(rpo, &identity))
        };
        let vaults = self.parties.vaults().into_iter().filter(|vault| self.reaches(vault));
        let mut first: Vec<(Duration, String)> = vaults.map(|vault| (due_in(&vault), vault)).collect();
        let soonest = first.iter().map(|(due_in, _)| *due_in).min()?;
        first.retain(|(due_in, _)| *due_in == soonest);
        // After a failure another vault's turn comes: one that takes nothing must not leave the others without copies.
        let turn = usize::try_from(memory.failures).unwrap_or_default() % first.len();
        Some(first.swap_remove(turn))
    }

    /// Nobody needs to be asked before this, unless a watch or the mail says so.
    fn next_look(&self, memory: &Memory, view: &View, action: &Action) -> Duration {
        let interval = self.context.settings.report_interval;
        let sent = memory.ways.values().filter_map(|way| way.sent).min();
        let mut next = sent.map_or(interval, |sent| interval.saturating_sub(sent.elapsed()));
        if !matches!(action, Action::Nothing | Action::Wait(_)) {
            next = next.min(Duration::from_secs(2));
        }
        if view.record.role == crate::api::failover_record::Role::Active
            && let Some((due_in, _)) = self.copy_due_first(memory, view)
        {
            next = next.min(due_in);
        }
        if let Some(due) = self.verification_due_in(memory) {
            next = next.min(due);
        }
        if let Some(due) = self.thinning_due_in(memory, &view.record) {
            next = next.min(due);
        }
        if let Some(due) = self.drill_due(&view.record) {
            next = next.min(Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default());
        }
        // One that serves readers stays, and needs no looking after; two of them are an exchange.
        if self.open_drills().any(|drill| !drill.serves()) {
            next = next.min(Duration::from_secs(1));
        } else if self.open_drills().count() > 1 {
            next = next.min(Duration::from_secs(5));
        }
        if view.record.freeze.is_some() {
            next = next.min(Duration::from_secs(1));
        }
        if let Some(retry) = memory.retry_at {
            next = next.min(retry.saturating_duration_since(Instant::now()));
        }
        next.max(Duration::from_millis(500))
    }

    /// Waits for mail at every vault beside the reconciles, and asks for one when some comes.
    fn await_mail(&self, memory: &mut Memory) {
        for (vault, way) in &mut memory.ways {
            let post = self.links.get(vault).and_then(|link| link.post.clone());
            let waits = way.courier.as_ref().is_some_and(|courier| !courier.0.is_finished());
            let (Some(post), Some(met), false) = (post, &way.met, waits) else { continue };
            way.courier = Some(self.courier(post, self.parties.met_at(vault), met.head.sequence));
        }
    }

    fn courier(&self, post: Correspondence, site: String, mut after: i64) -> Background {
        let mut wake = self.context.wake.clone();
        let target = target(&self.owner);
        Background(tokio::spawn(async move {
            let wait = Duration::from_secs(25);
            while let Ok(letters) =
                post.vault.mail(&post.owner.namespace, &post.owner.name, &site, after, wait).await
            {
                if let Some(last) = letters.last() {
                    after = last.sequence;
                    if wake.send(target.clone()).await.is_err() {
                        return;
                    }
                }
            }
            // The vault is gone: the next reconcile starts another one.
            tokio::time::sleep(Duration::from_secs(2)).await;
            let _ = wake.send(target).await;
        }))
    }

    /// An event beside the `DataEmbassy`.
    pub async fn event(&self, warning: bool, reason: &str, action: &str, note: &str) {
        let about = self.embassy.object_ref(&());
        act::report::event(&self.context.client, about, warning, reason, action, note).await;
    }
}

/// This site's own newest document in any vault.
fn own_document(memory: &Memory) -> Option<&Document> {
    let own = memory.ways.values().filter_map(|way| way.own.as_ref()?.report.as_ref());
    own.map(|report| &report.document).max_by_key(|document| document.revision)
}
