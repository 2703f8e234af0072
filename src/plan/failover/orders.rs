//! What one order would do now, or why it does nothing: rows 4a to 4e of the table.

use super::{
    document::DOCUMENT_VERSION,
    gates::Refusal,
    lineage,
    rules::{Rule, applies, requires},
    view::{Order, Point, View},
};
use crate::api::{
    duration,
    failover::{FailoverKind, PeerState},
    failover_record::{DataPoint, FailoverRecordSpec, Role, VolumeCondition},
};

/// What an order asks of this site next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// 4a: nothing may run while the bytes here are made a point.
    Fence,
    /// 4a: keep the bytes here as a point, in the vault on the way to that site, so that they can be compared with a newer one.
    KeepBytes(String),
    /// 4a: restore the newest point first.
    RestoreNewest,
    /// 4a: take the role in the order's epoch.
    Promote,
    /// 4b: give the role away.
    Demote,
    /// 4c: stay active in the order's epoch; nothing was posted yet.
    Cancel,
    /// 4d: ask the role back.
    AskBack,
}

/// The step of one order, or why it has none.
pub fn judge(view: &View, order: &Order) -> Result<Step, Refusal> {
    let record = &view.record;
    let mine = view.mine(&order.epoch);
    if !mine && !view.peers.contains_key(&order.epoch.site) {
        let (me, others) = (record.site.clone(), record.others());
        return Err(Refusal::UnknownSite { to: order.epoch.site.clone(), me, others });
    }
    if applies(Rule::OrderAboveEpoch, order.epoch <= record.epoch)
        || applies(Rule::OrderAboveIntents, order.epoch <= *record.top())
    {
        let top = record.top().clone();
        let step = if order.kind == FailoverKind::Planned { 1 } else { 2 };
        let next = top.number.saturating_add(step);
        return Err(Refusal::Superseded { order: order.epoch.clone(), top, next });
    }
    if view.suspended {
        return Err(Refusal::Suspended);
    }
    match (order.kind, mine) {
        (FailoverKind::Forced, false) => {
            Err(Refusal::WrongSite { to: order.epoch.site.clone(), me: record.site.clone() })
        }
        (FailoverKind::Forced, true) => forced(view, order),
        (FailoverKind::Planned, false) => planned_away(view, &order.epoch.site),
        (FailoverKind::Planned, true) => planned_back(view),
    }
}

fn forced(view: &View, order: &Order) -> Result<Step, Refusal> {
    let record = &view.record;
    if applies(Rule::ForcedIsNotForTheActive, record.role.rules() && !record.held()) {
        return Err(Refusal::AlreadyActive);
    }
    let current = record.ticket();
    if applies(Rule::TicketIsCurrent, order.ticket.as_ref() != Some(&current)) {
        return Err(Refusal::TicketStale { named: order.ticket.clone().unwrap_or_default(), current });
    }
    if view.fence_asked {
        return Err(Refusal::FenceStands);
    }
    if order.attestation == Some(PeerState::Fenced) {
        let fenced = |site: &String| view.document(site).is_some_and(|d| d.human_fence && !d.writable_pods);
        if let Some(peer) = record.peers.keys().find(|site| !fenced(site)) {
            return Err(Refusal::AttestationContradicted { peer: peer.clone() });
        }
    }
    if applies(Rule::MailIsReadFirst, view.peers.values().any(|peer| peer.reach && !peer.drained)) {
        return Err(Refusal::MailUnread);
    }
    match record.role {
        Role::Standby | Role::Demoted | Role::Fenced => from_newest(view, order),
        Role::Active | Role::Promoting | Role::Demoting | Role::Diverged => from_own(view),
    }
}

/// These sites hold bytes that nobody has a newer version of, or that a person chose to keep.
fn from_own(view: &View) -> Result<Step, Refusal> {
    match view.record.volumes.condition {
        VolumeCondition::Clean | VolumeCondition::Live => Ok(Step::Promote),
        VolumeCondition::Empty | VolumeCondition::Restoring => Err(Refusal::Incomplete),
    }
}

fn from_newest(view: &View, order: &Order) -> Result<Step, Refusal> {
    if let Some(age) = view.loss.filter(|age| *age > order.max_data_loss) {
        let (age, limit) = (duration::format(age), duration::format(order.max_data_loss));
        return Err(Refusal::DataLossExceeded { age, limit });
    }
    let volumes = &view.record.volumes;
    if applies(Rule::OwnBytesAreKeptFirst, volumes.condition == VolumeCondition::Live) {
        return Ok(match (view.pods, keeps_bytes(view)) {
            (true, _) => Step::Fence,
            (false, Some(towards)) => Step::KeepBytes(towards),
            (false, None) => Step::Promote,
        });
    }
    let newest = view.newest_point().filter(|newest| may_complete(&view.record, newest));
    let whole = super::volumes::clean_at(volumes)
        .filter(|_| requires(Rule::RecloneIsFinishedFirst, !view.record.reclone));
    match (whole, newest) {
        (Some(at), Some(newest)) if applies(Rule::NewestIsRestoredFirst, is_newer(newest, at)) => {
            Ok(Step::RestoreNewest)
        }
        (Some(_), _) => Ok(Step::Promote),
        (None, Some(_)) => Ok(Step::RestoreNewest),
        (None, None) => Err(Refusal::Incomplete),
    }
}

/// Whether a point may go over volumes that are not whole: it is no older than the restore that was begun, and a copy that is
/// made anew is of the reign in force.
fn may_complete(record: &FailoverRecordSpec, newest: &Point) -> bool {
    let begun = record.volumes.at.as_ref().filter(|_| record.volumes.condition == VolumeCondition::Restoring);
    let older = begun.is_some_and(|at| newest.data.point < at.point);
    let of_the_past = record.reclone && newest.data.point.epoch < record.epoch;
    !applies(Rule::CompletedByNoOlderLine, older || of_the_past)
}

/// The site on whose way the bytes here are kept: the one that this site yields to, or any in reach.
fn keeps_bytes(view: &View) -> Option<String> {
    let yields_to = view.record.intent.as_ref().map(|intent| &intent.site);
    let in_reach = yields_to.into_iter().chain(view.peers.keys()).find(|site| view.reaches(site));
    in_reach.cloned()
}

/// Whether the point holds all that the bytes hold, and more. By (epoch, sequence), never by time.
fn is_newer(point: &Point, bytes: &DataPoint) -> bool {
    point.data.point.epoch >= bytes.point.epoch
        && lineage::is_prefix(bytes, point)
        && !lineage::same_bytes(bytes, &point.data)
}

fn planned_away(view: &View, to: &str) -> Result<Step, Refusal> {
    let record = &view.record;
    let peer = to.to_owned();
    if applies(Rule::OnlyTheActiveGives, record.role != Role::Active) {
        return Err(not_active(view));
    }
    if applies(Rule::HeldGivesNothing, record.held()) {
        return Err(Refusal::Held);
    }
    let Some(target) = view.peers.get(to) else { return Err(Refusal::PeerSilent { peer }) };
    if applies(Rule::GivenWithinOneVault, !target.shares_vault) {
        return Err(Refusal::NoCommonVault { to: peer });
    }
    match &target.document {
        Some(document) if requires(Rule::TargetReports, target.recent && target.reach) => {
            if document.version < DOCUMENT_VERSION {
                return Err(Refusal::OlderVersion { peer });
            }
            if requires(Rule::TargetIsStandby, document.role == Role::Standby)
                && requires(Rule::TargetIsFree, !document.held)
            {
                Ok(Step::Demote)
            } else {
                let held = if document.held { ", held" } else { "" };
                Err(Refusal::TargetNotReady { peer, role: document.role.as_str(), held })
            }
        }
        _ => Err(Refusal::PeerSilent { peer }),
    }
}

fn planned_back(view: &View) -> Result<Step, Refusal> {
    match view.record.role {
        Role::Demoting => Ok(Step::Cancel),
        Role::Demoted => Ok(Step::AskBack),
        Role::Active | Role::Promoting => Err(Refusal::AlreadyActive),
        _ => Err(not_active(view)),
    }
}

/// Where the order belongs: the site that rules in the highest epoch, if one is known here.
fn not_active(view: &View) -> Refusal {
    let ruling = view.documents().filter(|(_, document)| document.role.rules());
    let place = ruling.max_by(|(_, one), (_, other)| one.epoch.cmp(&other.epoch)).map_or_else(
        || "where the register runs".to_owned(),
        |(site, _)| format!("in {site}, where the register runs"),
    );
    Refusal::NotActive { role: view.record.role.as_str(), place }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::epoch::Epoch;
    use crate::api::failover_record::Volumes;
    use crate::plan::failover::Peer;
    use crate::plan::failover::document::document;
    use crate::plan::failover::first_record::first_day;
    use crate::plan::failover::view::quiet;

    fn data(point: &str) -> DataPoint {
        DataPoint { point: point.parse().unwrap(), digest: format!("digest of {point}") }
    }

    fn record(site: &str, peer: &str, role: Role) -> FailoverRecordSpec {
        let mut record = first_day(site, peer);
        record.role = role;
        record.epoch = Epoch::new(1, "tallinn");
        if !role.owns() {
            record.volumes = Volumes {
                condition: VolumeCondition::Clean,
                at: Some(data("1/tallinn/4")),
                ..Volumes::default()
            };
        }
        record
    }

    /// Luxembourg as a standby, or tallinn as the active site, the other one being what it should be.
    fn view(site: &str) -> View {
        let active = record("tallinn", "luxembourg", Role::Active);
        let standby = record("luxembourg", "tallinn", Role::Standby);
        let (own, other) = if site == "tallinn" { (active, standby) } else { (standby, active) };
        let home = site == "tallinn";
        let says = document(&other, !home);
        View {
            pods: home,
            started: home,
            loss: Some(Duration::from_secs(30)),
            ..quiet(own, [(other.site, says)])
        }
    }

    fn peer(view: &mut View) -> &mut Peer {
        view.peers.values_mut().next().unwrap()
    }

    fn order(view: &View, kind: FailoverKind, epoch: &str) -> Order {
        Order {
            name: "order".to_owned(),
            epoch: epoch.parse().unwrap(),
            kind,
            ticket: Some(view.record.ticket()),
            attestation: Some(PeerState::PoweredOff),
            max_data_loss: Duration::from_mins(1),
        }
    }

    fn forced(view: &View) -> Result<Step, &'static str> {
        judge(view, &order(view, FailoverKind::Forced, "3/luxembourg")).map_err(|refusal| refusal.reason())
    }

    fn planned(view: &View, to: &str) -> Result<Step, &'static str> {
        judge(view, &order(view, FailoverKind::Planned, to)).map_err(|refusal| refusal.reason())
    }

    #[test]
    fn a_forced_order_at_a_whole_standby_promotes() {
        assert_eq!(forced(&view("luxembourg")), Ok(Step::Promote));
    }

    #[test]
    fn a_newer_point_is_restored_first() {
        let mut view = view("luxembourg");
        peer(&mut view).point = Some(Point { data: data("1/tallinn/5"), ancestry: vec![] });
        assert_eq!(forced(&view), Ok(Step::RestoreNewest));
        peer(&mut view).reach = false;
        assert_eq!(forced(&view), Ok(Step::Promote), "without the vault, what is here is the newest");
    }

    #[test]
    fn nothing_partial_is_served() {
        for condition in [VolumeCondition::Empty, VolumeCondition::Restoring] {
            let mut view = view("luxembourg");
            view.record.volumes.condition = condition;
            assert_eq!(forced(&view), Err("Incomplete"));
            peer(&mut view).point = Some(Point { data: data("1/tallinn/4"), ancestry: vec![] });
            assert_eq!(forced(&view), Ok(Step::RestoreNewest));
        }
    }

    #[test]
    fn bytes_in_doubt_are_kept_before_anything_is_compared() {
        let mut view = view("luxembourg");
        view.record.role = Role::Fenced;
        view.record.volumes.condition = VolumeCondition::Live;
        assert_eq!(forced(&view), Ok(Step::KeepBytes("tallinn".to_owned())));
        view.pods = true;
        assert_eq!(forced(&view), Ok(Step::Fence));
    }

    #[test]
    fn each_refusal_of_a_forced_order() {
        let changed = |change: fn(&mut View)| {
            let mut view = view("luxembourg");
            change(&mut view);
            forced(&view)
        };
        assert_eq!(changed(|v| v.suspended = true), Err("Suspended"));
        assert_eq!(changed(|v| v.fence_asked = true), Err("FenceStands"));
        assert_eq!(changed(|v| peer(v).drained = false), Err("MailUnread"));
        assert_eq!(changed(|v| v.loss = Some(Duration::from_secs(61))), Err("DataLossExceeded"));
        let view = view("luxembourg");
        let judged = |change: fn(&mut Order)| {
            let mut order = order(&view, FailoverKind::Forced, "3/luxembourg");
            change(&mut order);
            judge(&view, &order).map_err(|refusal| refusal.reason())
        };
        assert_eq!(judged(|o| o.ticket = Some("0.0".to_owned())), Err("TicketStale"));
        assert_eq!(judged(|o| o.attestation = Some(PeerState::Fenced)), Err("AttestationContradicted"));
        assert_eq!(judged(|o| o.epoch = Epoch::new(1, "luxembourg")), Err("Superseded"));
        assert_eq!(judged(|o| o.epoch = Epoch::new(3, "riga")), Err("UnknownSite"));
        assert_eq!(judged(|o| o.epoch = Epoch::new(3, "tallinn")), Err("WrongSite"));
        let mut ruling = view.clone();
        ruling.record.role = Role::Active;
        assert_eq!(forced(&ruling), Err("AlreadyActive"));
    }

    #[test]
    fn a_fenced_peer_that_says_so_may_be_attested() {
        let mut view = view("luxembourg");
        let document = peer(&mut view).document.as_mut().unwrap();
        (document.human_fence, document.writable_pods) = (true, false);
        let order = Order {
            attestation: Some(PeerState::Fenced),
            ..order(&view, FailoverKind::Forced, "3/luxembourg")
        };
        assert_eq!(judge(&view, &order), Ok(Step::Promote));
    }

    #[test]
    fn a_planned_order_needs_both_sites() {
        assert_eq!(planned(&view("tallinn"), "2/luxembourg"), Ok(Step::Demote));
        let changed = |change: fn(&mut View)| {
            let mut view = view("tallinn");
            change(&mut view);
            planned(&view, "2/luxembourg")
        };
        assert_eq!(changed(|v| peer(v).recent = false), Err("PeerSilent"));
        assert_eq!(changed(|v| peer(v).document = None), Err("PeerSilent"));
        assert_eq!(changed(|v| peer(v).document.as_mut().unwrap().held = true), Err("TargetNotReady"));
        assert_eq!(changed(|v| peer(v).shares_vault = false), Err("NoCommonVault"));
        assert_eq!(changed(|v| peer(v).document.as_mut().unwrap().version -= 1), Err("OlderVersion"));
        assert_eq!(changed(|v| v.record.cold_fence = true), Err("Held"));
        assert_eq!(changed(|v| v.record.role = Role::Fenced), Err("NotActive"));
    }

    #[test]
    fn an_order_that_cannot_take_effect_now_is_over() {
        use crate::api::failover::FailoverPhase;
        let over = |view: &View, to: &str| {
            let refusal = judge(view, &order(view, FailoverKind::Planned, to)).unwrap_err();
            (refusal.phase() == FailoverPhase::Rejected, refusal.to_string())
        };
        let mut silent = view("tallinn");
        peer(&mut silent).recent = false;
        assert!(over(&silent, "2/luxembourg").0);
        let mut held = view("tallinn");
        peer(&mut held).document.as_mut().unwrap().held = true;
        assert!(over(&held, "2/luxembourg").0, "or it would move the role when somebody lifts a fence later");
        let (rejected, sentence) = over(&view("luxembourg"), "2/luxembourg");
        assert!(rejected && sentence.contains("apply it in tallinn, where the register runs"), "{sentence}");
    }

    #[test]
    fn a_planned_order_back_cancels_or_asks_back() {
        let mut view = view("tallinn");
        assert_eq!(planned(&view, "3/tallinn"), Err("AlreadyActive"));
        view.record.role = Role::Demoting;
        assert_eq!(planned(&view, "3/tallinn"), Ok(Step::Cancel));
        view.record.role = Role::Demoted;
        assert_eq!(planned(&view, "3/tallinn"), Ok(Step::AskBack));
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let view = view("luxembourg");
        let stale =
            Order { ticket: Some("0.0".to_owned()), ..order(&view, FailoverKind::Forced, "3/luxembourg") };
        let text = judge(&view, &stale).unwrap_err().to_string();
        assert!(text.contains("0.0") && text.contains(&view.record.ticket()), "{text}");
    }
}
