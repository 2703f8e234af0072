//! What a restore, a copy or a reign does to the record's knowledge of the volumes. Each is written before the act that
//! makes it true, or after the one that ends it; none is a new revision, since no decision of the peer depends on it.

use std::collections::BTreeMap;

use super::{lineage, view::Point};
use crate::api::failover_record::{DataPoint, FailoverRecordSpec, VolumeCondition, Volumes};

/// The committed point that the volumes equal byte for byte, if they do.
#[must_use]
pub fn clean_at(volumes: &Volumes) -> Option<&DataPoint> {
    volumes.at.as_ref().filter(|_| volumes.condition == VolumeCondition::Clean)
}

/// Before the first byte of a restore into these claims is written. The objects of this namespace belong to bytes that are
/// given up.
#[must_use]
pub fn restoring(
    record: &FailoverRecordSpec,
    target: &DataPoint,
    claims: &BTreeMap<String, String>,
) -> FailoverRecordSpec {
    let begun = with(record, VolumeCondition::Restoring, Some(target.clone()));
    FailoverRecordSpec { objects: None, ..within(begun, claims.clone()) }
}

/// After a claim that held the copy was deleted: what is there now, if anything, is not it. A restore makes it whole.
#[must_use]
pub fn replaced(record: &FailoverRecordSpec) -> FailoverRecordSpec {
    let lost = with(record, VolumeCondition::Restoring, record.volumes.at.clone());
    within(lost, BTreeMap::new())
}

/// Whether these claims are not all that the record speaks of. A record that names none does not tell.
#[must_use]
pub fn are_replaced(volumes: &Volumes, claims: &BTreeMap<String, String>) -> bool {
    volumes.claims.iter().any(|(name, uid)| claims.get(name) != Some(uid))
}

/// After a restore to `point` ended with every byte on disk. What was given up is gone with it; a later restore gives up
/// nothing more.
#[must_use]
pub fn restored(record: &FailoverRecordSpec, point: &Point) -> FailoverRecordSpec {
    FailoverRecordSpec {
        ancestry: point.ancestry.clone(),
        reclone: false,
        ..with(record, VolumeCondition::Clean, Some(point.data.clone()))
    }
}

/// After a copy of volumes that nobody writes, in these claims, was committed as `point`, with the objects that this
/// namespace holds.
#[must_use]
pub fn copied(
    record: &FailoverRecordSpec,
    point: &DataPoint,
    claims: &BTreeMap<String, String>,
) -> FailoverRecordSpec {
    let complete = record.objects_due().is_none();
    FailoverRecordSpec {
        objects: complete.then(|| point.point.clone()),
        ..within(with(record, VolumeCondition::Clean, Some(point.clone())), claims.clone())
    }
}

/// After the objects of the point that the volumes were restored to are here, whoever brought them.
#[must_use]
pub fn activated(record: &FailoverRecordSpec) -> FailoverRecordSpec {
    FailoverRecordSpec { objects: record.volumes.at.as_ref().map(|at| at.point.clone()), ..record.clone() }
}

/// Before the first Pod of a reign may write. The point that the volumes equal becomes the reign's origin.
#[must_use]
pub fn live(record: &FailoverRecordSpec) -> FailoverRecordSpec {
    let base = clean_at(&record.volumes).cloned();
    // A site that resumes within its own epoch goes on with the line that it is on.
    let new_reign = base.as_ref().filter(|base| base.point.epoch != record.epoch);
    FailoverRecordSpec {
        ancestry: lineage::of_reign(&record.ancestry, new_reign),
        ..with(record, VolumeCondition::Live, base.or_else(|| record.volumes.at.clone()))
    }
}

/// The ancestry of a site that enters a new epoch of its own with the bytes that it is writing, as after a cancelled switch: the
/// newest point of the epoch that ends is on its line, or a standby that holds it would take itself for diverged.
#[must_use]
pub fn carried_on(record: &FailoverRecordSpec, newest: Option<&Point>) -> Vec<DataPoint> {
    let own = newest.map(|point| &point.data).filter(|data| {
        record.volumes.condition == VolumeCondition::Live
            && record.role.owns()
            && data.point.epoch == record.epoch
    });
    lineage::of_reign(&record.ancestry, own)
}

fn with(
    record: &FailoverRecordSpec,
    condition: VolumeCondition,
    at: Option<DataPoint>,
) -> FailoverRecordSpec {
    let volumes = Volumes { condition, at, claims: record.volumes.claims.clone() };
    FailoverRecordSpec { volumes, ..record.clone() }
}

fn within(mut record: FailoverRecordSpec, claims: BTreeMap<String, String>) -> FailoverRecordSpec {
    record.volumes.claims = claims;
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::failover::first_record::first_day;

    fn record() -> FailoverRecordSpec {
        first_day("luxembourg", "tallinn")
    }

    fn claims(uid: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("data".to_owned(), uid.to_owned())])
    }

    fn data(point: &str) -> DataPoint {
        DataPoint { point: point.parse().unwrap(), digest: format!("digest of {point}") }
    }

    #[test]
    fn a_reign_on_another_sites_point_names_it_as_its_origin() {
        let mut taken = record();
        taken.epoch = "3/luxembourg".parse().unwrap();
        let point = Point { data: data("1/tallinn/6"), ancestry: vec![] };
        let running = live(&restored(&taken, &point));
        assert_eq!(running.volumes.condition, VolumeCondition::Live);
        assert_eq!(running.ancestry, [data("1/tallinn/6")]);
        assert_eq!(running.volumes.at, Some(data("1/tallinn/6")));
    }

    #[test]
    fn a_switch_there_and_back_keeps_the_whole_line() {
        let mut back = record();
        back.epoch = "4/luxembourg".parse().unwrap();
        let point = Point { data: data("3/tallinn/2"), ancestry: vec![data("1/luxembourg/9")] };
        assert_eq!(live(&restored(&back, &point)).ancestry, [data("1/luxembourg/9"), data("3/tallinn/2")]);
    }

    #[test]
    fn resuming_within_an_epoch_begins_no_new_line() {
        let stopped = copied(&record(), &data("1/luxembourg/4"), &claims("a"));
        assert!(live(&stopped).ancestry.is_empty(), "the reign goes on where it stopped");
    }

    #[test]
    fn a_new_epoch_over_the_same_bytes_keeps_the_points_of_the_old_one_on_its_line() {
        let mut home = record();
        home.volumes.condition = VolumeCondition::Live;
        let newest = Point { data: data("1/luxembourg/4"), ancestry: vec![] };
        assert_eq!(carried_on(&home, Some(&newest)), [data("1/luxembourg/4")]);
        let stranger = Point { data: data("3/tallinn/2"), ancestry: vec![] };
        assert!(carried_on(&home, Some(&stranger)).is_empty(), "another line");
        home.volumes.condition = VolumeCondition::Clean;
        assert!(
            carried_on(&home, Some(&newest)).is_empty(),
            "the reign that begins names the point that it equals"
        );
    }

    #[test]
    fn a_restore_leaves_the_objects_due_whosever_point_it_was() {
        let own = Point { data: data("1/luxembourg/4"), ancestry: vec![] };
        let begun = restoring(&copied(&record(), &own.data, &claims("a")), &own.data, &claims("a"));
        let running = live(&restored(&begun, &own));
        assert_eq!(running.objects_due(), Some(&own.data.point), "as after the loss of the namespace");
        assert_eq!(activated(&running).objects_due(), None);
    }

    #[test]
    fn objects_that_never_left_are_not_due() {
        assert_eq!(live(&record()).objects_due(), None, "a first day");
        let reign =
            activated(&live(&restored(&record(), &Point { data: data("1/tallinn/6"), ancestry: vec![] })));
        let next = FailoverRecordSpec { epoch: "4/luxembourg".parse().unwrap(), ..reign.clone() };
        assert_eq!(
            next.objects_due(),
            None,
            "a cancelled switch would undo each change since the reign began"
        );
        assert_eq!(
            copied(&reign, &data("3/luxembourg/2"), &claims("a")).objects_due(),
            None,
            "a switch that is taken back"
        );
    }

    #[test]
    fn objects_that_did_not_all_arrive_stay_due() {
        let begun = live(&restored(&record(), &Point { data: data("1/tallinn/6"), ancestry: vec![] }));
        assert!(copied(&begun, &data("3/luxembourg/1"), &claims("a")).objects_due().is_some());
    }

    #[test]
    fn a_restore_that_was_begun_is_no_clean_copy() {
        assert_eq!(clean_at(&restoring(&record(), &data("1/tallinn/6"), &claims("a")).volumes), None);
    }

    #[test]
    fn a_claim_that_was_deleted_takes_the_copy_with_it_whatever_has_its_name_now() {
        let point = Point { data: data("1/tallinn/6"), ancestry: vec![] };
        let restored = restored(&restoring(&record(), &point.data, &claims("a")), &point);
        assert!(!are_replaced(&restored.volumes, &claims("a")));
        assert!(are_replaced(&restored.volumes, &claims("b")), "made anew");
        assert!(are_replaced(&restored.volumes, &BTreeMap::new()), "gone");
        let lost = replaced(&restored);
        assert_eq!(clean_at(&lost.volumes), None);
        assert_eq!(lost.volumes.at, Some(point.data), "and is restored to no older point");
        assert!(!are_replaced(&lost.volumes, &claims("b")), "it is told once");
    }
}
