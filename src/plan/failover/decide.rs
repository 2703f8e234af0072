//! The decision table. The first row that matches wins; each `Write` is one compare-and-swap, done before the act.

use std::collections::BTreeMap;

use super::{
    document::Document,
    lineage,
    orders::{Step, judge},
    rules::{Rule, applies, every, requires},
    view::{Point, View},
    volumes, whole,
};
use crate::api::{
    data_embassy::ApproveDiscard,
    epoch::Epoch,
    failover_record::{DataPoint, FailoverRecordSpec, Role, VolumeCondition},
};

/// What this site does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// All is as it should be.
    Nothing,
    /// Something outside must come first.
    Wait(&'static str),
    /// Write this record with the next revision; then look again.
    Write(Box<FailoverRecordSpec>, &'static str),
    /// Write this record, which is no news to the others; then look again.
    Note(Box<FailoverRecordSpec>),
    /// Let nothing run here, until no Pod with a protected volume is left.
    Fence,
    /// Run the register here.
    Start,
    /// Bring the volumes to that point; `discard` if what they hold is given up.
    Restore {
        /// The target.
        point: Box<Point>,
        /// Whether what the volumes hold is given up, by approval.
        discard: bool,
    },
    /// Make a point of the volumes, which nobody writes, in the vault on the way to that site.
    Backup(String),
}

/// The next action of this site.
#[must_use]
pub fn decide(view: &View) -> Action {
    cold_start(view)
        .or_else(|| human_fence(view))
        .or_else(|| housekeeping(view))
        .or_else(|| whole::recopied(view))
        .or_else(|| yield_to_peer(view))
        .or_else(|| confirmation(view))
        .or_else(|| lift(view))
        .or_else(|| orders(view))
        .unwrap_or_else(|| by_role(view))
}

fn write(view: &View, why: &'static str, change: impl FnOnce(&mut FailoverRecordSpec)) -> Action {
    let mut record = view.record.clone();
    change(&mut record);
    if record.epoch != view.record.epoch {
        record.sequence = 0;
        if record.role.rules() {
            record.ancestry = volumes::carried_on(&view.record, view.own_point.as_ref());
        }
    }
    Action::Write(Box::new(record), why)
}

/// Row 1.
fn cold_start(view: &View) -> Option<Action> {
    applies(Rule::ColdStartFences, view.cold_start).then(|| {
        write(view, "every node was started anew: fenced until the other sites confirm", |record| {
            record.boot_ids.clone_from(&view.boot_ids);
            record.cold_fence = true;
        })
    })
}

fn human_fence(view: &View) -> Option<Action> {
    let record = &view.record;
    (view.fence_asked && (!record.human_fence || record.lifting)).then(|| {
        write(view, "a person fenced this site", |record| {
            record.human_fence = true;
            record.lifting = false;
        })
    })
}

/// What changes nothing for the others: nodes that came and went, how far their mail was read. Only a site that joins or
/// leaves is news.
fn housekeeping(view: &View) -> Option<Action> {
    let mut record = view.record.clone();
    record.boot_ids.clone_from(&view.boot_ids);
    record.peers = peers(view);
    if record == view.record {
        return None;
    }
    if record.peers.keys().eq(view.record.peers.keys()) {
        return Some(Action::Note(Box::new(record)));
    }
    Some(Action::Write(Box::new(record), "the sites of the DataEmbassy changed"))
}

/// The other sites and how far each was read. One that left is kept while its epoch is in force here.
fn peers(view: &View) -> BTreeMap<String, i64> {
    let record = &view.record;
    let in_force = |site: &String| {
        let epochs = [Some(&record.epoch), record.intent.as_ref(), record.abort.as_ref()];
        epochs.into_iter().flatten().any(|epoch| epoch.site == *site)
    };
    let known = record.peers.keys().filter(|site| view.peers.contains_key(*site) || in_force(site));
    let sites = known.chain(view.peers.keys());
    sites
        .map(|site| {
            let read = view.document(site).map_or(0, |document| document.revision);
            (site.clone(), read.max(record.peers.get(site).copied().unwrap_or(0)))
        })
        .collect()
}

/// Rows 2a to 2c: another site entered a higher epoch of its own.
fn yield_to_peer(view: &View) -> Option<Action> {
    let record = &view.record;
    let seen = match (record.role, &record.intent) {
        (Role::Fenced, Some(intent)) => intent,
        _ => &record.epoch,
    };
    let own = view
        .documents()
        .filter(|(author, document)| requires(Rule::OnlyTheOwnerSpeaks, document.epoch.site == *author));
    let higher = own.map(|(_, document)| &document.epoch).max().filter(|epoch| *epoch > seen)?.clone();
    let rule = match record.role {
        Role::Active | Role::Promoting | Role::Demoting | Role::Demoted => Rule::OwnerYields,
        Role::Fenced => Rule::FencedYields,
        Role::Standby | Role::Diverged => Rule::EpochIsLearned,
    };
    applies(rule, true).then(|| match record.role {
        Role::Active | Role::Promoting | Role::Demoting | Role::Demoted => {
            write(view, "another site rules in a higher epoch: fencing", |record| {
                record.role = Role::Fenced;
                record.intent = Some(higher);
                record.abort = None;
                record.handover = None;
            })
        }
        Role::Fenced => write(view, "another site rules in a still higher epoch", |record| {
            record.intent = Some(higher);
        }),
        Role::Standby | Role::Diverged => write(view, "learned the epoch of the active site", |record| {
            record.epoch = higher;
        }),
    })
}

/// Whether every other site has read this very revision, and none rules or is above this site. All of them: any one may have
/// been told to take over meanwhile.
fn confirmed(view: &View) -> bool {
    let record = &view.record;
    every(Rule::EveryOtherSiteConfirms, record.peers.keys(), |site| {
        view.document(site).is_some_and(|document| {
            requires(Rule::ConfirmationEchoes, document.echo(&record.site) == record.revision)
                && (!record.role.owns()
                    || (requires(Rule::ConfirmationIsNotAbove, document.epoch <= *record.top())
                        && requires(Rule::ConfirmationDoesNotRule, !document.rules())))
        })
    })
}

/// Rows 3a and 3b.
fn confirmation(view: &View) -> Option<Action> {
    let record = &view.record;
    let confirmed = confirmed(view);
    if record.cold_fence && requires(Rule::ColdFenceIsConfirmed, confirmed) {
        return Some(write(view, "the other sites confirmed this record after the cold start", |record| {
            record.cold_fence = false;
        }));
    }
    (record.lifting && requires(Rule::LiftIsConfirmed, confirmed)).then(|| {
        write(view, "the other sites confirmed the request to lift the fence", |record| {
            record.human_fence = false;
            record.lifting = false;
        })
    })
}

/// Row 3c.
fn lift(view: &View) -> Option<Action> {
    let record = &view.record;
    (view.lift_asked && record.human_fence && !record.lifting).then(|| {
        write(
            view,
            "a person asked to lift the fence: waiting for the confirmation of the other sites",
            |record| {
                record.lifting = true;
            },
        )
    })
}

/// Rows 4a to 4e: the highest order that has a step.
fn orders(view: &View) -> Option<Action> {
    let mut orders: Vec<_> = view.orders.iter().collect();
    orders.sort_by(|a, b| b.epoch.cmp(&a.epoch));
    orders.into_iter().find_map(|order| judge(view, order).ok().map(|step| obey(view, step, &order.epoch)))
}

fn obey(view: &View, step: Step, epoch: &Epoch) -> Action {
    let epoch = epoch.clone();
    match step {
        Step::Fence => Action::Fence,
        Step::KeepBytes(towards) => Action::Backup(towards),
        Step::RestoreNewest => restore(view, view.record.reclone),
        Step::Promote => write(view, "a forced order gives this site the role", |record| {
            *record = FailoverRecordSpec {
                role: Role::Promoting,
                epoch,
                intent: None,
                abort: None,
                cold_fence: false,
                human_fence: false,
                lifting: false,
                diverged: None,
                reclone: false,
                handover: None,
                ..record.clone()
            };
        }),
        Step::Demote => write(view, "a planned order gives the role away", |record| {
            record.role = Role::Demoting;
            record.intent = Some(epoch);
        }),
        Step::Cancel => {
            write(view, "the planned switch was cancelled before anything was handed over", |record| {
                record.role = Role::Active;
                if applies(Rule::CancelRaisesTheEpoch, true) {
                    record.epoch = epoch;
                }
                record.intent = None;
            })
        }
        Step::AskBack => write(view, "asking the role back", |record| {
            record.abort = Some(epoch);
        }),
    }
}

/// Rows 5 to 8.
fn by_role(view: &View) -> Action {
    let record = &view.record;
    match record.role {
        Role::Active | Role::Promoting if applies(Rule::HeldRunsNothing, record.held()) => {
            fence_or(view, || Action::Wait("held by a fence"))
        }
        Role::Active | Role::Promoting => ruling(view),
        Role::Demoting => fence_or(view, || demoting(view)),
        Role::Demoted => fence_or(view, || demoted(view)),
        Role::Fenced => fence_or(view, || fenced(view)),
        Role::Standby => fence_or(view, || standby(view)),
        Role::Diverged => fence_or(view, || diverged(view)),
    }
}

fn fence_or(view: &View, otherwise: impl FnOnce() -> Action) -> Action {
    if applies(Rule::FenceIsComplete, view.pods) { Action::Fence } else { otherwise() }
}

/// Rows 5b and 5c. The reign's origin is on record before the first Pod may write.
fn ruling(view: &View) -> Action {
    let record = &view.record;
    if let Some(first) = whole::mended(view) {
        return first;
    }
    if applies(Rule::LiveBeforeStart, record.volumes.condition != VolumeCondition::Live) {
        return Action::Note(Box::new(volumes::live(record)));
    }
    match (record.role, view.started) {
        (_, false) => Action::Start,
        (Role::Promoting, true) => write(view, "the register runs here", |record| {
            *record = FailoverRecordSpec { role: Role::Active, ..volumes::activated(record) };
        }),
        (_, true) => Action::Nothing,
    }
}

/// Whether the volumes equal a committed point of this record's own epoch.
fn own_bytes_kept(view: &View) -> Option<&DataPoint> {
    volumes::clean_at(&view.record.volumes)
        .filter(|at| requires(Rule::FinalPointIsOfThisReign, at.point.epoch == view.record.epoch))
}

/// Row 5d, after the fence.
fn demoting(view: &View) -> Action {
    match own_bytes_kept(view) {
        Some(point) => {
            let point = point.clone();
            write(view, "stopped and copied to the last byte: handing over", |record| {
                record.role = Role::Demoted;
                record.handover = Some(point);
            })
        }
        None => whole::mended(view).unwrap_or_else(|| match &view.record.intent {
            Some(intent) if view.reaches(&intent.site) => Action::Backup(intent.site.clone()),
            _ => Action::Wait("the vault, for the final recovery point"),
        }),
    }
}

/// Row 5e.
fn demoted(view: &View) -> Action {
    let record = &view.record;
    let target = record.intent.as_ref().and_then(|intent| view.document(&intent.site));
    match (target, &record.abort) {
        (Some(document), Some(abort)) if requires(Rule::AbortIsLetPass, document.epoch == *abort) => {
            let epoch = abort.clone();
            write(view, "the other site let the switch pass: active again", |record| {
                record.role = Role::Active;
                record.epoch = epoch;
                record.intent = None;
                record.abort = None;
                record.handover = None;
            })
        }
        (_, Some(_)) => Action::Wait("the other site, to let the switch pass"),
        _ => Action::Wait("the other site, to take over"),
    }
}

/// Row 6, after the fence: keep what is here, then compare it with what the active site built on.
fn fenced(view: &View) -> Action {
    let record = &view.record;
    let Some(intent) = &record.intent else { return Action::Wait("the epoch of the active site") };
    if !view.reaches(&intent.site) {
        return Action::Wait("the vault, to keep the bytes of this site");
    }
    let Some(at) = volumes::clean_at(&record.volumes) else {
        return match record.volumes.condition {
            // Nothing of this site's own is in them.
            VolumeCondition::Empty | VolumeCondition::Restoring => enter_as_standby(view, intent),
            _ => Action::Backup(intent.site.clone()),
        };
    };
    let Some(point) = view.point_of(intent) else {
        return Action::Wait("the first recovery point of the active site's epoch");
    };
    if requires(Rule::OnlyAPrefixIsStandby, lineage::is_prefix(at, point)) {
        return enter_as_standby(view, intent);
    }
    // After a forced order that was not carried through, these may be another site's bytes.
    let (epoch, own) = (intent.clone(), at.point.epoch.clone());
    write(
        view,
        "this site holds bytes that the active site does not have: kept until a person decides",
        |record| {
            record.role = Role::Diverged;
            record.epoch = epoch;
            record.intent = None;
            record.diverged = Some(own);
        },
    )
}

fn enter_as_standby(view: &View, epoch: &Epoch) -> Action {
    let epoch = epoch.clone();
    write(view, "everything written here is in the active site's copy: standby", |record| {
        record.role = Role::Standby;
        record.epoch = epoch;
        record.intent = None;
    })
}

/// Rows 7a to 7d.
fn standby(view: &View) -> Action {
    let record = &view.record;
    if let Some(action) = view.documents().find_map(|(author, document)| handed_over(view, author, document))
    {
        return action;
    }
    if !view.peers.values().any(|peer| peer.reach) {
        return Action::Wait("the vault");
    }
    let Some(newest) = view.newest_point() else { return Action::Wait("the first recovery point") };
    if view.sealed && !handover_awaits(view) {
        return Action::Wait("an order: what lies here is encrypted, and stays so until then");
    }
    if record.reclone {
        return reclone(view, newest);
    }
    let Some(at) = &record.volumes.at else { return restore(view, false) };
    let half_done = record.volumes.condition == VolumeCondition::Restoring;
    if applies(Rule::NewestByEpoch, newest.data.point < at.point)
        || (newest.data.point == at.point && !half_done)
    {
        return Action::Nothing;
    }
    if requires(Rule::OnlyContinuationsAreRestored, lineage::is_prefix(at, newest)) {
        return restore(view, false);
    }
    if newest.data.point.epoch == record.epoch {
        let own = at.point.epoch.clone();
        return write(
            view,
            "this site holds bytes that the active site does not have: kept until a person decides",
            |record| {
                record.role = Role::Diverged;
                record.diverged = Some(own);
            },
        );
    }
    Action::Nothing
}

/// Rows 7a and 8a: the site that gave the role to this one asks it back.
fn asked_back(view: &View, author: &str, document: &Document) -> Option<Action> {
    let to_here = document.intent.as_ref().is_some_and(|intent| view.mine(intent));
    let asks = document.role == Role::Demoted && requires(Rule::OnlyTheTargetLetsPass, to_here);
    let abort = document.abort.as_ref().filter(|abort| asks && abort.site == author)?;
    requires(Rule::AbortIsAbove, *abort > view.record.epoch).then(|| {
        write(view, "letting the switch pass: the role was asked back", |record| {
            record.epoch = abort.clone();
        })
    })
}

/// Rows 7a and 7b: another site gives the role to this one, or asks it back.
fn handed_over(view: &View, author: &str, document: &Document) -> Option<Action> {
    let record = &view.record;
    if let Some(action) = asked_back(view, author, document) {
        return Some(action);
    }
    let intent = document.intent.as_ref().filter(|i| document.role == Role::Demoted && view.mine(i))?;
    let point = document.handover.as_ref()?;
    let drained = view.peers.get(author).is_some_and(|peer| peer.drained);
    let bytes_here = volumes::clean_at(&record.volumes).is_some_and(|at| lineage::same_bytes(at, point));
    let takes = requires(Rule::HandoverStands, document.abort.is_none())
        && requires(Rule::HandoverIsNotOld, document.epoch >= record.epoch)
        && requires(Rule::HeldTakesNothing, !record.held())
        && requires(Rule::HandoverMailIsRead, drained)
        && requires(Rule::RecloneTakesNothing, !record.reclone)
        && requires(Rule::HandoverBytesAreHere, bytes_here);
    takes.then(|| {
        let epoch = intent.max(&record.epoch).clone();
        write(view, "the role was handed over with the last byte", |record| {
            record.role = Role::Promoting;
            record.epoch = epoch;
        })
    })
}

/// Whether another site stopped for this one, so that somebody will bring the key.
fn handover_awaits(view: &View) -> bool {
    let gives = |document: &Document| {
        document.role == Role::Demoted
            && document.abort.is_none()
            && document.intent.as_ref().is_some_and(|intent| view.mine(intent))
    };
    view.documents().any(|(_, document)| gives(document))
}

/// Row 7d: a person gave up what was here.
fn reclone(view: &View, newest: &Point) -> Action {
    let record = &view.record;
    if requires(Rule::RecloneIsOfThisReign, newest.data.point.epoch >= record.epoch) {
        return restore(view, true);
    }
    Action::Wait("a recovery point of the active site's epoch")
}

fn restore(view: &View, discard: bool) -> Action {
    match view.newest_point() {
        Some(point) => Action::Restore { point: Box::new(point.clone()), discard },
        None => Action::Wait("a recovery point in reach"),
    }
}

/// Rows 8a and 8b.
fn diverged(view: &View) -> Action {
    let record = &view.record;
    let passed = view.documents().find_map(|(author, document)| asked_back(view, author, document));
    if let Some(action) = passed.filter(|_| applies(Rule::DivergedLetsPass, true)) {
        return action;
    }
    let named = |approved: &ApproveDiscard| {
        record.diverged.as_ref().is_some_and(|own| {
            requires(Rule::ApprovalNamesNumber, own.number == approved.number) && own.site == approved.site
        })
    };
    let approved = requires(Rule::DiscardIsApproved, view.approved.as_ref().is_some_and(named));
    let in_reach = view.point_of(&record.epoch).is_some();
    match (approved, requires(Rule::DiscardHasAReplacement, in_reach)) {
        (false, _) => Action::Wait("a person, to approve discarding what only this site holds"),
        (true, true) => write(view, "a person gave up what only this site holds: copying anew", |record| {
            record.role = Role::Standby;
            record.diverged = None;
            record.reclone = true;
        }),
        (true, false) => Action::Wait("a recovery point of the active site's epoch in reach"),
    }
}
