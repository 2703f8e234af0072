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
        apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
    },
    jiff::Timestamp,
};
use kube::{Resource, ResourceExt};
use kube_quantity::ParsedQuantity;

use super::task::Source;
use crate::api::recovery_point::Consistency;
use crate::api::replication::Snapshots;
use crate::api::volume_snapshot::{
    VolumeGroupSnapshot, VolumeGroupSnapshotSource, VolumeGroupSnapshotSpec, VolumeSnapshot,
    VolumeSnapshotSource, VolumeSnapshotSpec, VolumeSnapshotStatus,
};
use crate::api::{GROUP_LABEL, SNAPSHOT_LABEL};

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
pub fn consistency(source: Source, claims: usize) -> Consistency {
    match (source, claims) {
        (Source::Volumes, _) => Consistency::Fuzzy,
        (Source::Snapshots, 2..) => Consistency::PerVolume,
        (Source::Snapshots | Source::GroupSnapshot, _) => Consistency::CrashConsistent,
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

/// The snapshot of all claims of an embassy, for a Job that is to copy them.
#[must_use]
pub fn group(job: &Job, embassy: &str, class: &str) -> VolumeGroupSnapshot {
    let labels = BTreeMap::from([(GROUP_LABEL.to_owned(), embassy.to_owned())]);
    let selector = LabelSelector { match_labels: Some(labels), match_expressions: None };
    VolumeGroupSnapshot {
        metadata: ObjectMeta { name: job.metadata.name.clone(), ..metadata(job, 0) },
        spec: VolumeGroupSnapshotSpec {
            source: VolumeGroupSnapshotSource { selector: Some(selector) },
            volume_group_snapshot_class_name: Some(class.to_owned()),
        },
        status: None,
    }
}

/// The snapshots of a Job that waits for them.
#[derive(Debug, Clone, Copy)]
pub struct Taken<'a> {
    /// The Job.
    pub job: &'a Job,
    /// What it is to copy.
    pub claims: &'a [String],
    /// What it reads.
    pub source: Source,
    /// All snapshots of the namespace.
    pub snapshots: &'a [VolumeSnapshot],
    /// All snapshots of several volumes there.
    pub groups: &'a [VolumeGroupSnapshot],
}

impl Taken<'_> {
    /// The snapshot of one claim. One of another Job of that name is none.
    fn of(&self, place: usize) -> Option<&VolumeSnapshot> {
        let claim = self.claims.get(place)?;
        if self.source == Source::GroupSnapshot {
            let group = self.group()?;
            return self.snapshots.iter().find(|snapshot| {
                let source = &snapshot.spec.source.persistent_volume_claim_name;
                source.as_ref() == Some(claim) && belongs(*snapshot, group)
            });
        }
        let name = name(&self.job.name_any(), place);
        self.snapshots.iter().find(|snapshot| snapshot.name_any() == name && belongs(*snapshot, self.job))
    }

    /// Whether nothing is to be asked for any more.
    #[must_use]
    pub fn are_asked_for(&self) -> bool {
        match self.source {
            Source::GroupSnapshot => self.group().is_some(),
            _ => (0..self.claims.len()).all(|place| self.of(place).is_some()),
        }
    }

    fn group(&self) -> Option<&VolumeGroupSnapshot> {
        self.groups.iter().find(|group| belongs(*group, self.job))
    }

    /// The volumes of those snapshots, like the claims that were snapshotted. A claim that is gone has none.
    #[must_use]
    pub fn volumes(&self, protected: &[PersistentVolumeClaim]) -> Vec<PersistentVolumeClaim> {
        let places = self.claims.iter().enumerate();
        places
            .filter_map(|(place, claim)| {
                let source = protected.iter().find(|protected| protected.name_any() == *claim)?;
                Some(volume(self.job, place, source, self.of(place)?))
            })
            .collect()
    }

    /// How far they are. `longest` is how long none may be taken.
    #[must_use]
    pub fn progress(&self, longest: Duration, now: Timestamp) -> Progress {
        let status = |place: usize| self.of(place).and_then(|snapshot| snapshot.status.as_ref());
        let all = |is: fn(&VolumeSnapshotStatus) -> bool| {
            (0..self.claims.len()).all(|place| status(place).is_some_and(is))
        };
        let of_group = self.group().and_then(|group| group.status.as_ref());
        let is_taken = |status: &VolumeSnapshotStatus| status.creation_time.is_some();
        let taken = all(is_taken) || of_group.is_some_and(is_taken);
        if taken && all(|status| status.ready_to_use == Some(true)) {
            return Progress::Ready;
        }
        let waited = self.waited(now);
        let said = |status: &VolumeSnapshotStatus| status.error.as_ref()?.message.clone();
        let error = |(place, claim): (usize, &String)| {
            Some(format!("no snapshot of claim {claim}: {}", said(status(place)?)?))
        };
        let error = self.claims.iter().enumerate().find_map(error);
        let error = error.or_else(|| Some(format!("no snapshot of the volumes: {}", said(of_group?)?)));
        match error.filter(|_| waited > GRACE) {
            Some(why) => Progress::Failed(why),
            None if taken => Progress::Taken,
            None if waited > longest => Progress::Failed(format!(
                "after {} s not every volume has a snapshot, and its driver says nothing: see 'kubectl describe \
                 volumesnapshots,volumegroupsnapshots' and the snapshot controller's log",
                waited.as_secs()
            )),
            None => Progress::Taking,
        }
    }

    fn waited(&self, now: Timestamp) -> Duration {
        let since = self.job.creation_timestamp();
        since.and_then(|since| Duration::try_from(now.duration_since(since.0)).ok()).unwrap_or_default()
    }
}

fn belongs(object: &impl ResourceExt, owner: &impl ResourceExt) -> bool {
    let uid = owner.uid();
    object.owner_references().iter().any(|reference| Some(&reference.uid) == uid.as_ref())
}

fn volume(
    job: &Job,
    place: usize,
    source: &PersistentVolumeClaim,
    snapshot: &VolumeSnapshot,
) -> PersistentVolumeClaim {
    let like = source.spec.clone().unwrap_or_default();
    let asked = like.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("storage"));
    let least = snapshot.status.as_ref().and_then(|status| status.restore_size.as_ref());
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
                name: snapshot.name_any(),
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

/// A `VolumeSnapshotClass` or a `VolumeGroupSnapshotClass`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotClass {
    /// Its name.
    pub name: String,
    /// Whether it is used where none is named.
    pub is_default: bool,
    /// `Delete` or `Retain`.
    pub deletion_policy: String,
}

/// Why no snapshots can be taken as the user asks for, of the classes that there are.
#[must_use]
pub fn unfit_class(wanted: &Snapshots, classes: &[SnapshotClass]) -> Option<String> {
    let (kind, field, named) = match &wanted.group_class_name {
        Some(name) => ("VolumeGroupSnapshotClass", "groupClassName", Some(name)),
        None => ("VolumeSnapshotClass", "className", wanted.class_name.as_ref()),
    };
    let field = format!("spec.replication.driver.builtin.snapshots.{field}");
    let meant = |class: &&SnapshotClass| named.map_or(class.is_default, |named| *named == class.name);
    let found: Vec<&SnapshotClass> = classes.iter().filter(meant).collect();
    if let Some(class) = found.iter().find(|class| class.deletion_policy != "Delete") {
        return Some(format!(
            "{kind} {} keeps what was deleted (deletionPolicy: Retain), so that the snapshot of every copy would stay: name one with \
             deletionPolicy: Delete in {field}",
            class.name
        ));
    }
    match named {
        _ if !found.is_empty() => None,
        Some(named) => Some(format!(
            "there is no {kind} {named} in this cluster: make it, or name another one in {field}"
        )),
        None => Some(format!("no {kind} of this cluster is a default one: name one in {field}")),
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

    fn of<'a>(job: &'a Job, claims: &'a [String], snapshots: &'a [VolumeSnapshot]) -> Taken<'a> {
        Taken { job, claims, source: Source::Snapshots, snapshots, groups: &[] }
    }

    fn at(seconds: i64) -> Timestamp {
        job().creation_timestamp().unwrap().0 + k8s_openapi::jiff::SignedDuration::from_secs(seconds)
    }

    fn after(seconds: i64, statuses: [Value; 2]) -> Progress {
        of(&job(), &claims(), &taken(statuses)).progress(Duration::from_mins(5), at(seconds))
    }

    fn cut(ready: bool) -> Value {
        json!({"creationTime": "2026-01-01T00:00:01Z", "readyToUse": ready, "restoreSize": "3Gi"})
    }

    #[test]
    fn writers_hold_still_until_the_last_snapshot_is_taken() {
        assert_eq!(after(1, [Value::Null, Value::Null]), Progress::Taking);
        let (job, claims, asked) = (job(), claims(), taken([Value::Null, Value::Null]));
        assert!(of(&job, &claims, &asked).are_asked_for() && !of(&job, &claims, &asked[1..]).are_asked_for());
        assert_eq!(after(1, [cut(true), json!({"readyToUse": false})]), Progress::Taking);
        assert_eq!(after(1, [cut(true), cut(false)]), Progress::Taken);
        assert_eq!(after(900, [cut(true), cut(false)]), Progress::Taken, "drivers may upload for hours");
        assert_eq!(after(1, [cut(true), cut(true)]), Progress::Ready);
    }

    #[test]
    fn an_error_counts_once_the_controller_had_time_to_get_over_it() {
        let wrong = json!({"error": {"message": "no space"}});
        assert_eq!(after(1, [cut(true), wrong.clone()]), Progress::Taking);
        assert_eq!(
            after(31, [cut(true), wrong]),
            Progress::Failed("no snapshot of claim data: no space".to_owned())
        );
        assert!(
            matches!(after(301, [cut(true), Value::Null]), Progress::Failed(why) if why.contains("describe"))
        );
    }

    #[test]
    fn snapshots_of_another_job_of_that_name_count_for_nothing() {
        let mut others = taken([cut(true), cut(true)]);
        for snapshot in &mut others {
            snapshot.metadata.owner_references.as_mut().unwrap()[0].uid = "before".to_owned();
        }
        let found = of(&job(), &claims(), &others).progress(Duration::from_mins(5), at(0));
        assert_eq!(found, Progress::Taking);
    }

    #[test]
    fn a_group_is_taken_at_once_and_its_members_are_known_by_their_claims() {
        let mut groups = [group(&job(), "land", "together")];
        groups[0].metadata.uid = Some("group".to_owned());
        let members = |statuses: [Value; 2]| {
            let mut members = taken(statuses);
            for (index, member) in members.iter_mut().enumerate() {
                member.metadata.name = Some(format!("snapshot-{index}"));
                member.metadata.owner_references.as_mut().unwrap()[0].uid = "group".to_owned();
            }
            members
        };
        let (job, claims) = (job(), claims());
        let found = |groups: &[VolumeGroupSnapshot], snapshots: &[VolumeSnapshot], seconds| {
            let taken = Taken { source: Source::GroupSnapshot, groups, ..of(&job, &claims, snapshots) };
            taken.progress(Duration::from_mins(5), at(seconds))
        };
        assert_eq!(found(&groups, &[], 1), Progress::Taking);
        groups[0].status = serde_json::from_value(cut(false)).unwrap();
        assert_eq!(found(&groups, &[], 1), Progress::Taken, "members come later");
        assert_eq!(found(&groups, &members([cut(true), cut(false)]), 1), Progress::Taken);
        let ready = members([cut(true), cut(true)]);
        assert_eq!(found(&groups, &ready, 1), Progress::Ready);
        let taken = Taken { source: Source::GroupSnapshot, groups: &groups, ..of(&job, &claims, &ready) };
        let made = taken.volumes(&protected());
        assert_eq!(made[1].spec.as_ref().unwrap().data_source.as_ref().unwrap().name, "snapshot-1");
        groups[0].status = serde_json::from_value(json!({"error": {"message": "too many"}})).unwrap();
        assert!(matches!(found(&groups, &[], 31), Progress::Failed(why) if why.ends_with("too many")));
    }

    fn protected() -> Vec<PersistentVolumeClaim> {
        [("archive", "5Gi"), ("data", "2Gi")]
            .map(|(name, size)| {
                serde_json::from_value(
                    json!({"metadata": {"name": name}, "spec": {"storageClassName": "fast",
                    "accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": size}}}}),
                )
                .unwrap()
            })
            .into()
    }

    #[test]
    fn a_volume_is_like_its_claim_and_large_enough() {
        let made = of(&job(), &claims(), &taken([cut(true), cut(true)])).volumes(&protected());
        let size = |claim: &PersistentVolumeClaim| {
            claim.spec.as_ref().unwrap().resources.as_ref().unwrap().requests.as_ref().unwrap()["storage"]
                .0
                .clone()
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
        let class = |name: &str, is_default, policy: &str| SnapshotClass {
            name: name.to_owned(),
            is_default,
            deletion_policy: policy.to_owned(),
        };
        let classes = [class("fast", true, "Delete"), class("kept", false, "Retain")];
        let wanted =
            |name: Option<&str>| Snapshots { class_name: name.map(str::to_owned), group_class_name: None };
        let unfit = |name| unfit_class(&wanted(name), &classes);
        assert_eq!(unfit(None), None);
        assert_eq!(unfit(Some("fast")), None);
        assert!(unfit(Some("kept")).unwrap().contains("deletionPolicy: Retain"));
        assert!(unfit(Some("slow")).unwrap().contains("there is no VolumeSnapshotClass slow"));
        assert!(unfit_class(&wanted(None), &classes[1..]).unwrap().contains("is a default one"));
        let together = Snapshots { class_name: None, group_class_name: Some("together".to_owned()) };
        assert!(unfit_class(&together, &classes).unwrap().contains("no VolumeGroupSnapshotClass together"));
    }

    #[test]
    fn what_a_copy_is_called() {
        assert_eq!(consistency(Source::Volumes, 1), Consistency::Fuzzy);
        assert_eq!(consistency(Source::Snapshots, 1), Consistency::CrashConsistent);
        assert_eq!(consistency(Source::Snapshots, 2), Consistency::PerVolume, "each at a moment of its own");
        assert_eq!(consistency(Source::GroupSnapshot, 2), Consistency::CrashConsistent);
    }
}
