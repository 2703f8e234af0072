//! Readers of a standby: drills that stay, one after the other. What is served is never touched; it is exchanged for another one.

use k8s_openapi::{api::core::v1::Service, jiff::Timestamp};
use kube::{Api, Resource, ResourceExt, api::ListParams};

use super::drill_steps::Run;
use super::error::RunError;
use super::memory::Memory;
use super::round::Round;
use crate::act;
use crate::act::apply::apply;
use crate::api::Drill;
use crate::api::data_embassy::Standby;
use crate::api::drill::{CheckResult, DrillPhase, DrillStatus};
use crate::api::failover_record::{FailoverRecordSpec, Role};
use crate::plan::desired::drill::Stage;
use crate::plan::drill::readiness::missing;
use crate::plan::drill::serving;

impl Round {
    /// Why this site serves no readers, in words.
    pub(super) fn hinders_serving(&self, record: &FailoverRecordSpec) -> Option<String> {
        if self.embassy.spec.standby != Standby::ReadOnly {
            return Some("spec.standby of the DataEmbassy is not ReadOnly".to_owned());
        }
        if self.parties.at_home() {
            return Some("readers are served abroad, and this is home".to_owned());
        }
        match record.role {
            Role::Standby if record.held() => Some("this site is held".to_owned()),
            Role::Standby => None,
            role => Some(format!("this site is {}", role.as_str())),
        }
    }

    /// Begins the next one when it is due, and removes the objects of those that are over.
    pub(super) async fn schedule_serving(
        &self,
        memory: &Memory,
        record: &FailoverRecordSpec,
    ) -> Result<(), RunError> {
        let wanted = self.hinders_serving(record).is_none();
        self.remove_drills(&serving::ended(&self.seen.drills, wanted)).await?;
        if !wanted || self.embassy.spec.suspend {
            return Ok(());
        }
        let reading = self.embassy.spec.reading.clone().unwrap_or_default();
        let (Some(newest), now) = (memory.newest(|_| true), Timestamp::now()) else { return Ok(()) };
        if !serving::is_due(&reading, &self.seen.drills, &newest.point, now) {
            return Ok(());
        }
        let mut drill = serving::next(&reading, &self.owner, now);
        // Nobody else would end it once the DataEmbassy is gone, nor remove the names that lead to it.
        drill.metadata.owner_references = self.embassy.owner_ref(&()).map(|embassy| vec![embassy]);
        self.create_drill(&drill).await
    }

    /// Why a drill that serves must end: nothing is to be served here, or a newer one serves.
    pub(super) fn hinders(&self, record: &FailoverRecordSpec, drill: &Drill) -> Option<String> {
        self.hinders_serving(record).or_else(|| serving::replaced(drill, &self.seen.drills, Timestamp::now()))
    }
}

impl Run<'_> {
    /// Opens it to readers and leads them there; again in each round, since rules may change.
    pub(super) async fn serve(&self) -> Result<Option<DrillStatus>, RunError> {
        if self.drill.serves() && !serving::leads(self.drill, &self.round.seen.drills) {
            return Ok(None); // it only stays until its readers have noticed
        }
        let seen = self.seen().await?;
        if seen.namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
            let gone = format!("no longer served: namespace {} was removed", self.owner.namespace);
            return Ok(Some(self.conclude(true, gone)));
        }
        let missing = missing(&seen.workload);
        let context = &self.round.context;
        let reading = self.round.embassy.spec.reading.clone().unwrap_or_default();
        self.close_off(Stage::Serving(&reading.ingress)).await?;
        let inside: Api<Service> = Api::namespaced(context.client.clone(), &self.owner.namespace);
        let served = inside.list(&ListParams::default()).await;
        let served =
            served.map_err(|error| RunError::Cluster("read the Services that readers use", error))?;
        let Some(owner) = self.drill.owner_ref(&()) else { return Ok(None) };
        let domain = &context.settings.cluster_domain;
        let protected = &self.round.owner;
        let there: Api<Service> = Api::namespaced(context.client.clone(), &protected.namespace);
        let there = there.list(&ListParams::default()).await;
        let there = there.map_err(|error| RunError::Cluster("read the names that readers use", error))?;
        let (wanted, unnamed) =
            serving::services(protected, &owner, &self.owner.namespace, domain, &served.items, &there.items);
        apply(&context.client, &protected.namespace, &wanted, &there.items).await?;
        let names: Vec<String> = wanted.iter().map(ResourceExt::name_any).collect();
        let point = self.status.recovery_point.as_ref().map_or_else(String::new, ToString::to_string);
        let without = match unnamed.as_slice() {
            [] => String::new(),
            unnamed => {
                format!("; no name for {}: it is the register's own, or too long", unnamed.join(", "))
            }
        };
        let message = format!("{point} is served by {}{without}", names.join(", "));
        if !self.drill.serves() {
            let about = self.drill.object_ref(&());
            act::report::event(&context.client, about, false, "Serving", "Drill", &message).await;
        }
        let ready =
            CheckResult { name: "ready".to_owned(), passed: missing.is_empty(), message: missing.join("; ") };
        Ok(Some(DrillStatus {
            checks: vec![ready],
            phase: Some(DrillPhase::Serving),
            message: Some(message),
            ..self.status.clone()
        }))
    }
}
