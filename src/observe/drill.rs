//! What the namespace of a drill holds.

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    core::v1::{Namespace, Pod},
};
use kube::{Api, Client, api::ListParams};

use super::cluster::{ReadError, find, is_mover, list, may_run};
use crate::api::EMBASSY_LABEL;
use crate::plan::desired::Owner;
use crate::plan::drill::readiness::Workload;

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Stage {
    /// The namespace, if it is there.
    pub namespace: Option<Namespace>,
    /// Mover Jobs.
    pub jobs: Vec<Job>,
    /// Their Pods.
    pub movers: Vec<Pod>,
    /// What was captured and runs there.
    pub workload: Workload,
}

/// Reads all of it. `owner` names the namespace of the drill, and the embassy.
pub async fn see(client: &Client, owner: &Owner) -> Result<Stage, ReadError> {
    let all = ListParams::default();
    let namespace = owner.namespace.as_str();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let named = all.clone().fields(&format!("metadata.name={namespace}"));
    let found = find(namespaces.list(&named).await, "the namespace of the drill")?.into_iter().next();
    if found.is_none() {
        return Ok(Stage::default());
    }
    let ours = ListParams::default().labels(&format!("{EMBASSY_LABEL}={}", owner.name));
    let (jobs, pods, deployments, stateful_sets, replica_sets, daemon_sets) = futures::try_join!(
        list::<Job>(client, namespace, &ours, "mover Jobs"),
        list::<Pod>(client, namespace, &all, "Pods"),
        list::<Deployment>(client, namespace, &all, "Deployments"),
        list::<StatefulSet>(client, namespace, &all, "StatefulSets"),
        list::<ReplicaSet>(client, namespace, &all, "ReplicaSets"),
        list::<DaemonSet>(client, namespace, &all, "DaemonSets"),
    )?;
    let (movers, pods): (Vec<Pod>, Vec<Pod>) = pods.into_iter().partition(is_mover);
    let pods = pods.into_iter().filter(may_run).collect();
    let workload = Workload { deployments, stateful_sets, replica_sets, daemon_sets, pods };
    Ok(Stage { namespace: found, jobs, movers, workload })
}
