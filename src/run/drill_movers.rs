//! What the movers of a drill work with: a closed namespace, an identity, Jobs of their own.

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Pod, ServiceAccount},
        networking::v1::NetworkPolicy,
        rbac::v1::RoleBinding,
    },
    jiff::Timestamp,
};

use super::drill_steps::Run;
use super::drills::Rehearsal;
use super::error::RunError;
use super::memory::Memory;
use super::mover_jobs::repository_arguments;
use super::movers::{credentials, ended, outcome};
use super::repository_keys;
use crate::act;
use crate::act::apply::{apply, owned, prune};
use crate::api::drill::DrillStatus;
use crate::mover::outcome::{Outcome, Reason};
use crate::plan::desired::drill::{Stage, policies};
use crate::plan::desired::jobs::{MoverIntent, Verb, is_unstarted, mover};
use crate::plan::desired::rbac;
use crate::plan::manifest::Manifest;

/// The task of a drill's movers: the Drill itself says what they are for.
const TASK: &str = "drill";

impl Run<'_> {
    pub(super) async fn close_off(&self, stage: Stage<'_>) -> Result<(), RunError> {
        let (client, namespace) = (&self.round.context.client, self.owner.namespace.as_str());
        let wanted = policies(&self.owner, stage);
        let there: Vec<NetworkPolicy> = owned(client, namespace, &self.owner.name).await?;
        apply(client, namespace, &wanted, &there).await?;
        prune(client, namespace, &wanted, &there).await?;
        Ok(())
    }

    /// The mover's ServiceAccount, bound to these roles and no others.
    pub(super) async fn identity(&self, roles: &[&str]) -> Result<(), RunError> {
        let (client, namespace) = (&self.round.context.client, self.owner.namespace.as_str());
        let accounts: Vec<ServiceAccount> = owned(client, namespace, &self.owner.name).await?;
        apply(client, namespace, &[rbac::service_account(&self.owner)], &accounts).await?;
        let wanted: Vec<RoleBinding> = roles.iter().map(|role| rbac::binding(&self.owner, role)).collect();
        let there: Vec<RoleBinding> = owned(client, namespace, &self.owner.name).await?;
        apply(client, namespace, &wanted, &there).await?;
        prune(client, namespace, &wanted, &there).await?;
        Ok(())
    }

    /// The outcome of the Job that ended, if it counts. One that was interrupted, or did not reach the vault, is tried again.
    pub(super) async fn finished(
        &self,
        memory: &mut Memory,
        jobs: &[Job],
        movers: &[Pod],
    ) -> Result<Option<Outcome>, RunError> {
        let client = &self.round.context.client;
        let Some(job) = jobs.iter().find(|job| ended(job) || is_unstarted(job)) else { return Ok(None) };
        let outcome =
            if is_unstarted(job) { Err("its operator ended".to_owned()) } else { outcome(job, movers) };
        act::movers::remove(client, job).await?;
        let why = match outcome {
            Ok(Outcome::Failed(failed))
                if matches!(failed.reason, Reason::VaultUnreachable | Reason::Interrupted) =>
            {
                failed.message
            }
            Ok(outcome) => return Ok(Some(outcome)),
            Err(why) => why,
        };
        tracing::warn!(namespace = self.owner.namespace, why, "a mover of the drill is tried again");
        memory.rehearsal.iter_mut().for_each(Rehearsal::try_later);
        Ok(None)
    }

    pub(super) async fn start_mover(
        &self,
        memory: &Memory,
        verb: Verb,
        vault: &str,
        manifest: &Manifest,
        further: Vec<String>,
        jobs: &[Job],
    ) -> Result<Option<DrillStatus>, RunError> {
        // One that runs, or is just being removed.
        if !jobs.is_empty() {
            return Ok(None);
        }
        if memory.rehearsal.as_ref().is_some_and(Rehearsal::rests) {
            return Ok(None);
        }
        let (round, settings) = (self.round, &self.round.context.settings);
        let access = round.links.get(vault).and_then(|link| link.access.as_ref());
        let Some(access) = access else {
            return Ok(Some(self.waiting(format!("waits for the vault of {vault}"))));
        };
        let epoch = &manifest.point.epoch;
        let Some(key) = repository_keys::find(&round.context.keeper, &round.owner, epoch).await? else {
            let text = if round.is_sealed() {
                format!(
                    "this site is sealed and has no key of epoch {epoch}: order the drill at {}",
                    round.parties.home
                )
            } else {
                format!(
                    "the repository key of epoch {epoch} is not at this site: it comes with the next mandate of {}",
                    epoch.site
                )
            };
            return Ok(Some(self.waiting(text)));
        };
        let mut arguments = repository_arguments(&round.owner, epoch, &access.url);
        arguments.extend(round.bandwidth(vault));
        arguments.extend(further);
        arguments.extend(round.around_damage(memory, [manifest]));
        let tries = memory.rehearsal.as_ref().map_or(0, |rehearsal| rehearsal.tries);
        let job = mover(&MoverIntent {
            owner: &self.owner,
            verb,
            id: &format!("{}-{tries}", manifest.point.slug()),
            arguments: &arguments,
            task: TASK,
            image: &settings.image,
            pull_policy: &settings.pull_policy,
            // What it restored itself a moment ago needs no counting.
            claims: if verb == Verb::Activate { &[] } else { &manifest.claims },
            from_snapshots: false,
            stamp: Timestamp::now().as_millisecond(),
            node: None,
            unseal: None,
        });
        act::movers::start(&round.context.client, &job, credentials(access, Some(key))).await?;
        Ok(None)
    }
}
