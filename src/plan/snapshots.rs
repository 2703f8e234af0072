//! Copies of snapshots: which snapshots and volumes a copy needs, how far they are, and what may be said of such a copy. Everything that is
//! made for a copy belongs to its Job, and so goes with it, whoever removes it.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{
            PersistentVolumeClaim, PersistentVolumeClaimSpec, TypedLocalObjectReference,
            VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, OwnerReference},
    },
    jiff::Timestamp,
};
use kube::{Resource, ResourceExt};
use kube_quantity::ParsedQuantity;

use crate::api::SNAPSHOT_LABEL;
use crate::api::recovery_point::Consistency;
use crate::api::volume_snapshot::{
    VolumeSnapshot, VolumeSnapshotSource, VolumeSnapshotSpec, VolumeSnapshotStatus,
};

/// So long an error may be one that the snapshot controller gets over by itself, as it does over conflicting writes.
const GRACE: Duration = Duration::from_secs(30);

/// How far the snapshots of a copy are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Some are not taken yet: writers must go on holding still.
    Taking,
    /// All are taken, and what is written now changes none of them; no volume can be made of some yet.
    Taken,
    /// Volumes can be made of all of them.
    Ready,
    /// They cannot be taken, and why.
    Failed(String),
}

/// Name of the snapshot of a claim, and of the volume made of it, by the claim's place among those of its copy.
#[must_use]
pub fn name(job: &str, place: usize) -> String {
    format!("{job}-{place}")
}

/// What a copy without hooks may be called.
#[must_use]
pub fn consistency(from_snapshots: bool, claims: usize) -> Consistency {
    match (from_snapshots, claims) {
        (false, _) => Consistency::Fuzzy,
        (true, 0 | 1) => Consistency::CrashConsistent,
        (true, _) => Consistency::PerVolume,
    }
}

/// The snapshots for a Job that is to copy these claims.
#[must_use]
pub fn snapshots(job: &Job, claims: &[String], class: Option<&str>) -> Vec<VolumeSnapshot> {
    let of = |(place, claim): (usize, &String)| VolumeSnapshot {
        metadata: metadata(job, place),
        spec: VolumeSnapshotSpec {
            source: VolumeSnapshotSource { persistent_volume_claim_name: Some(claim.clone()) },
            volume_snapshot_class_name: class.map(str::to_owned),
        },
        status: None,
    };
    claims.iter().enumerate().map(of).collect()
}

/// The volumes of those snapshots, like the claims that were snapshotted. A claim that is gone has none.
#[must_use]
pub fn volumes(
    job: &Job,
    claims: &[String],
    protected: &[PersistentVolumeClaim],
    snapshots: &[VolumeSnapshot],
) -> Vec<PersistentVolumeClaim> {
    let places = claims.iter().enumerate();
    places
        .filter_map(|(place, claim)| {
            let source = protected.iter().find(|protected| protected.name_any() == *claim)?;
            Some(volume(job, place, source, of(snapshots, job, place)))
        })
        .collect()
}

fn volume(
    job: &Job,
    place: usize,
    source: &PersistentVolumeClaim,
    snapshot: Option<&VolumeSnapshot>,
) -> PersistentVolumeClaim {
    let like = source.spec.clone().unwrap_or_default();
    let asked = like.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("storage"));
    let least = snapshot.and_then(|snapshot| snapshot.status.as_ref()?.restore_size.as_ref());
    let size = larger(asked, least);
    PersistentVolumeClaim {
        metadata: metadata(job, place),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: like.storage_class_name,
            volume_mode: like.volume_mode,
            data_source: Some(TypedLocalObjectReference {
                api_group: Some(VolumeSnapshot::group(&()).into_owned()),
                kind: VolumeSnapshot::kind(&()).into_owned(),
                name: name(&job.name_any(), place),
            }),
            resources: Some(VolumeResourceRequirements {
                requests: size.map(|size| BTreeMap::from([("storage".to_owned(), size)])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn larger(asked: Option<&Quantity>, least: Option<&Quantity>) -> Option<Quantity> {
    let bytes = |quantity: &Quantity| ParsedQuantity::try_from(quantity).ok();
    let all = asked.into_iter().chain(least);
    all.reduce(|one, two| if bytes(two) > bytes(one) { two } else { one }).cloned()
}

fn metadata(job: &Job, place: usize) -> ObjectMeta {
    let mut labels = job.metadata.labels.clone().unwrap_or_default();
    labels.insert(SNAPSHOT_LABEL.to_owned(), job.name_any());
    ObjectMeta {
        name: Some(name(&job.name_any(), place)),
        namespace: job.namespace(),
        labels: Some(labels),
        owner_references: Some(vec![owner(job)]),
        ..ObjectMeta::default()
    }
}

/// What belongs to a mover's Job goes with it.
#[must_use]
pub fn owner(job: &Job) -> OwnerReference {
    OwnerReference {
        api_version: Job::api_version(&()).into_owned(),
        kind: Job::kind(&()).into_owned(),
        name: job.name_any(),
        uid: job.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// Whether a claim was made of a snapshot to be copied: it is no volume of the register. The label alone is no such claim, anybody can write it.
#[must_use]
pub fn is_for_a_copy(claim: &PersistentVolumeClaim) -> bool {
    let job = claim.labels().get(SNAPSHOT_LABEL);
    claim.owner_references().iter().any(|owner| {
        owner.kind == Job::kind(&()) && owner.controller == Some(true) && Some(&owner.name) == job
    })
}

/// How far the snapshots are that this Job waits for. `longest` is how long none may be taken.
#[must_use]
pub fn progress(
    job: &Job,
    claims: &[String],
    snapshots: &[VolumeSnapshot],
    longest: Duration,
    now: Timestamp,
) -> Progress {
    let status = |place: usize| of(snapshots, job, place).and_then(|snapshot| snapshot.status.as_ref());
    let all = |is: fn(&VolumeSnapshotStatus) -> bool| {
        (0..claims.len()).all(|place| status(place).is_some_and(is))
    };
    let taken = all(|status| status.creation_time.is_some());
    if taken && all(|status| status.ready_to_use == Some(true)) {
        return Progress::Ready;
    }
    let waited = job.creation_timestamp().and_then(|since| Duration::try_from(now.duration_since(since.0)).ok());
    let waited = waited.unwrap_or_default();
    let error = |(place, claim): (usize, &String)| {
        let message = status(place)?.error.as_ref()?.message.clone().unwrap_or_default();
        Some(format!("claim {claim}: {message}"))
    };
    match claims.iter().enumerate().find_map(error).filter(|_| waited > GRACE) {
        Some(why) => Progress::Failed(format!("no snapshot of {why}")),
        None if taken => Progress::Taken,
        None if waited > longest => Progress::Failed(format!(
            "after {} s not every volume has a snapshot, and its driver says nothing: see 'kubectl describe \
             volumesnapshots -l {SNAPSHOT_LABEL}={}' and the snapshot controller's log",
            waited.as_secs(),
            job.name_any()
        )),
        None => Progress::Taking,
    }
}

fn of<'a>(snapshots: &'a [VolumeSnapshot], job: &Job, place: usize) -> Option<&'a VolumeSnapshot> {
    let name = name(&job.name_any(), place);
    let ours = |snapshot: &&VolumeSnapshot| {
        snapshot.name_any() == name
            && snapshot.owner_references().iter().any(|owner| Some(&owner.uid) == job.uid().as_ref())
    };
    snapshots.iter().find(ours)
}

/// Why no snapshots can be taken of the class that is asked for; each class with its name, whether it is a default, and its deletion policy.
pub fn unfit_class<'a>(
    wanted: Option<&str>,
    classes: impl IntoIterator<Item = (&'a str, bool, &'a str)>,
) -> Option<String> {
    let found: Vec<(&str, bool, &str)> = classes
        .into_iter()
        .filter(|(name, is_default, _)| wanted.map_or(*is_default, |wanted| wanted == *name))
        .collect();
    if let Some((name, ..)) = found.iter().find(|(_, _, policy)| *policy != "Delete") {
        return Some(format!(
            "VolumeSnapshotClass {name} keeps what was deleted (deletionPolicy: Retain), so that the snapshot of every copy would stay: \
             name one with deletionPolicy: Delete in spec.replication.driver.builtin.snapshots.className"
        ));
    }
    match wanted {
        _ if !found.is_empty() => None,
        Some(wanted) => Some(format!(
            "there is no VolumeSnapshotClass {wanted} in this cluster: make it, or name another one in \
             spec.replication.driver.builtin.snapshots.className"
        )),
        None => Some(
            "no VolumeSnapshotClass of this cluster is a default one: name one in \
             spec.replication.driver.builtin.snapshots.className"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job() -> Job {
        serde_json::from_value(json!({"metadata": {"name": "land-backup-1-tallinn-7", "namespace": "registers",
            "uid": "job", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"dataembassy.io/embassy": "land"}}}))
        .unwrap()
    }

    fn claims() -> Vec<String> {
        vec!["archive".to_owned(), "data".to_owned()]
    }

    fn taken(statuses: [Value; 2]) -> Vec<VolumeSnapshot> {
        let mut made = snapshots(&job(), &claims(), Some("fast"));
        for (snapshot, status) in made.iter_mut().zip(statuses) {
            snapshot.status = serde_json::from_value(status).unwrap();
        }
        made
    }

    fn after(seconds: i64, statuses: [Value; 2]) -> Progress {
        let now = job().creation_timestamp().unwrap().0 + k8s_openapi::jiff::SignedDuration::from_secs(seconds);
        progress(&job(), &claims(), &taken(statuses), Duration::from_mins(5), now)
    }

    fn cut(ready: bool) -> Value {
        json!({"creationTime": "2026-01-01T00:00:01Z", "readyToUse": ready, "restoreSize": "3Gi"})
    }

    #[test]
    fn writers_hold_still_until_the_last_snapshot_is_taken() {
        assert_eq!(after(1, [Value::Null, Value::Null]), Progress::Taking);
        assert_eq!(after(1, [cut(true), json!({"readyToUse": false})]), Progress::Taking);
        assert_eq!(after(1, [cut(true), cut(false)]), Progress::Taken);
        assert_eq!(after(900, [cut(true), cut(false)]), Progress::Taken, "drivers may upload for hours");
        assert_eq!(after(1, [cut(true), cut(true)]), Progress::Ready);
    }

    #[test]
    fn an_error_counts_once_the_controller_had_time_to_get_over_it() {
        let wrong = json!({"error": {"message": "no space"}});
        assert_eq!(after(1, [cut(true), wrong.clone()]), Progress::Taking);
        assert_eq!(after(31, [cut(true), wrong]), Progress::Failed("no snapshot of claim data: no space".to_owned()));
        assert!(matches!(after(301, [cut(true), Value::Null]), Progress::Failed(why) if why.contains("describe")));
    }

    #[test]
    fn snapshots_of_another_job_of_that_name_count_for_nothing() {
        let mut others = taken([cut(true), cut(true)]);
        for snapshot in &mut others {
            snapshot.metadata.owner_references.as_mut().unwrap()[0].uid = "before".to_owned();
        }
        let now = job().creation_timestamp().unwrap().0;
        assert_eq!(progress(&job(), &claims(), &others, Duration::from_mins(5), now), Progress::Taking);
    }

    #[test]
    fn a_volume_is_like_its_claim_and_large_enough() {
        let protected: Vec<PersistentVolumeClaim> = [("archive", "5Gi"), ("data", "2Gi")]
            .map(|(name, size)| {
                serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"storageClassName": "fast",
                    "accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": size}}}}))
                .unwrap()
            })
            .into();
        let made = volumes(&job(), &claims(), &protected, &taken([cut(true), cut(true)]));
        let size = |claim: &PersistentVolumeClaim| {
            claim.spec.as_ref().unwrap().resources.as_ref().unwrap().requests.as_ref().unwrap()["storage"].0.clone()
        };
        assert_eq!((size(&made[0]), size(&made[1])), ("5Gi".to_owned(), "3Gi".to_owned()));
        let spec = made[1].spec.as_ref().unwrap();
        assert_eq!(spec.data_source.as_ref().unwrap().name, "land-backup-1-tallinn-7-1");
        assert_eq!(spec.storage_class_name.as_deref(), Some("fast"));
        assert!(made.iter().all(is_for_a_copy), "it must not be taken for a volume of the register");
    }

    #[test]
    fn a_claim_that_only_bears_the_label_is_protected() {
        let mut claim = PersistentVolumeClaim::default();
        claim.metadata.labels = Some(BTreeMap::from([(SNAPSHOT_LABEL.to_owned(), "job".to_owned())]));
        assert!(!is_for_a_copy(&claim));
    }

    #[test]
    fn a_class_must_be_there_and_delete_what_is_deleted() {
        let classes = [("fast", true, "Delete"), ("kept", false, "Retain")];
        assert_eq!(unfit_class(None, classes), None);
        assert_eq!(unfit_class(Some("fast"), classes), None);
        assert!(unfit_class(Some("kept"), classes).unwrap().contains("deletionPolicy: Retain"));
        assert!(unfit_class(Some("slow"), classes).unwrap().contains("there is no VolumeSnapshotClass slow"));
        assert!(unfit_class(None, [classes[1]]).unwrap().contains("is a default one"));
    }

    #[test]
    fn what_a_copy_is_called() {
        assert_eq!(consistency(false, 1), Consistency::Fuzzy);
        assert_eq!(consistency(true, 1), Consistency::CrashConsistent);
        assert_eq!(consistency(true, 2), Consistency::PerVolume, "each volume at a moment of its own");
    }
}
