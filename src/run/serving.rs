//! Readers of a standby: drills that stay, one after the other. What is served is never touched; it is exchanged for another one.

use k8s_openapi::{api::core::v1::Service, jiff::Timestamp};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};

use super::drill_steps::Run;
use super::error::RunError;
use super::memory::Memory;
use super::round::Round;
use crate::act;
use crate::act::apply::{apply, owned};
use crate::api::Drill;
use crate::api::data_embassy::Standby;
use crate::api::drill::{DrillPhase, DrillStatus};
use crate::api::failover_record::{FailoverRecordSpec, Role};
use crate::plan::desired::drill::Stage;
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
        let standby = record.role == Role::Standby && !record.held();
        (!standby).then(|| format!("this site is {}", record.role.as_str()))
    }

    /// Begins the next one when it is due, and removes the objects of those that are over.
    pub(super) async fn schedule_serving(
        &self,
        memory: &Memory,
        record: &FailoverRecordSpec,
    ) -> Result<(), RunError> {
        let api: Api<Drill> = Api::namespaced(self.context.client.clone(), &self.owner.namespace);
        for old in serving::ended(&self.seen.drills) {
            match api.delete(&old.name_any(), &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(RunError::Cluster("remove a drill that served readers", error)),
            }
        }
        if self.hinders_serving(record).is_some() || self.embassy.spec.suspend {
            return Ok(());
        }
        let reading = self.embassy.spec.reading.clone().unwrap_or_default();
        let (Some(newest), now) = (memory.newest(|_| true), Timestamp::now()) else { return Ok(()) };
        if !serving::is_due(&reading, &self.seen.drills, &newest.point, now) {
            return Ok(());
        }
        match api.create(&PostParams::default(), &serving::next(&reading, &self.owner, now)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(RunError::Cluster("begin to serve readers", error)),
        }
    }

    /// Why a drill that serves must end: nothing is to be served here, or a newer one serves.
    pub(super) fn hinders(&self, record: &FailoverRecordSpec, drill: &Drill) -> Option<String> {
        self.hinders_serving(record).or_else(|| {
            let newest = serving::serving(&self.seen.drills).first().copied()?;
            let point = newest.status.as_ref()?.recovery_point.as_ref()?;
            (newest.uid() != drill.uid()).then(|| format!("{point} is served now"))
        })
    }
}

impl Run<'_> {
    /// Opens it to readers and leads them there; again in each round, since rules may change.
    pub(super) async fn serve(&self) -> Result<Option<DrillStatus>, RunError> {
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
        let wanted = serving::services(protected, &owner, &self.owner.namespace, domain, &served.items);
        let there: Vec<Service> = owned(&context.client, &protected.namespace, &protected.name).await?;
        apply(&context.client, &protected.namespace, &wanted, &there).await?;
        if self.status.phase == Some(DrillPhase::Serving) {
            return Ok(None);
        }
        let names: Vec<String> = wanted.iter().map(ResourceExt::name_any).collect();
        let point = self.status.recovery_point.as_ref().map_or_else(String::new, ToString::to_string);
        let message = format!("{point} is served by {}", names.join(", "));
        act::report::event(&context.client, self.drill.object_ref(&()), false, "Serving", "Drill", &message)
            .await;
        Ok(Some(DrillStatus {
            phase: Some(DrillPhase::Serving),
            message: Some(message),
            ..self.status.clone()
        }))
    }
}
