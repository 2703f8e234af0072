//! Writes of the `FailoverRecord`: each is one compare-and-swap, and a conflict means reading again.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{Api, Client, ResourceExt, api::PostParams};

use crate::api::FROZEN_LABEL;
use crate::api::FailoverRecord;
use crate::api::failover_record::FailoverRecordSpec;
use crate::api::failover_record::HISTORY;
use crate::api::failover_record::Transition;
use crate::plan::desired::Owner;

/// How a write ended.
#[derive(Debug)]
pub enum Written {
    /// It is durable.
    Done(Box<FailoverRecord>),
    /// Somebody else wrote first: nothing was done, read again.
    ReadAgain,
}

/// Why a record could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write FailoverRecord {name}: {source}; nothing was done")]
pub struct RecordError {
    name: String,
    source: kube::Error,
}

/// Makes the first record.
pub async fn create(
    client: &Client,
    owner: &Owner,
    spec: FailoverRecordSpec,
    why: &str,
) -> Result<Written, RecordError> {
    let mut record = FailoverRecord::new(&owner.name, noted(spec, why));
    record.metadata.namespace = Some(owner.namespace.clone());
    record.metadata.labels = Some(owner.labels());
    let api: Api<FailoverRecord> = Api::namespaced(client.clone(), &owner.namespace);
    finished(owner, api.create(&PostParams::default(), &record).await)
}

/// Replaces `old`, with its resourceVersion; `why` is given for a change of the protocol's state, which is a new revision.
pub async fn replace(
    client: &Client,
    owner: &Owner,
    old: &FailoverRecord,
    mut spec: FailoverRecordSpec,
    why: Option<&str>,
) -> Result<Written, RecordError> {
    if let Some(why) = why {
        spec.revision = spec.revision.max(old.spec.revision.saturating_add(1));
        spec = noted(spec, why);
    }
    let mut record = FailoverRecord { metadata: old.metadata.clone(), spec };
    // By it those are found that nobody else looks after.
    if record.spec.freeze.is_some() {
        record.labels_mut().insert(FROZEN_LABEL.to_owned(), "true".to_owned());
    } else {
        record.labels_mut().remove(FROZEN_LABEL);
    }
    let api: Api<FailoverRecord> = Api::namespaced(client.clone(), &owner.namespace);
    finished(owner, api.replace(&owner.name, &PostParams::default(), &record).await)
}

fn noted(mut spec: FailoverRecordSpec, why: &str) -> FailoverRecordSpec {
    spec.history.push(Transition {
        time: Time(Timestamp::now()),
        revision: spec.revision,
        role: spec.role,
        epoch: spec.epoch.clone(),
        why: why.to_owned(),
    });
    let surplus = spec.history.len().saturating_sub(HISTORY);
    spec.history.drain(..surplus);
    spec
}

fn finished(owner: &Owner, result: Result<FailoverRecord, kube::Error>) -> Result<Written, RecordError> {
    match result {
        Ok(record) => Ok(Written::Done(Box::new(record))),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
            Ok(Written::ReadAgain)
        }
        Err(source) => Err(RecordError { name: format!("{}/{}", owner.namespace, owner.name), source }),
    }
}
