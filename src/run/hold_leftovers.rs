//! Writers that hold still and that no reconcile looks after: their `DataEmbassy` was deleted or is stopped by something else.

use kube::{Api, ResourceExt, api::ListParams};

use super::context::Context;
use super::error::RunError;
use super::hold::{Hold, Look};
use crate::api::DataEmbassy;
use crate::api::FROZEN_LABEL;
use crate::api::FailoverRecord;
use crate::plan::desired::Owner;
use crate::plan::hooks::{Copying, is_over};

/// Lets them go on.
pub async fn let_go(context: &Context) -> Result<(), RunError> {
    let marked = ListParams::default().labels(FROZEN_LABEL);
    let records = Api::<FailoverRecord>::all(context.client.clone()).list(&marked).await;
    let records = records.map_err(|error| RunError::Cluster("read FailoverRecords", error))?;
    for record in &records.items {
        let owner = Owner { namespace: record.namespace().unwrap_or_default(), name: record.name_any() };
        let embassies: Api<DataEmbassy> = Api::namespaced(context.client.clone(), &owner.namespace);
        let embassy = embassies.get_opt(&owner.name).await;
        let embassy = embassy.map_err(|error| RunError::Cluster("read the DataEmbassy", error))?;
        let gone = embassy.is_none_or(|embassy| embassy.metadata.deletion_timestamp.is_some());
        let over = record
            .spec
            .freeze
            .as_ref()
            .is_some_and(|freeze| is_over(freeze, k8s_openapi::jiff::Timestamp::now()));
        if gone || over {
            one(context, &owner).await?;
        }
    }
    Ok(())
}

/// One of them, read again: a reconcile may have been at it.
async fn one(context: &Context, owner: &Owner) -> Result<(), RunError> {
    let memory = context.memory(owner).await;
    let mut memory = memory.lock().await;
    let records: Api<FailoverRecord> = Api::namespaced(context.client.clone(), &owner.namespace);
    let record = records.get_opt(&owner.name).await;
    let Some(record) = record.map_err(|error| RunError::Cluster("read the FailoverRecord", error))? else {
        return Ok(());
    };
    let look = Look { copy: Copying::Missing, may_copy: false, same_writers: false };
    Hold { context, owner, record }.step(&mut memory, &look).await.map(drop)
}
