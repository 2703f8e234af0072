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
const NOT_WHOLE: &str = "a person: a claim of this site was deleted and its volume is not whole, so nothing is served or copied \
                         from it; see 'A claim was deleted' in docs/failover.md";

/// Where the volumes were no more than a copy, they are copied again, whole. A site that yields is classified by its record
/// first: what it wrote is in the vault.
pub(super) fn recopied(view: &View) -> Option<Action> {
    let record = &view.record;
    let copies = matches!(record.role, Role::Standby | Role::Demoted | Role::Diverged);
    let lost = view.replaced && copies && volumes::clean_at(&record.volumes).is_some();
    applies(Rule::DeletedClaimsAreCopiedAnew, lost).then(|| Action::Note(Box::new(volumes::replaced(record))))
}

/// What a site waits for that rules or hands over, if its volumes are not whole.
pub(super) fn refused(view: &View) -> Option<Action> {
    let whole = match view.record.volumes.condition {
        VolumeCondition::Live => true,
        VolumeCondition::Clean => !view.replaced,
        VolumeCondition::Empty | VolumeCondition::Restoring => false,
    };
    (!requires(Rule::OnlyWholeVolumesServe, whole)).then_some(Action::Wait(NOT_WHOLE))
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
    fn a_site_that_was_just_promoted_serves_no_claim_that_was_made_anew() {
        let mut view = view(Role::Promoting);
        assert!(matches!(decide(&view), Action::Note(_)), "{:?}", decide(&view));
        view.replaced = true;
        assert_eq!(decide(&view), Action::Wait(NOT_WHOLE));
    }

    #[test]
    fn what_is_not_whole_is_neither_served_nor_handed_over() {
        for role in [Role::Promoting, Role::Active, Role::Demoting] {
            for condition in [VolumeCondition::Empty, VolumeCondition::Restoring] {
                let mut view = view(role);
                view.record.volumes.condition = condition;
                view.record.intent = (role == Role::Demoting).then(|| "4/tallinn".parse().unwrap());
                assert_eq!(decide(&view), Action::Wait(NOT_WHOLE), "{role:?} {condition:?}");
            }
        }
    }
}
