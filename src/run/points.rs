//! Recovery points as objects that people see: made, marked as verified, thinned out. The copies stay in the vault.

use std::collections::BTreeMap;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};

use super::error::RunError;
use super::memory::Memory;
use super::round::Round;
use crate::act;
use crate::api::RecoveryPoint;
use crate::api::epoch::PointRef;
use crate::api::recovery_point::Consistency;
use crate::api::recovery_point::RecoveryPointStatus;
use crate::api::recovery_point::VerificationDepth;
use crate::api::replication::Depth;
use crate::plan::schedule;

impl Round {
    /// Marks the point's object as read back and checked.
    pub async fn verified(&self, point: &PointRef) -> Result<(), RunError> {
        let Some(object) = self.seen.points.iter().find(|object| is_of(object, point)) else { return Ok(()) };
        let known = |status: &RecoveryPointStatus| status.verified_at.is_some() || status.damage.is_some();
        if object.status.as_ref().is_some_and(known) {
            return Ok(());
        }
        let api: Api<RecoveryPoint> = Api::namespaced(self.context.client.clone(), &self.owner.namespace);
        let status = RecoveryPointStatus {
            verified_at: Some(Time(Timestamp::now())),
            verified_by: Some(VerificationDepth::Restored),
            damage: None,
            ..object.status.clone().unwrap_or_default()
        };
        act::report::status(&api, object, object.status.as_ref(), &status).await?;
        Ok(())
    }

    /// Writes on each point's object what the last verification of its vault found.
    pub async fn mark_points(&self, memory: &Memory) -> Result<(), RunError> {
        let api: Api<RecoveryPoint> = Api::namespaced(self.context.client.clone(), &self.owner.namespace);
        for object in &self.seen.points {
            let Ok(epoch) = object.spec.epoch.parse() else { continue };
            let point = PointRef { epoch, sequence: object.spec.sequence };
            let Some(checked) = self.checked_for(memory, &point) else { continue };
            let old = object.status.clone().unwrap_or_default();
            let damage = checked.damage_of(&point);
            let newer = old.verified_at.as_ref().is_none_or(|at| at.0 < checked.time.0);
            let status = if damage.is_some() {
                RecoveryPointStatus { verified_at: None, verified_by: None, damage, ..old.clone() }
            } else if checked.covers(&point) && newer {
                let verified_by = Some(match checked.depth {
                    Depth::Quick => VerificationDepth::Quick,
                    Depth::Deep => VerificationDepth::Deep,
                });
                RecoveryPointStatus {
                    verified_at: Some(checked.time.clone()),
                    verified_by,
                    damage,
                    ..old.clone()
                }
            } else {
                continue;
            };
            act::report::status(&api, object, object.status.as_ref(), &status).await?;
        }
        Ok(())
    }

    /// Makes the objects of recovery points that are kept, and removes those of the others; copies stay in the vault.
    pub async fn keep_points(&self, memory: &Memory) -> Result<(), RunError> {
        let mut cuts: BTreeMap<PointRef, (Timestamp, Consistency)> = memory
            .points()
            .map(|known| &known.manifest)
            .map(|manifest| (manifest.point.clone(), (manifest.cut_time.0, manifest.consistency)))
            .collect();
        // Older ones that this process never read are known by their objects.
        cuts.extend(self.seen.points.iter().filter_map(|object| {
            let epoch = object.spec.epoch.parse().ok()?;
            let point = PointRef { epoch, sequence: object.spec.sequence };
            Some((point, (object.spec.cut_time.0, object.spec.consistency)))
        }));
        let newest_first: Vec<(PointRef, (Timestamp, Consistency))> = cuts.into_iter().rev().collect();
        let times: Vec<Timestamp> = newest_first.iter().map(|(_, (cut, _))| *cut).collect();
        let kept = schedule::kept(&times, &self.embassy.spec.replication.retention);
        for (index, (point, (_, consistency))) in newest_first.iter().enumerate() {
            let object = self.seen.points.iter().find(|object| is_of(object, point));
            // Few, and each is what a site held when it stopped: a person may be asked about it much later.
            let is_final = *consistency == Consistency::Final;
            match (is_final || kept.contains(&index), object) {
                (true, None) => self.make_point(memory, point).await?,
                (false, Some(object)) => self.remove_point(object).await?,
                _ => {}
            }
        }
        Ok(())
    }

    async fn make_point(&self, memory: &Memory, point: &PointRef) -> Result<(), RunError> {
        let Some((_, committed)) = memory.committed(point) else { return Ok(()) };
        let api: Api<RecoveryPoint> = Api::namespaced(self.context.client.clone(), &self.owner.namespace);
        match api.create(&PostParams::default(), &committed.manifest.object()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(RunError::Cluster("make a RecoveryPoint", error)),
        }
    }

    async fn remove_point(&self, object: &RecoveryPoint) -> Result<(), RunError> {
        let api: Api<RecoveryPoint> = Api::namespaced(self.context.client.clone(), &self.owner.namespace);
        match api.delete(&object.name_any(), &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(RunError::Cluster("remove a RecoveryPoint", error)),
        }
    }
}

/// Whether the object is the one of that point.
#[must_use]
pub fn is_of(object: &RecoveryPoint, point: &PointRef) -> bool {
    object.spec.sequence == point.sequence && object.spec.epoch == point.epoch.to_string()
}
