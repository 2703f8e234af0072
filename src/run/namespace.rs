//! The protected namespace: closed or open, its policies, its standby volumes, the mover's identity.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Pod, ServiceAccount},
    rbac::v1::RoleBinding,
};
use kube::{Client, ResourceExt};

use super::error::RunError;
use super::memory::Memory;
use super::repository_keys;
use super::round::Round;
use crate::act;
use crate::act::apply::{apply, owned, prune};
use crate::act::fence::FenceError;
use crate::api::failover_record::FailoverRecordSpec;
use crate::api::recovery_point::Consistency;
use crate::guard;
use crate::guard::PERMIT_ANNOTATION;
use crate::observe::cluster::api_servers;
use crate::plan::desired::fence;
use crate::plan::desired::network::Destination;
use crate::plan::desired::network::NetworkIntent;
use crate::plan::desired::network::policies;
use crate::plan::desired::rbac;
use crate::plan::desired::storage::StorageIntent;
use crate::plan::desired::storage::claims;
use crate::plan::failover::Action;
use crate::plan::failover::View;
use crate::plan::hooks::planned;
use crate::plan::letter::Introduced;
use crate::plan::task::Task;

impl Round {
    /// Lets nothing but movers run: first no new Pod, then no wish for one, then the ones that are there.
    pub async fn close(&self) -> Result<(), RunError> {
        let (client, namespace) = (&self.context.client, self.owner.namespace.as_str());
        if !self.is_closed() {
            act::fence::label(client, namespace, true).await?;
            self.event(false, "Fenced", "Fence", "the namespace is closed: no Pod but the mover may start")
                .await;
        }
        act::fence::scale(client, namespace, &fence::stop(&self.seen.workloads)).await?;
        Ok(act::fence::evict(client, namespace, &self.seen.pods).await?)
    }

    /// Notes on the record where containers with a protected volume are, before anybody can take their Pods away: a Pod that
    /// was deleted by force from a silent node still counts.
    pub async fn remember_carriers(&mut self) -> Result<(), RunError> {
        let Some(record) = &self.seen.record else { return Ok(()) };
        let holding: Vec<String> =
            self.carrying().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect();
        let carriers = fence::carriers(&record.spec.carriers, &holding, &self.seen.nodes);
        let spec = FailoverRecordSpec { carriers, ..record.spec.clone() };
        if let Some(written) = self.note(record, spec).await? {
            self.seen.record = Some(written);
        }
        Ok(())
    }

    /// A final copy during which something could write is no final copy: one that such a Pod was seen beside is given up.
    pub async fn give_up_final_copies(&mut self) -> Result<(), RunError> {
        if !self.writable_pods() {
            return Ok(());
        }
        let is_final = |job: &Job| matches!(Task::of(job), Some(Task::Backup { manifest, .. }) if manifest.consistency == Consistency::Final);
        let (given_up, kept): (Vec<Job>, Vec<Job>) = self.seen.jobs.drain(..).partition(is_final);
        self.seen.jobs = kept;
        for job in &given_up {
            act::movers::remove(&self.context.client, job).await?;
        }
        Ok(())
    }

    /// What a fence still waits for, in words.
    #[must_use]
    pub fn still_there(&self) -> Vec<String> {
        let pods: Vec<_> = self.carrying().collect();
        let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let reports = |name: &String| self.seen.nodes.iter().any(|node| node.name == *name && node.reports);
        let mut found: Vec<String> = pods
            .iter()
            .map(|pod| {
                let place = node(pod).map_or_else(String::new, |node| format!(" on {node}"));
                format!("Pod {}{place}", pod.name_any())
            })
            .collect();
        let carriers = self.seen.record.iter().flat_map(|record| record.spec.carriers.keys());
        found.extend(carriers.filter(|name| !reports(name)).map(|name| {
            format!(
                "node {name}, which is silent: if it is off for good, taint it \
                 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute or delete the Node"
            )
        }));
        found
    }

    /// Lets the register run: the way first, then what was captured, then what was stopped.
    pub async fn open(&self, memory: &mut Memory, record: &FailoverRecordSpec) -> Result<(), RunError> {
        let (client, namespace) = (&self.context.client, self.owner.namespace.as_str());
        self.network(record).await?;
        if self.is_closed() {
            act::fence::label(client, namespace, false).await?;
            self.event(false, "Opened", "Start", "the namespace is open: the register may run here").await;
        }
        if let Some(point) = self.objects_due(record) {
            let Some((_, committed)) = memory.committed(point) else {
                return Err(RunError::again(&format!(
                    "the objects of recovery point {point}, to which the volumes were restored, are in a vault that \
                     is out of reach: bring it back, or set spec.failover.activation to External to run what this \
                     namespace holds"
                )));
            };
            let from = Box::new(committed.manifest.clone());
            let task = Task::Activate { epoch: record.epoch.clone(), from };
            return self.ensure_mover(memory, &task).await;
        }
        Ok(act::fence::scale(client, namespace, &fence::resume(&self.seen.workloads)).await?)
    }

    /// What holds whatever is decided: policies, identity, standby volumes, scheduled copies, orders.
    pub async fn routine(
        &mut self,
        memory: &mut Memory,
        view: &View,
        action: &Action,
    ) -> Result<(), RunError> {
        let record = &view.record;
        self.identity(record).await?;
        if !matches!(action, Action::Start) {
            self.network(record).await?;
        }
        if record.role.rules() && !record.held() && !self.is_closed() {
            self.permit().await?;
        }
        self.scheduled_copy(memory, view).await?;
        if matches!(action, Action::Wait(_)) {
            self.find_difference(memory, record).await?;
        }
        self.orders(memory, view).await
    }

    /// Gives each guard that waits leave for its very start. To be called only where the register may run.
    pub async fn permit(&self) -> Result<(), RunError> {
        Ok(permit(&self.context.client, &self.owner.namespace, &self.seen.pods).await?)
    }

    /// Where movers go: the API server and the vaults.
    pub(super) async fn destinations(&self) -> Result<Vec<Destination>, RunError> {
        let mut found = api_servers(&self.context.client).await?;
        found.extend(self.parties.vaults().iter().filter_map(|vault| self.vault_destination(vault)));
        Ok(found)
    }

    async fn network(&self, record: &FailoverRecordSpec) -> Result<(), RunError> {
        let mover = self.destinations().await?;
        let wanted = policies(&NetworkIntent {
            owner: &self.owner,
            network: &self.embassy.spec.network,
            open: record.role.rules() && !record.held(),
            mover: &mover,
        });
        let (client, namespace) = (&self.context.client, self.owner.namespace.as_str());
        apply(client, namespace, &wanted, &self.seen.policies).await?;
        prune(client, namespace, &wanted, &self.seen.policies).await?;
        Ok(())
    }

    fn vault_destination(&self, vault: &str) -> Option<Destination> {
        if vault == self.parties.me {
            return Some(Destination::Pods {
                namespace: self.context.settings.namespace.clone(),
                labels: BTreeMap::from([
                    ("app.kubernetes.io/name".to_owned(), "data-embassy".to_owned()),
                    ("app.kubernetes.io/component".to_owned(), "vault".to_owned()),
                ]),
                port: 8443,
            });
        }
        let vault = self.sites.get(vault)?.spec.vault.as_ref()?;
        let rest = vault.url.strip_prefix("https://")?;
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (rest, 443),
        };
        let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
        Some(address.map_or(Destination::AnyAddress(port), |address| Destination::Address(address, port)))
    }

    /// The mover may write objects only while an activation needs it.
    async fn identity(&self, record: &FailoverRecordSpec) -> Result<(), RunError> {
        let (client, namespace, name) =
            (&self.context.client, self.owner.namespace.as_str(), self.owner.name.as_str());
        let accounts: Vec<ServiceAccount> = owned(client, namespace, name).await?;
        apply(client, namespace, &[rbac::service_account(&self.owner)], &accounts).await?;
        let mut roles = vec![rbac::CAPTURE_ROLE];
        if record.role.rules() && !record.held() && self.objects_due(record).is_some() {
            roles.push(rbac::ACTIVATE_ROLE);
        }
        let mut wanted: Vec<RoleBinding> =
            roles.iter().map(|role| rbac::binding(&self.owner, role)).collect();
        let runs = record.role.rules() && !record.held();
        let hooked = || !planned(&self.embassy.spec.replication.hooks, &self.seen.pods).is_empty();
        if record.freeze.is_some() || (runs && hooked()) {
            wanted.push(rbac::hook_binding(&self.owner, &self.context.settings.namespace));
        }
        let live: Vec<RoleBinding> = owned(client, namespace, name).await?;
        apply(client, namespace, &wanted, &live).await?;
        prune(client, namespace, &wanted, &live).await?;
        Ok(())
    }

    /// Makes and grows the volumes that the mandate declares; none is ever shrunk or removed.
    pub async fn standby_volumes(&self, memory: &Memory) -> Result<(), RunError> {
        let Some((author, introduced)) = self.mandated(memory) else { return Ok(()) };
        let size = |claim: &PersistentVolumeClaim| {
            let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
            Some((claim.name_any(), requests.get("storage")?.clone()))
        };
        let existing = self.seen.claims.iter().filter_map(size).collect();
        let hosting = self.sites.get(&author).and_then(|site| site.spec.hosting.as_ref());
        let hosted: &[String] = hosting.map_or(&[], |hosting| &hosting.storage_classes);
        let wanted = claims(&StorageIntent {
            owner: &self.owner,
            declared: &introduced.mandate.claims,
            storage: &self.embassy.spec.storage,
            hosted_classes: hosted,
            existing: &existing,
        })?;
        let (client, namespace) = (&self.context.client, self.owner.namespace.as_str());
        apply(client, namespace, &wanted, &[] as &[PersistentVolumeClaim]).await?;
        Ok(())
    }

    /// The mandate in force here, and its author: of the site whose epoch is the newest that is known.
    #[must_use]
    pub fn mandated<'a>(&self, memory: &'a Memory) -> Option<(String, &'a Introduced)> {
        let mandates = self.parties.vaults().into_iter().filter_map(|vault| {
            let (_, introduced) = memory.mandate(&vault)?;
            let author = self.parties.met_at(&vault);
            let epoch = memory.report(&self.parties, &author).map(|report| &report.document.epoch);
            Some((epoch.filter(|epoch| epoch.site == author), author, introduced))
        });
        let (_, author, introduced) =
            mandates.max_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)))?;
        Some((author, introduced))
    }

    /// Keeps what mandates brought: the keys, so that a takeover needs nothing else.
    pub async fn receive_mandates(&self, memory: &mut Memory) -> Result<(), RunError> {
        for vault in self.parties.vaults() {
            let Some((sequence, introduced)) = memory.mandate(&vault) else { continue };
            if memory.received.get(&vault) == Some(sequence) {
                continue;
            }
            let (sequence, keys) = (*sequence, introduced.mandate.keys.clone());
            let own = self.context.keys().await;
            repository_keys::receive(&self.context.keeper, &self.owner, &own.identity, &keys).await?;
            memory.received.insert(vault, sequence);
        }
        Ok(())
    }
}

/// Gives the guards of these Pods leave for their very start.
pub(super) async fn permit(client: &Client, namespace: &str, pods: &[Pod]) -> Result<(), FenceError> {
    for pod in pods {
        let Some(started) = guard_started(pod) else { continue };
        if pod.annotations().get(PERMIT_ANNOTATION) != Some(&started) {
            act::fence::annotate(client, namespace, pod, PERMIT_ANNOTATION, &started).await?;
        }
    }
    Ok(())
}

/// When the guard of a Pod was started, if it waits.
fn guard_started(pod: &Pod) -> Option<String> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    let guard = statuses.iter().find(|status| status.name == guard::CONTAINER)?;
    Some(guard.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0.to_string())
}
