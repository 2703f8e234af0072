//! The register that a verb is about, as this cluster knows it.

use std::{fmt::Debug, time::Duration};

use clap::Args;
use data_embassy::api::{
    DataEmbassy, FENCE_ANNOTATION, FailoverRecord, RecoveryPoint,
    data_embassy::DataEmbassyStatus,
    epoch::{Epoch, PointRef},
    failover_record::FailoverRecordSpec,
};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource,
    api::{ListParams, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Failure;

/// Which register.
#[derive(Args)]
pub struct Name {
    /// Name of the `DataEmbassy`.
    pub name: String,
    /// Its namespace.
    #[arg(long, short)]
    pub namespace: String,
}

/// What this cluster holds of it.
pub struct Register {
    client: Client,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What people ask for, and what they are told.
    pub embassy: DataEmbassy,
    /// What this site knows for certain.
    pub record: FailoverRecordSpec,
}

impl Register {
    /// Reads it.
    pub async fn read(client: &Client, which: &Name) -> Result<Self, Failure> {
        let (namespace, name) = (which.namespace.clone(), which.name.clone());
        let embassies: Api<DataEmbassy> = Api::namespaced(client.clone(), &namespace);
        let Some(embassy) = embassies.get_opt(&name).await? else {
            return Err(format!(
                "there is no DataEmbassy {name} in namespace {namespace} of this cluster; 'kubectl get dataembassy -A' \
                 shows those that are, --context chooses another cluster"
            )
            .into());
        };
        let records: Api<FailoverRecord> = Api::namespaced(client.clone(), &namespace);
        let Some(record) = records.get_opt(&name).await? else {
            return Err(format!(
                "this site has no FailoverRecord for {name} yet, so it can take no order: see kubectl embassy status \
                 {name} -n {namespace}"
            )
            .into());
        };
        Ok(Self { client: client.clone(), namespace, name, embassy, record: record.spec })
    }

    /// Reads it again.
    pub async fn again(&self) -> Result<Self, Failure> {
        let which = Name { name: self.name.clone(), namespace: self.namespace.clone() };
        Self::read(&self.client, &which).await
    }

    /// Objects beside it.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// What people are told of it.
    pub fn status(&self) -> DataEmbassyStatus {
        self.embassy.status.clone().unwrap_or_default()
    }

    /// The highest number of an epoch that this site knows of itself, or another site told it.
    pub fn highest_number(&self) -> i64 {
        let reported = self.status().sites.into_iter().filter_map(|site| site.epoch?.parse::<Epoch>().ok());
        reported.map(|epoch| epoch.number).fold(self.record.top().number, i64::max)
    }

    /// Status and message of a condition.
    pub fn condition(&self, name: &str) -> Option<(String, String)> {
        let found = self.status().conditions.into_iter().find(|condition| condition.type_ == name)?;
        Some((found.status, found.message))
    }

    /// Its recovery points that this cluster lists, oldest first.
    pub async fn points(&self) -> Result<Vec<(PointRef, RecoveryPoint)>, Failure> {
        let listed = self.api::<RecoveryPoint>().list(&ListParams::default()).await?.items;
        let mut points: Vec<(PointRef, RecoveryPoint)> = listed
            .into_iter()
            .filter(|point| point.spec.embassy == self.name)
            .filter_map(|point| {
                let epoch: Epoch = point.spec.epoch.parse().ok()?;
                Some((PointRef { epoch, sequence: point.spec.sequence }, point))
            })
            .collect();
        points.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(points)
    }

    /// Sets the annotation by which a person fences this site, or asks to lift the fence.
    pub async fn annotate_fence(&self, value: &str) -> Result<(), Failure> {
        self.patch(&json!({"metadata": {"annotations": {FENCE_ANNOTATION: value}}})).await
    }

    /// Merges a patch into the `DataEmbassy`.
    pub async fn patch(&self, patch: &serde_json::Value) -> Result<(), Failure> {
        let api: Api<DataEmbassy> = self.api();
        patiently(async || api.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await)
            .await?;
        Ok(())
    }

    /// One line: who this is, here and now.
    pub fn headline(&self) {
        let record = &self.record;
        println!(
            "{}/{} here in {}: {}{} in epoch {}",
            self.namespace,
            self.name,
            record.site,
            record.role.as_str(),
            if record.held() { ", held by a fence" } else { "" },
            record.epoch
        );
    }
}

/// Tries again while an API server that has just started does not know its own admission policies yet.
pub async fn patiently<T>(attempt: impl AsyncFn() -> Result<T, kube::Error>) -> Result<T, kube::Error> {
    let mut said = false;
    for _ in 0..60 {
        match attempt().await {
            Err(kube::Error::Api(status)) if status.message.contains("failed to configure policy") => {
                if !said {
                    println!(
                        "the API server has just started and does not know its policies yet; trying again"
                    );
                }
                said = true;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            result => return result,
        }
    }
    attempt().await
}
