//! The first record of a site, and what becomes of one that is older than the site's own mail.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    document::Document,
    rules::{Rule, applies},
};
use crate::api::{
    epoch::Epoch,
    failover_record::{DataPoint, FailoverRecordSpec, Role, VolumeCondition, Volumes},
};

/// What is known before there is a record.
#[derive(Debug, Clone)]
pub struct Before<'a> {
    /// This site.
    pub site: &'a str,
    /// Every other one, with its last document.
    pub peers: BTreeMap<&'a str, Option<&'a Document>>,
    /// The home of the register.
    pub home: &'a str,
    /// Boot ids of the nodes here.
    pub boot_ids: &'a BTreeSet<String>,
    /// This site's own last document in any vault; the outer `None` means that not every vault was read.
    pub own_document: Option<Option<&'a Document>>,
    /// Whether protected volumes exist here.
    pub volumes_exist: bool,
}

/// How a site begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// It neither stops a running workload nor calls it protected, until this is there.
    Join(&'static str),
    /// With this record.
    Record(Box<FailoverRecordSpec>, &'static str),
    /// Only a person can say what the volumes here are.
    AskPerson(&'static str),
}

/// The beginning of a site without a record.
#[must_use]
pub fn begin(before: &Before) -> Beginning {
    match before.own_document {
        None => Beginning::Join("every vault, since any may hold a history of this site"),
        Some(Some(own)) => after_loss(before, own),
        Some(None) if before.site == before.home => {
            let volumes = Volumes { condition: VolumeCondition::Live, ..Volumes::default() };
            let record = record(before, Role::Active, Epoch::new(1, before.home), volumes);
            Beginning::Record(Box::new(record), "first enabling at home")
        }
        Some(None) => match before.peers.get(before.home).copied().flatten() {
            None => Beginning::Join("the first report of home"),
            Some(peer) => {
                let record = record(before, Role::Standby, peer.epoch.clone(), Volumes::default());
                Beginning::Record(Box::new(record), "first enabling at the embassy")
            }
        },
    }
}

/// The record was lost and the mail was not: the site claims nothing that the others do not confirm.
fn after_loss(before: &Before, own: &Document) -> Beginning {
    let peers = before.peers.values().flatten().map(|peer| &peer.epoch);
    let epoch = peers.fold(&own.epoch, Ord::max).clone();
    let (role, epoch, volumes) = match (before.volumes_exist, own.role) {
        (true, Role::Fenced | Role::Diverged) => {
            return Beginning::AskPerson(
                "the record of this site is gone and its volumes hold bytes that the other sites may not have: copy \
                 them away and delete the PersistentVolumeClaims, then this site joins as a standby",
            );
        }
        (true, role) if role.owns() => (
            Role::Active,
            own.epoch.clone(),
            Volumes { condition: VolumeCondition::Live, ..Volumes::default() },
        ),
        _ => (Role::Standby, epoch, Volumes::default()),
    };
    let mut record = record(before, role, epoch, volumes);
    record.revision = own.revision.saturating_add(1);
    record.sequence = own.sequence;
    record.cold_fence = applies(Rule::LostIsHeld, true);
    Beginning::Record(
        Box::new(record),
        "the record was lost: held until the other sites confirm what the vault says",
    )
}

fn record(before: &Before, role: Role, epoch: Epoch, volumes: Volumes) -> FailoverRecordSpec {
    FailoverRecordSpec {
        site: before.site.to_owned(),
        peers: before.peers.keys().map(|site| ((*site).to_owned(), 0)).collect(),
        revision: 1,
        role,
        epoch,
        intent: None,
        abort: None,
        cold_fence: false,
        human_fence: false,
        lifting: false,
        diverged: None,
        reclone: false,
        handover: None,
        volumes,
        ancestry: vec![],
        objects: None,
        boot_ids: before.boot_ids.clone(),
        carriers: BTreeMap::new(),
        sequence: 0,
        freeze: None,
        history: vec![],
    }
}

/// The record to write if the site's own mail is ahead of its record, as after a restore of etcd; it is held. What the old
/// record says of the volumes is not believed: they went on with the mail.
#[must_use]
pub fn adopt(record: &FailoverRecordSpec, own: &Document) -> Option<FailoverRecordSpec> {
    let ahead = own.revision > record.revision || contradicts(record, own) || went_on(record, own);
    if !applies(Rule::MailAheadIsAdopted, ahead) {
        return None;
    }
    let mut adopted = record.clone();
    adopted.revision = own.revision.max(record.revision).saturating_add(1);
    adopted.epoch = Ord::max(&own.epoch, &record.epoch).clone();
    adopted.cold_fence = applies(Rule::AdoptedIsHeld, true);
    for (site, read) in &mut adopted.peers {
        *read = own.echo(site).max(*read);
    }
    adopted.sequence = own.sequence.max(record.sequence);
    let mine = own.epoch.site == record.site;
    let live = Volumes { condition: VolumeCondition::Live, ..record.volumes.clone() };
    match own.role {
        role if role.owns() && mine => {
            adopted.role = if role == Role::Demoted { Role::Demoted } else { Role::Active };
            adopted.intent.clone_from(&own.intent);
            adopted.abort.clone_from(&own.abort);
            adopted.handover.clone_from(&own.handover);
            adopted.volumes = live;
        }
        Role::Fenced | Role::Diverged => {
            adopted.role = own.role;
            adopted.epoch.clone_from(&own.epoch);
            adopted.intent = None;
            adopted.abort = None;
            adopted.handover = None;
            adopted.diverged.clone_from(&own.diverged);
            adopted.reclone = false;
            adopted.volumes = live;
        }
        _ if record.role.owns() => {
            adopted.role = Role::Fenced;
            adopted.epoch.clone_from(&record.epoch);
            adopted.intent = Some(own.epoch.clone());
            adopted.abort = None;
            adopted.handover = None;
            adopted.volumes = live;
        }
        _ if record.role == Role::Standby && record.volumes.condition != VolumeCondition::Empty => {
            let at = own.at.clone().or_else(|| record.volumes.at.clone());
            adopted.volumes = Volumes { condition: VolumeCondition::Restoring, at, ..Volumes::default() };
        }
        _ => {}
    }
    Some(adopted)
}

/// Whether this record never was what the mail says of that revision: an old one that went on before it could read its mail.
fn contradicts(record: &FailoverRecordSpec, own: &Document) -> bool {
    let same = record.history.iter().find(|transition| transition.revision == own.revision);
    same.is_some_and(|transition| transition.role != own.role || transition.epoch != own.epoch)
}

/// Whether the mail of this very revision tells of a restore that the record does not know: no restore makes a revision.
fn went_on(record: &FailoverRecordSpec, own: &Document) -> bool {
    let point = |at: &Option<DataPoint>| at.as_ref().map(|at| at.point.clone());
    own.revision == record.revision && point(&own.at) > point(&record.volumes.at)
}

/// The record of a home on its first day, for tests.
#[cfg(test)]
pub(crate) fn first_day(home: &str, embassy: &str) -> FailoverRecordSpec {
    let boot_ids = BTreeSet::new();
    let before = Before {
        site: home,
        peers: BTreeMap::from([(embassy, None)]),
        home,
        boot_ids: &boot_ids,
        own_document: Some(None),
        volumes_exist: true,
    };
    match begin(&before) {
        Beginning::Record(record, _) => *record,
        other => panic!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::failover_record::Transition;
    use crate::plan::failover::document::document;

    fn before<'a>(site: &'a str, peer: &'a str, boots: &'a BTreeSet<String>) -> Before<'a> {
        Before {
            site,
            peers: BTreeMap::from([(peer, None)]),
            home: "tallinn",
            boot_ids: boots,
            own_document: Some(None),
            volumes_exist: true,
        }
    }

    fn made(beginning: Beginning) -> FailoverRecordSpec {
        match beginning {
            Beginning::Record(record, _) => *record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn home_waits_for_the_vault_before_it_claims_anything() {
        let boots = BTreeSet::new();
        let unread = Before { own_document: None, ..before("tallinn", "luxembourg", &boots) };
        assert!(matches!(begin(&unread), Beginning::Join(_)));
        let record = made(begin(&before("tallinn", "luxembourg", &boots)));
        assert_eq!((record.role, record.epoch.to_string().as_str()), (Role::Active, "1/tallinn"));
    }

    #[test]
    fn the_embassy_waits_for_home_and_begins_with_empty_volumes() {
        let boots = BTreeSet::new();
        let alone = before("luxembourg", "tallinn", &boots);
        assert!(matches!(begin(&alone), Beginning::Join(_)));
        let home = document(&made(begin(&before("tallinn", "luxembourg", &boots))), true);
        let record = made(begin(&Before { peers: BTreeMap::from([("tallinn", Some(&home))]), ..alone }));
        assert_eq!((record.role, record.volumes.condition), (Role::Standby, VolumeCondition::Empty));
    }

    #[test]
    fn a_home_rebuilt_from_nothing_claims_nothing() {
        let boots = BTreeSet::new();
        let old = document(&made(begin(&before("tallinn", "luxembourg", &boots))), true);
        let mut rebuilt = before("tallinn", "luxembourg", &boots);
        (rebuilt.own_document, rebuilt.volumes_exist) = (Some(Some(&old)), false);
        let record = made(begin(&rebuilt));
        assert_eq!((record.role, record.held()), (Role::Standby, true));
        assert!(record.revision > old.revision);
    }

    #[test]
    fn a_lost_record_over_living_volumes_is_held() {
        let boots = BTreeSet::new();
        let old = document(&made(begin(&before("tallinn", "luxembourg", &boots))), true);
        let lost = Before { own_document: Some(Some(&old)), ..before("tallinn", "luxembourg", &boots) };
        let record = made(begin(&lost));
        assert_eq!((record.role, record.held()), (Role::Active, true));
        assert_eq!(record.volumes.condition, VolumeCondition::Live, "its bytes must not be overwritten");
    }

    #[test]
    fn a_record_behind_its_own_mail_adopts_it_and_is_held() {
        let boots = BTreeSet::new();
        let record = made(begin(&before("tallinn", "luxembourg", &boots)));
        assert_eq!(adopt(&record, &document(&record, true)), None);
        let later = FailoverRecordSpec {
            revision: 9,
            role: Role::Standby,
            epoch: Epoch::new(2, "luxembourg"),
            ..record.clone()
        };
        let adopted = adopt(&record, &document(&later, false)).unwrap();
        assert_eq!((adopted.role, adopted.held()), (Role::Fenced, true));
        assert_eq!(adopted.intent, Some(Epoch::new(2, "luxembourg")));
        assert!(adopted.revision > 9);
    }

    /// A standby whose record was restored from a backup, and what it said in the mail since.
    fn restored_standby(own: impl FnOnce(&mut FailoverRecordSpec)) -> FailoverRecordSpec {
        let boots = BTreeSet::new();
        let mut record = made(begin(&before("tallinn", "luxembourg", &boots)));
        record.role = Role::Standby;
        record.epoch = Epoch::new(2, "luxembourg");
        record.volumes = Volumes {
            condition: VolumeCondition::Clean,
            at: Some(data("2/luxembourg/3")),
            ..Volumes::default()
        };
        let mut later = FailoverRecordSpec { revision: 9, ..record.clone() };
        own(&mut later);
        adopt(&record, &document(&later, false)).unwrap()
    }

    #[test]
    fn a_restore_that_only_the_mail_knows_makes_no_revision_and_is_noticed() {
        let adopted = restored_standby(|own| {
            own.revision = 1;
            own.volumes.at = Some(data("2/luxembourg/4"));
        });
        let expected = Volumes {
            condition: VolumeCondition::Restoring,
            at: Some(data("2/luxembourg/4")),
            ..Volumes::default()
        };
        assert_eq!((adopted.volumes, adopted.revision), (expected, 2));
    }

    fn data(point: &str) -> DataPoint {
        DataPoint { point: point.parse().unwrap(), digest: point.to_owned() }
    }

    #[test]
    fn bytes_of_a_diverged_site_are_kept_although_its_record_was_restored() {
        let adopted = restored_standby(|own| {
            own.role = Role::Diverged;
            own.epoch = Epoch::new(4, "luxembourg");
            own.diverged = Some(Epoch::new(3, "tallinn"));
        });
        assert_eq!((adopted.role, adopted.held()), (Role::Diverged, true));
        assert_eq!(adopted.diverged, Some(Epoch::new(3, "tallinn")), "a person can name what to give up");
        assert_eq!(adopted.volumes.condition, VolumeCondition::Live);
    }

    #[test]
    fn bytes_of_a_fenced_site_are_kept_although_its_record_was_restored() {
        let adopted = restored_standby(|own| {
            own.role = Role::Fenced;
            own.epoch = Epoch::new(3, "tallinn");
            own.intent = Some(Epoch::new(4, "luxembourg"));
        });
        assert_eq!((adopted.role, adopted.epoch.to_string().as_str()), (Role::Fenced, "3/tallinn"));
        assert_eq!(adopted.volumes.condition, VolumeCondition::Live, "they become a point of their own");
    }

    #[test]
    fn a_restored_record_of_a_standby_does_not_vouch_for_the_volumes() {
        let adopted = restored_standby(|own| own.volumes.at = Some(data("2/luxembourg/7")));
        let expected = Volumes {
            condition: VolumeCondition::Restoring,
            at: Some(data("2/luxembourg/7")),
            ..Volumes::default()
        };
        assert_eq!((adopted.role, adopted.volumes), (Role::Standby, expected));
    }

    #[test]
    fn an_old_record_that_went_on_unseen_still_takes_the_mails_word() {
        let boots = BTreeSet::new();
        let mut record = made(begin(&before("tallinn", "luxembourg", &boots)));
        let transition = |revision, role, epoch| Transition {
            time: Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH),
            revision,
            role,
            epoch,
            why: String::new(),
        };
        record.revision = 7;
        record.history =
            (5..=7).map(|revision| transition(revision, Role::Active, record.epoch.clone())).collect();
        let mut later = FailoverRecordSpec { revision: 6, ..record.clone() };
        assert_eq!(adopt(&record, &document(&later, true)), None, "its own mail of an earlier revision");
        later.role = Role::Standby;
        later.epoch = Epoch::new(2, "luxembourg");
        let adopted = adopt(&record, &document(&later, false)).unwrap();
        assert_eq!((adopted.role, adopted.revision), (Role::Fenced, 8));
    }
}
