//! The rules of the protocol by name.
//!
//! Built with the feature `mutants`, as tests are, single ones can be switched off, to show that the model finds each of them
//! missing. In every other build these functions are their arguments and nothing else.

/// A rule of the decision table, or what one of its rows asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// 1: all nodes anew: the cold fence, before anything else.
    ColdStartFences,
    /// 2a: a site that owns its epoch yields to a higher one.
    OwnerYields,
    /// 2b: a fenced site yields to a still higher one.
    FencedYields,
    /// 2c: a site that owns nothing learns the epoch of the active one.
    EpochIsLearned,
    /// 2: only an epoch's own site speaks for it.
    OnlyTheOwnerSpeaks,
    /// 3: a confirmation names this very revision as read.
    ConfirmationEchoes,
    /// 3: who confirms an owner is not above it.
    ConfirmationIsNotAbove,
    /// 3: who confirms an owner does not rule.
    ConfirmationDoesNotRule,
    /// 3: every other site confirms.
    EveryOtherSiteConfirms,
    /// 3a: the cold fence stays until confirmed.
    ColdFenceIsConfirmed,
    /// 3b: a fence that a person asked to lift stays until confirmed.
    LiftIsConfirmed,
    /// A site reports itself as ruling while a writable Pod remains.
    PodsAreRuling,
    /// A copy whose claim was deleted is no copy any more.
    DeletedClaimsAreCopiedAnew,
    /// 5: what is not whole is neither served nor copied as if it were.
    OnlyWholeVolumesServe,
    /// 4: an order is above the record's epoch.
    OrderAboveEpoch,
    /// 4: an order is above what the record gave away, asked back or yields to.
    OrderAboveIntents,
    /// 4a: a site that runs the register takes no forced order.
    ForcedIsNotForTheActive,
    /// 4a: the ticket is the current one.
    TicketIsCurrent,
    /// 4a: mail in reach is read to its end.
    MailIsReadFirst,
    /// 4a: a newer point is restored first.
    NewestIsRestoredFirst,
    /// 4a: bytes of its own are kept as a point first.
    OwnBytesAreKeptFirst,
    /// 4a: a copy that is being made anew is finished first.
    RecloneIsFinishedFirst,
    /// 4a: a copy that is not whole is completed by no older line.
    CompletedByNoOlderLine,
    /// 4b: only the active site gives the role away.
    OnlyTheActiveGives,
    /// 4b: a held site gives nothing away.
    HeldGivesNothing,
    /// 4b: to a site that shares a vault.
    GivenWithinOneVault,
    /// 4b: to a site that reports.
    TargetReports,
    /// 4b: to a standby.
    TargetIsStandby,
    /// 4b: to a site that is not held.
    TargetIsFree,
    /// 4c: a cancelled switch goes on in a new epoch.
    CancelRaisesTheEpoch,
    /// 5a: a held site runs nothing.
    HeldRunsNothing,
    /// 5b: the volumes are noted as live before the first Pod may write.
    LiveBeforeStart,
    /// 5d and 6 to 8: no Pod is left before anything else is done.
    FenceIsComplete,
    /// 5d: the point handed over is of this reign.
    FinalPointIsOfThisReign,
    /// 5e: a role asked back is taken when the other site let that epoch pass.
    AbortIsLetPass,
    /// 6: only a site whose bytes the active one has becomes a standby.
    OnlyAPrefixIsStandby,
    /// 7a, 8a: only the site to which the role was given lets an abort pass.
    OnlyTheTargetLetsPass,
    /// 7a, 8a: an epoch let pass is above the known one.
    AbortIsAbove,
    /// 8a: a diverged site lets an abort pass, too.
    DivergedLetsPass,
    /// 7b: a handover is not of the past.
    HandoverIsNotOld,
    /// 7b: a handover was not asked back.
    HandoverStands,
    /// 7b: a held site takes nothing.
    HeldTakesNothing,
    /// 7b: the giver's mail is read to its end.
    HandoverMailIsRead,
    /// 7b: the volumes hold the very bytes that were handed over.
    HandoverBytesAreHere,
    /// 7b: a copy that is being made anew takes nothing.
    RecloneTakesNothing,
    /// 7c: newest is by epoch and sequence.
    NewestByEpoch,
    /// 7c: only what continues the bytes here is restored over them.
    OnlyContinuationsAreRestored,
    /// 7d: a new copy is of the current reign.
    RecloneIsOfThisReign,
    /// 8b: discarding is approved.
    DiscardIsApproved,
    /// 8b: the approval names the number of the epoch.
    ApprovalNamesNumber,
    /// 8b: a point of the active site's reign is in reach.
    DiscardHasAReplacement,
    /// A record behind its own mail takes the mail's word.
    MailAheadIsAdopted,
    /// What was adopted is held until confirmed.
    AdoptedIsHeld,
    /// What begins again after a lost record is held until confirmed.
    LostIsHeld,
}

/// Whether a row applies.
#[inline]
pub(super) fn applies(rule: Rule, when: bool) -> bool {
    when && is_on(rule)
}

/// Whether what a row asks for is there.
#[inline]
pub(super) fn requires(rule: Rule, holds: bool) -> bool {
    holds || !is_on(rule)
}

/// Whether every item has it; one is enough where the rule is off.
#[inline]
pub(super) fn every<T>(rule: Rule, mut items: impl Iterator<Item = T>, has: impl Fn(T) -> bool) -> bool {
    if is_on(rule) { items.all(has) } else { items.any(has) }
}

#[cfg(not(feature = "mutants"))]
const fn is_on(_: Rule) -> bool {
    true
}

#[cfg(feature = "mutants")]
use switch::is_on;
#[cfg(feature = "mutants")]
pub use switch::without;

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    use super::Rule;

    thread_local! {
        static OFF: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    pub(super) fn is_on(rule: Rule) -> bool {
        OFF.get() != Some(rule)
    }

    /// What `run` gives with one rule off.
    pub fn without<T>(rule: Option<Rule>, run: impl FnOnce() -> T) -> T {
        OFF.set(rule);
        let result = run();
        OFF.set(None);
        result
    }
}
