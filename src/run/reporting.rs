//! What people are told: the status of the embassy and of its orders.

use std::time::Duration;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{Api, ResourceExt};

use super::error::RunError;
use super::memory::Memory;
use super::round::Round;
use crate::act;
use crate::api::DataEmbassy;
use crate::api::Failover;
use crate::api::duration;
use crate::api::epoch::Epoch;
use crate::api::failover::FailoverKind;
use crate::api::failover::FailoverPhase;
use crate::api::failover::FailoverStatus;
use crate::api::failover_record::FailoverRecordSpec;
use crate::api::failover_record::Role;
use crate::plan::drill::{calendar, serving};
use crate::plan::failover::Action;
use crate::plan::failover::Order;
use crate::plan::failover::View;
use crate::plan::failover::progress;
use crate::plan::failover::volumes;
use crate::plan::letter::Report;
use crate::plan::mandate::drift;
use crate::plan::manifest::Manifest;
use crate::plan::status::Facts;
use crate::plan::status::status;

impl Round {
    /// Writes the status of the embassy if it says something new.
    pub async fn report(&self, memory: &Memory, view: &View, action: &Action) -> Result<(), RunError> {
        let record = &view.record;
        let drift = self.drift(memory, record);
        let divergence = self.divergence(memory, record);
        let reported = self.reports(memory).map(|(site, report)| (site, &report.time));
        let rehearsed =
            calendar::standing(self.embassy.spec.drills.as_ref(), &self.seen.drills, Timestamp::now());
        let serves = self.hinders_serving(record).is_none().then(|| serving::standing(&self.seen.drills));
        let facts = Facts {
            spec: &self.embassy.spec,
            generation: self.embassy.metadata.generation.unwrap_or_default(),
            view,
            action,
            newest: memory.newest(|_| true),
            verified: self.newest_verified(memory, record),
            checked: self.checked(memory),
            newest_damaged: self.newest_is_damaged(memory),
            identity: &self.whose(),
            verification_trouble: memory.verification.trouble.as_deref(),
            reported: reported.collect(),
            trouble: memory.trouble.as_ref(),
            distrust: self.distrust().map(|distrust| (distrust.reason, distrust.why.as_str())),
            isolated: self.embassy.spec.network.isolate || !record.role.rules() || record.held(),
            fenced: self.is_closed(),
            left: &self.still_there(),
            divergence: divergence.as_deref(),
            rehearsed: &rehearsed,
            serving: serves.as_ref(),
            thinned: memory.thinned(record),
            unkept: &memory.unkept,
            drift: &drift,
            now: Timestamp::now(),
        };
        let status = status(&facts, self.embassy.status.as_ref());
        let api: Api<DataEmbassy> = Api::namespaced(self.context.client.clone(), &self.owner.namespace);
        act::report::status(&api, self.embassy.as_ref(), self.embassy.status.as_ref(), &status).await?;
        self.context.metrics.observe(&self.owner, record, memory.newest(|_| true));
        if let Some(checked) = self.checked(memory) {
            self.context.metrics.checked(&self.owner, checked);
        }
        self.mark_points(memory).await?;
        if let Some(manifest) = self.newest_verified(memory, record) {
            self.verified(&manifest.point).await?;
        }
        Ok(())
    }

    /// The last report of every other site.
    fn reports<'a>(&'a self, memory: &'a Memory) -> impl Iterator<Item = (&'a str, &'a Report)> {
        self.parties
            .others
            .iter()
            .filter_map(|site| Some((site.as_str(), memory.report(&self.parties, site)?)))
    }

    /// The newest point that a standby restored: this site itself, or another one by its report.
    fn newest_verified<'a>(&self, memory: &'a Memory, record: &FailoverRecordSpec) -> Option<&'a Manifest> {
        let own = volumes::clean_at(&record.volumes)
            .map(|at| &at.point)
            .filter(|point| point.epoch.site != self.parties.me);
        let others = self.reports(memory).filter_map(|(_, report)| report.verified.as_ref());
        let newest = own.into_iter().chain(others).filter(|point| memory.committed(point).is_some()).max()?;
        memory.committed(newest).map(|(_, committed)| &committed.manifest)
    }

    /// Fields in which the spec here differs from the active site's mandate. An approval is given where it is needed.
    fn drift(&self, memory: &Memory, record: &FailoverRecordSpec) -> Vec<String> {
        match self.mandated(memory) {
            Some((_, introduced)) if !record.role.rules() => {
                drift(&self.embassy.spec, &introduced.mandate.spec)
                    .into_iter()
                    .filter(|field| field != "spec.failover.approveDiscard")
                    .collect()
            }
            _ => vec![],
        }
    }

    /// The status of every order that has not ended.
    pub async fn orders(&self, memory: &Memory, view: &View) -> Result<(), RunError> {
        for order in &self.seen.orders {
            let old = order.status.clone().unwrap_or_default();
            let newer = memory.begun.as_ref() == Some(&order.name_any());
            if newer || old.phase.is_some_and(FailoverPhase::is_final) {
                continue;
            }
            let Some(known) = view.orders.iter().find(|known| known.name == order.name_any()) else {
                continue;
            };
            let status = order_status(view, known, old);
            self.write_order(order, &status).await?;
        }
        Ok(())
    }

    pub(super) async fn write_order(
        &self,
        order: &Failover,
        status: &FailoverStatus,
    ) -> Result<(), RunError> {
        let api: Api<Failover> = Api::namespaced(self.context.client.clone(), &self.owner.namespace);
        let written = act::report::status(&api, order, order.status.as_ref(), status).await?;
        let old = order.status.as_ref().and_then(|old| old.phase);
        if written && old != status.phase {
            let phase = status.phase.map_or_else(String::new, |phase| format!("{phase:?}"));
            let note = format!("order {}: {}", order.name_any(), status.message.clone().unwrap_or_default());
            let warning = status.phase == Some(FailoverPhase::Rejected);
            self.event(warning, &phase, "Failover", &note).await;
        }
        Ok(())
    }

    /// Before an order takes effect: when it began and what it costs is written, since afterwards nobody could tell.
    pub async fn begun(
        &self,
        memory: &mut Memory,
        view: &View,
        next: &FailoverRecordSpec,
    ) -> Result<(), RunError> {
        let Some(order) = view.orders.iter().find(|order| {
            order.epoch > *view.record.top()
                && [Some(&next.epoch), next.intent.as_ref(), next.abort.as_ref()]
                    .contains(&Some(&order.epoch))
        }) else {
            return Ok(());
        };
        let Some(object) = self.seen.orders.iter().find(|object| object.name_any() == order.name) else {
            return Ok(());
        };
        let loss = match order.kind {
            FailoverKind::Planned => "none".to_owned(),
            // It goes on with its own bytes.
            FailoverKind::Forced if view.record.role.keeps_own_bytes() => "none".to_owned(),
            FailoverKind::Forced => view.loss.map_or_else(
                || "unknown".to_owned(),
                |age| format!("≤ {}", duration::format(Duration::from_secs(age.as_secs()))),
            ),
        };
        let status = FailoverStatus {
            phase: Some(FailoverPhase::Progressing),
            reason: Some("Begun".to_owned()),
            message: Some("the order takes effect".to_owned()),
            from: from(view, &order.epoch),
            started_at: Some(Time(Timestamp::now())),
            data_point: volumes::clean_at(&view.record.volumes).map(|at| at.point.clone()),
            data_loss: Some(loss),
            ..FailoverStatus::default()
        };
        memory.begun = Some(order.name.clone());
        self.write_order(object, &status).await
    }
}

/// The site from which an order takes the role, as far as it is known here.
fn from(view: &View, order: &Epoch) -> Option<String> {
    let record = &view.record;
    if order.site != record.site {
        return Some(record.site.clone());
    }
    let giver =
        record.intent.as_ref().filter(|_| record.role == Role::Demoted || record.role == Role::Demoting);
    Some(giver.unwrap_or(&record.epoch).site.clone()).filter(|site| *site != order.site)
}

fn order_status(view: &View, order: &Order, old: FailoverStatus) -> FailoverStatus {
    let progress = progress::of(view, order);
    let now = Time(Timestamp::now());
    let ended = progress.phase.is_final();
    let started_at = old.started_at.clone().or_else(|| {
        let begun = matches!(progress.phase, FailoverPhase::Progressing | FailoverPhase::Completed);
        begun.then(|| now.clone())
    });
    let took = started_at
        .as_ref()
        .filter(|_| ended)
        .map(|start| duration::format(Duration::try_from(now.0.duration_since(start.0)).unwrap_or_default()));
    let base = view.record.volumes.at.as_ref().filter(|_| progress.phase == FailoverPhase::Completed);
    let overtaken = progress.phase == FailoverPhase::Superseded && old.started_at.is_some();
    let message = if overtaken {
        format!("the order was under way when {} overtook it: it has no further effect", view.record.top())
    } else {
        progress.message
    };
    FailoverStatus {
        phase: Some(progress.phase),
        reason: Some(progress.reason.to_owned()),
        message: Some(message),
        from: old.from.or_else(|| from(view, &order.epoch)),
        ended_at: old.ended_at.or_else(|| ended.then_some(now)),
        duration: took,
        started_at,
        data_point: old.data_point.or_else(|| base.map(|at| at.point.clone())),
        data_loss: old.data_loss,
    }
}
