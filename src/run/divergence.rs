//! A diverged site: what only it holds is found out and shown, before a person may give it up.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::Api;

use super::error::RunError;
use super::memory::Memory;
use super::points::is_of;
use super::round::Round;
use crate::act;
use crate::api::RecoveryPoint;
use crate::api::epoch::PointRef;
use crate::api::failover_record::FailoverRecordSpec;
use crate::api::recovery_point::Difference;
use crate::api::recovery_point::RecoveryPointStatus;
use crate::mover::outcome::CompareDone;
use crate::plan::divergence;
use crate::plan::manifest::Manifest;
use crate::plan::task::Task;

impl Round {
    /// Has the mover compare what this site kept with what the others built on, once.
    pub async fn find_difference(
        &self,
        memory: &mut Memory,
        record: &FailoverRecordSpec,
    ) -> Result<(), RunError> {
        let Some((kept, base)) = compared(memory, record) else { return Ok(()) };
        let listed = self.seen.points.iter().any(|object| is_of(object, &kept.point));
        if !listed || self.difference(&kept.point).is_some() {
            return Ok(());
        }
        let task = Task::Compare { kept: Box::new(kept.clone()), base: Box::new(base.clone()) };
        self.ensure_mover(memory, &task).await
    }

    /// Writes what the mover found beside the point that it is about.
    pub async fn differs(&self, kept: &PointRef, base: &PointRef, done: CompareDone) -> Result<(), RunError> {
        let Some(object) = self.seen.points.iter().find(|object| is_of(object, kept)) else { return Ok(()) };
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let time = |second: Option<i64>| second.and_then(|s| Timestamp::from_second(s).ok()).map(Time);
        let difference = Difference {
            base: base.to_string(),
            added: number(done.added),
            changed: number(done.changed),
            removed: number(done.removed),
            bytes: number(done.bytes),
            first_written: time(done.oldest),
            last_written: time(done.newest),
            examples: done.examples,
        };
        let note = format!("recovery point {kept} is kept; {}", divergence::in_words(&difference));
        let old = object.status.clone().unwrap_or_default();
        let status = RecoveryPointStatus { difference: Some(difference), ..old };
        let api: Api<RecoveryPoint> = Api::namespaced(self.context.client.clone(), &self.owner.namespace);
        act::report::status(&api, object, object.status.as_ref(), &status).await?;
        self.event(true, "Diverged", "Compare", &note).await;
        Ok(())
    }

    /// What only this site holds, in a sentence; none where it has not diverged.
    #[must_use]
    pub fn divergence(&self, memory: &Memory, record: &FailoverRecordSpec) -> Option<String> {
        let kept = divergence::kept(record)?;
        if let Some(difference) = self.difference(kept) {
            return Some(divergence::in_words(difference));
        }
        if compared(memory, record).is_some() {
            return Some("what differs is being found out".to_owned());
        }
        let (_, kept) = memory.committed(kept)?;
        Some(divergence::counts(&kept.manifest, ruling(memory, record)))
    }

    fn difference(&self, kept: &PointRef) -> Option<&Difference> {
        let object = self.seen.points.iter().find(|object| is_of(object, kept))?;
        object.status.as_ref()?.difference.as_ref()
    }
}

/// The newest point of the epoch that rules.
fn ruling<'a>(memory: &'a Memory, record: &FailoverRecordSpec) -> Option<&'a Manifest> {
    memory.newest(|epoch| *epoch == record.epoch)
}

/// The two points whose files can be told apart.
fn compared<'a>(memory: &'a Memory, record: &FailoverRecordSpec) -> Option<(&'a Manifest, &'a Manifest)> {
    let kept = divergence::kept(record)?;
    let base = divergence::base(kept, ruling(memory, record)?)?;
    let ((vault, kept), (other, base)) = (memory.committed(kept)?, memory.committed(&base)?);
    (vault == other).then_some((&kept.manifest, &base.manifest))
}
