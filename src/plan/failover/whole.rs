//! Whether the volumes still are what the record says. A claim that was deleted takes its bytes with it, and one that was made
//! anew under its name is empty: neither is ever served, or copied as if it were the register.

use super::{
    decide::Action,
    rules::{Rule, applies, requires},
    view::View,
    volumes,
};
use crate::api::failover_record::{Role, VolumeCondition};

/// What a site says that is to run the register, or to hand over its last byte, and has not all of it.
const NOT_WHOLE: &str = "a person: the volumes of this site are not whole, and the recovery point that they held is in no vault in \
                         reach, so nothing is served or copied from them; see 'A claim was deleted' in docs/failover.md";

/// Where the volumes were no more than a copy, they are copied again, whole. A site that yields, or that kept its last byte to
/// hand it over, is judged by its record first: what it wrote is in the vault.
pub(super) fn recopied(view: &View) -> Option<Action> {
    let record = &view.record;
    let kept = record.volumes.at.as_ref().is_some_and(|at| at.point.epoch == record.epoch);
    let copies = match record.role {
        Role::Fenced => false,
        Role::Demoting => !kept,
        _ => true,
    };
    let lost = view.replaced && copies && volumes::clean_at(&record.volumes).is_some();
    applies(Rule::DeletedClaimsAreCopiedAnew, lost).then(|| Action::Note(Box::new(volumes::replaced(record))))
}

/// What a site does first that is to run the register, or to hand it over, on volumes that are not whole: it brings them to the
/// very point that they held, and to no other, while nothing runs.
pub(super) fn mended(view: &View) -> Option<Action> {
    let whole = match view.record.volumes.condition {
        VolumeCondition::Live => true,
        VolumeCondition::Clean => !view.replaced,
        VolumeCondition::Empty | VolumeCondition::Restoring => false,
    };
    if requires(Rule::OnlyWholeVolumesServe, whole) {
        return None;
    }
    let at = view.record.volumes.at.as_ref();
    let again = view.newest_point().filter(|newest| at.is_some_and(|at| newest.data == *at));
    Some(match again {
        Some(_) if view.pods => Action::Fence,
        Some(point) => Action::Restore { point: Box::new(point.clone()), discard: false },
        None => Action::Wait(NOT_WHOLE),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::failover_record::{DataPoint, FailoverRecordSpec};
    use crate::plan::failover::{
        decide, document::document, first_record::first_day, view::Point, view::quiet,
    };

    fn data(point: &str) -> DataPoint {
        DataPoint { point: point.parse().unwrap(), digest: format!("digest of {point}") }
    }

    /// A site with a copy of tallinn's fourth point, which is the newest.
    fn view(role: Role) -> View {
        let mut tallinn = first_day("tallinn", "luxembourg");
        tallinn.epoch = "1/tallinn".parse().unwrap();
        let mut own =
            FailoverRecordSpec { role, epoch: tallinn.epoch.clone(), ..first_day("luxembourg", "tallinn") };
        if role.rules() {
            own.epoch = "3/luxembourg".parse().unwrap();
        }
        own.volumes.condition = VolumeCondition::Clean;
        own.volumes.at = Some(data("1/tallinn/4"));
        own.peers.insert("tallinn".to_owned(), tallinn.revision);
        let mut view = quiet(own, [("tallinn".to_owned(), document(&tallinn, true))]);
        view.peers.get_mut("tallinn").unwrap().point =
            Some(Point { data: data("1/tallinn/4"), ancestry: vec![] });
        view
    }

    #[test]
    fn a_standby_whose_claim_was_deleted_copies_the_newest_point_again() {
        let mut view = view(Role::Standby);
        assert_eq!(decide(&view), Action::Nothing);
        view.replaced = true;
        let Action::Note(next) = decide(&view) else { panic!("{:?}", decide(&view)) };
        assert_eq!(next.volumes.condition, VolumeCondition::Restoring);
        view = View { record: *next, replaced: false, ..view };
        let Action::Restore { point, discard: false } = decide(&view) else { panic!("{:?}", decide(&view)) };
        assert_eq!(point.data, data("1/tallinn/4"));
    }

    #[test]
    fn a_site_that_was_just_promoted_brings_a_claim_that_was_made_anew_to_the_point_that_it_held_while_nothing_runs()
     {
        let mut view = view(Role::Promoting);
        assert!(matches!(decide(&view), Action::Note(_)), "{:?}", decide(&view));
        view.replaced = true;
        let Action::Note(next) = decide(&view) else { panic!("{:?}", decide(&view)) };
        view = View { record: *next, replaced: false, pods: true, ..view };
        assert_eq!(decide(&view), Action::Fence);
        view.pods = false;
        let Action::Restore { point, discard: false } = decide(&view) else { panic!("{:?}", decide(&view)) };
        assert_eq!(point.data, data("1/tallinn/4"));
        view.peers.get_mut("tallinn").unwrap().point =
            Some(Point { data: data("1/tallinn/5"), ancestry: vec![] });
        assert_eq!(decide(&view), Action::Wait(NOT_WHOLE), "no other point, newer or not");
    }

    #[test]
    fn what_is_not_whole_is_neither_served_nor_handed_over() {
        for role in [Role::Promoting, Role::Active, Role::Demoting] {
            for condition in [VolumeCondition::Empty, VolumeCondition::Restoring] {
                let mut view = view(role);
                view.record.volumes.condition = condition;
                view.peers.get_mut("tallinn").unwrap().point = None;
                view.record.intent = (role == Role::Demoting).then(|| "4/tallinn".parse().unwrap());
                assert_eq!(decide(&view), Action::Wait(NOT_WHOLE), "{role:?} {condition:?}");
            }
        }
    }
}
