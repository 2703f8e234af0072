//! What the cluster of this site holds for one `DataEmbassy`.

use std::{collections::BTreeSet, fmt::Debug};

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::{CronJob, Job},
        core::v1::{ContainerStatus, Namespace, Node, PersistentVolumeClaim, Pod},
        discovery::v1::EndpointSlice,
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    core::{Selector, SelectorExt},
};
use serde::de::DeserializeOwned;

use crate::api::DataEmbassy;
use crate::api::Drill;
use crate::api::FENCED_LABEL;
use crate::api::Failover;
use crate::api::FailoverRecord;
use crate::api::MOVER_LABEL;
use crate::api::RecoveryPoint;
use crate::api::volume_snapshot::{VolumeGroupSnapshot, VolumeSnapshot};
use crate::plan::desired::Owner;
use crate::plan::desired::fence::NodeSeen;
use crate::plan::desired::fence::Workload;
use crate::plan::desired::fence::WorkloadKind;
use crate::plan::desired::network::Destination;
use crate::plan::snapshots::is_for_a_copy;
use crate::plan::task::TASK_ANNOTATION;
use crate::plan::task::Task;
use crate::plan::task::VERIFICATION;

/// Why the cluster could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {what}: {source}")]
pub struct ReadError {
    what: &'static str,
    source: kube::Error,
}

/// What was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The durable memory, if there is one yet.
    pub record: Option<FailoverRecord>,
    /// Orders for this embassy.
    pub orders: Vec<Failover>,
    /// Drills of this embassy.
    pub drills: Vec<Drill>,
    /// Those that name another embassy.
    pub strays: Strays,
    /// The protected namespace.
    pub namespace: Option<Namespace>,
    /// Boot ids of the nodes.
    pub boot_ids: BTreeSet<String>,
    /// The nodes.
    pub nodes: Vec<NodeSeen>,
    /// Protected claims.
    pub claims: Vec<PersistentVolumeClaim>,
    /// Pods of the namespace, movers excepted, that run or may still run.
    pub pods: Vec<Pod>,
    /// The operator's mover Pods.
    pub movers: Vec<Pod>,
    /// Workloads that no other controller owns.
    pub workloads: Vec<Workload>,
    /// The operator's mover Jobs, verifications excepted.
    pub jobs: Vec<Job>,
    /// Snapshots that were taken to be copied; looked for only where a copy waits for them.
    pub snapshots: Vec<VolumeSnapshot>,
    /// Likewise, of several volumes.
    pub groups: Vec<VolumeGroupSnapshot>,
    /// Verifications of the vault, which use no volume and stand in nobody's way.
    pub verifications: Vec<Job>,
    /// The operator's policies.
    pub policies: Vec<NetworkPolicy>,
    /// Recovery points as objects.
    pub points: Vec<RecoveryPoint>,
}

/// Orders and drills in the namespace that name another embassy.
#[derive(Debug, Clone, Default)]
pub struct Strays {
    /// The orders.
    pub orders: Vec<Failover>,
    /// The drills.
    pub drills: Vec<Drill>,
}

/// Reads all of it.
pub async fn see(client: &Client, owner: &Owner, embassy: &DataEmbassy) -> Result<Seen, ReadError> {
    let namespace = owner.namespace.as_str();
    let all = ListParams::default();
    let ours = ListParams::default().labels(&format!("{}={}", crate::api::EMBASSY_LABEL, owner.name));
    let record: Api<FailoverRecord> = Api::namespaced(client.clone(), namespace);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    // Before the Pods: a namespace that was seen closed was closed when they were listed.
    let home = find(
        namespaces.list(&all.clone().fields(&format!("metadata.name={namespace}"))).await,
        "the namespace",
    )?;
    let (record, nodes, claims, pods) = futures::try_join!(
        async { record.get_opt(&owner.name).await.map_err(failed("the FailoverRecord")) },
        async { find(Api::<Node>::all(client.clone()).list(&all).await, "nodes") },
        list::<PersistentVolumeClaim>(client, namespace, &all, "PersistentVolumeClaims"),
        list::<Pod>(client, namespace, &all, "Pods"),
    )?;
    let (orders, drills, jobs, policies, points, workloads) = futures::try_join!(
        list::<Failover>(client, namespace, &all, "Failovers"),
        list::<Drill>(client, namespace, &all, "Drills"),
        list::<Job>(client, namespace, &ours, "mover Jobs"),
        list::<NetworkPolicy>(client, namespace, &ours, "NetworkPolicies"),
        list::<RecoveryPoint>(client, namespace, &ours, "RecoveryPoints"),
        workloads(client, namespace),
    )?;
    let selector = &embassy.spec.protect.volumes.selector;
    let (verifications, jobs): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(verifies);
    let (movers, pods): (Vec<Pod>, Vec<Pod>) = pods.into_iter().partition(is_mover);
    let (orders, stray_orders) = orders.into_iter().partition(|order| order.spec.embassy == owner.name);
    let (drills, stray_drills) = drills.into_iter().partition(|drill| drill.spec.embassy == owner.name);
    let (snapshots, groups) = if jobs.iter().any(reads_snapshots) {
        futures::try_join!(snapshots(client, namespace), snapshots(client, namespace))?
    } else {
        (vec![], vec![])
    };
    Ok(Seen {
        record,
        orders,
        drills,
        strays: Strays { orders: stray_orders, drills: stray_drills },
        namespace: home.into_iter().next(),
        boot_ids: boot_ids(&nodes),
        nodes: nodes.iter().map(node_seen).collect(),
        claims: claims.into_iter().filter(|claim| selects(selector, claim)).collect(),
        pods: pods.into_iter().filter(may_run).collect(),
        movers,
        workloads,
        jobs,
        snapshots,
        groups,
        verifications,
        policies,
        points,
    })
}

/// None where the cluster lost them, or shows them no more: nothing but the copy that waits for them may depend on that.
async fn snapshots<K>(client: &Client, namespace: &str) -> Result<Vec<K>, ReadError>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + DeserializeOwned
        + Clone
        + Debug,
{
    match Api::<K>::namespaced(client.clone(), namespace).list(&ListParams::default()).await {
        Err(kube::Error::Api(_)) => Ok(vec![]),
        listed => find(listed, "snapshots of volumes"),
    }
}

pub(super) async fn list<K>(
    client: &Client,
    namespace: &str,
    parameters: &ListParams,
    what: &'static str,
) -> Result<Vec<K>, ReadError>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + DeserializeOwned
        + Clone
        + Debug,
{
    find(Api::<K>::namespaced(client.clone(), namespace).list(parameters).await, what)
}

pub(super) fn find<K: Clone>(
    listed: Result<kube::core::ObjectList<K>, kube::Error>,
    what: &'static str,
) -> Result<Vec<K>, ReadError> {
    listed.map(|list| list.items).map_err(failed(what))
}

fn failed(what: &'static str) -> impl FnOnce(kube::Error) -> ReadError {
    move |source| ReadError { what, source }
}

fn boot_ids(nodes: &[Node]) -> BTreeSet<String> {
    nodes
        .iter()
        .filter_map(|node| node.status.as_ref()?.node_info.as_ref())
        .map(|info| info.boot_id.clone())
        .filter(|id| !id.is_empty())
        .collect()
}

/// Whether a claim is protected: the user's selector, or every claim of the register.
#[must_use]
pub fn selects(selector: &LabelSelector, claim: &PersistentVolumeClaim) -> bool {
    if is_for_a_copy(claim) {
        return false;
    }
    let Ok(selector) = Selector::try_from(selector.clone()) else { return true };
    selector.matches(claim.labels())
}

/// What the fence needs to know of a node. One that is not ready may be silent, or unable to stop a container.
fn node_seen(node: &Node) -> NodeSeen {
    let reported = node.status.as_ref();
    let ready = reported.and_then(|status| status.conditions.iter().flatten().find(|c| c.type_ == "Ready"));
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    NodeSeen {
        name: node.name_any(),
        boot_id: reported
            .and_then(|status| status.node_info.as_ref())
            .map(|info| info.boot_id.clone())
            .unwrap_or_default(),
        reports: ready.is_some_and(|ready| ready.status == "True"),
        out_of_service: taints
            .into_iter()
            .flatten()
            .any(|taint| taint.key == "node.kubernetes.io/out-of-service"),
    }
}

/// Whether a Pod is one that the fence lets through: the label alone is no passport, anybody can write it.
pub(super) fn is_mover(pod: &Pod) -> bool {
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    let embassy = pod.labels().get(MOVER_LABEL);
    embassy.zip(account).is_some_and(|(name, account)| account == format!("{name}-mover"))
}

fn reads_snapshots(job: &Job) -> bool {
    Task::of(job).is_some_and(|task| task.from_snapshots())
}

fn verifies(job: &Job) -> bool {
    job.annotations().get(TASK_ANNOTATION).is_some_and(|task| task == VERIFICATION)
}

/// A Pod counts until its containers are known to have ended. Its phase alone does not say so: the control plane ends
/// Pods of a silent node without having asked it, and an ephemeral container has no part in the phase.
pub(super) fn may_run(pod: &Pod) -> bool {
    let Some(status) = pod.status.as_ref() else { return true };
    let runs = |containers: &Option<Vec<ContainerStatus>>| {
        let mut all = containers.iter().flatten();
        all.any(|container| container.state.as_ref().is_some_and(|now| now.running.is_some()))
    };
    !matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
        || runs(&status.container_statuses)
        || runs(&status.init_container_statuses)
        || runs(&status.ephemeral_container_statuses)
}

/// Whether a Pod mounts one of the claims.
#[must_use]
pub fn mounts(pod: &Pod, claims: &[PersistentVolumeClaim]) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes.into_iter().flatten().any(|volume| {
        let claim = volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.as_str());
        // An ephemeral volume's claim bears the Pod's and the volume's name.
        let ephemeral = volume.ephemeral.as_ref().map(|_| format!("{}-{}", pod.name_any(), volume.name));
        claims.iter().any(|protected| {
            let name = protected.name_any();
            claim == Some(name.as_str()) || ephemeral.as_deref() == Some(name.as_str())
        })
    })
}

async fn workloads(client: &Client, namespace: &str) -> Result<Vec<Workload>, ReadError> {
    let all = ListParams::default();
    let (deployments, sets, replica_sets, daemon_sets, cron_jobs, jobs) = futures::try_join!(
        list::<Deployment>(client, namespace, &all, "Deployments"),
        list::<StatefulSet>(client, namespace, &all, "StatefulSets"),
        list::<ReplicaSet>(client, namespace, &all, "ReplicaSets"),
        list::<DaemonSet>(client, namespace, &all, "DaemonSets"),
        list::<CronJob>(client, namespace, &all, "CronJobs"),
        list::<Job>(client, namespace, &all, "Jobs"),
    )?;
    let scaled = |replicas: Option<i32>| replicas.unwrap_or(1);
    let mut found = vec![];
    for object in deployments {
        let replicas = scaled(object.spec.and_then(|spec| spec.replicas));
        found.extend(workload(WorkloadKind::Deployment, &object.metadata, replicas));
    }
    for object in sets {
        let replicas = scaled(object.spec.and_then(|spec| spec.replicas));
        found.extend(workload(WorkloadKind::StatefulSet, &object.metadata, replicas));
    }
    for object in replica_sets {
        let replicas = scaled(object.spec.and_then(|spec| spec.replicas));
        found.extend(workload(WorkloadKind::ReplicaSet, &object.metadata, replicas));
    }
    for object in cron_jobs {
        let suspended = object.spec.is_some_and(|spec| spec.suspend == Some(true));
        found.extend(workload(WorkloadKind::CronJob, &object.metadata, i32::from(!suspended)));
    }
    for object in daemon_sets {
        let selector = object.spec.and_then(|spec| spec.template.spec?.node_selector);
        let away = selector.is_some_and(|labels| labels.contains_key(FENCED_LABEL));
        found.extend(workload(WorkloadKind::DaemonSet, &object.metadata, i32::from(!away)));
    }
    for mut object in jobs.into_iter().filter(is_unfinished) {
        let suspended = object.spec.is_some_and(|spec| spec.suspend == Some(true));
        // A Job of a CronJob goes on by itself when the CronJob is suspended.
        object.metadata.owner_references = None;
        found.extend(workload(WorkloadKind::Job, &object.metadata, i32::from(!suspended)));
    }
    Ok(found)
}

/// Whether a Job of the user may still start Pods.
fn is_unfinished(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    let finished = conditions
        .into_iter()
        .flatten()
        .any(|c| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed"));
    !finished && !job.labels().contains_key(MOVER_LABEL)
}

fn workload(kind: WorkloadKind, metadata: &ObjectMeta, replicas: i32) -> Option<Workload> {
    let owned = metadata
        .owner_references
        .as_ref()
        .is_some_and(|owners| owners.iter().any(|o| o.controller == Some(true)));
    let made = Workload { kind, name: metadata.name.clone()?, replicas, former: None };
    let former = metadata.annotations.as_ref().and_then(|all| all.get(made.annotation())?.parse().ok());
    (!owned).then_some(Workload { former, ..made })
}

/// Addresses of the API server, for the mover's network policy.
pub async fn api_servers(client: &Client) -> Result<Vec<Destination>, ReadError> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let slice = slices.get("kubernetes").await.map_err(failed("the API server's address"))?;
    let ports: Vec<u16> =
        slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok()).collect();
    let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    Ok(addresses
        .filter_map(|address| address.parse().ok())
        .flat_map(|address| ports.iter().map(move |port| Destination::Address(address, *port)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(label: Option<&str>, account: Option<&str>) -> Pod {
        let labels = label.map(|name| serde_json::json!({MOVER_LABEL: name}));
        let spec = serde_json::json!({"containers": [], "serviceAccountName": account});
        serde_json::from_value(serde_json::json!({"metadata": {"labels": labels}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_pod_that_pretends_to_be_a_mover_is_fenced_like_any_other() {
        assert!(is_mover(&pod(Some("land"), Some("land-mover"))));
        assert!(!is_mover(&pod(Some("land"), Some("default"))));
        assert!(!is_mover(&pod(Some("land"), None)));
        assert!(!is_mover(&pod(None, Some("land-mover"))));
    }
}
