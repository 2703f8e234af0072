//! Each rule of the protocol is switched off, one at a time, and the model must find it missing.

use std::time::Instant;

use data_embassy::plan::failover::rules::Rule;

use crate::{
    events::{BASE, THREE, World},
    schedules::misses,
    search::{Bound, search},
    world::Setting,
};

/// What becomes of the protocol without a rule.
enum Fate {
    /// This invariant breaks in this world.
    Breaks(World, &'static str),
    /// A random schedule ends like this.
    Ends(&'static str),
    /// Not missed in any of these worlds, nor in the schedules: why that is to be expected.
    Survives(&'static str),
}

use Fate::{Breaks, Ends, Survives};

/// Random schedules in which a rule must be missed.
const SCHEDULES: u64 = 4_000;

const STUCK: &str = "no way back was found";
const I1: &str = "I1 one writable site";
const I5: &str = "I5 started cold, so fenced";
const I7: &str = "I7 a planned switch loses nothing";
const I8: &str = "I8 bytes are given up by approval only";
const I10: &str = "I10 no old order changes who is active";
const MISNAMED: &str = "I8: a restore compares with other bytes than are there";
const OLDER: &str = "I8: an older line over a newer one";

const FENCES: World = World { power: 0, writes: 0, ..BASE };
const POWER: World = World { human_fence: false, writes: 0, ..BASE };
const LIES: World = World { power: 0, human_fence: false, lies: true, ..BASE };
const TAKEN_BACK: World = World { taken_back: true, numbers: 2, writes: 1, ..POWER };
const DELETES: World = World { deletes: true, power: 0, human_fence: false, ..BASE };
const LOSSES: World = World { losses: true, numbers: 2, writes: 1, ..FENCES };
const THREE_LIES: World = World { power: 0, human_fence: false, lies: true, ..THREE };

const TABLE: &[(Rule, Fate)] = &[
    (Rule::ColdStartFences, Breaks(POWER, I5)),
    (Rule::OwnerYields, Ends(STUCK)),
    (Rule::FencedYields, Ends(STUCK)),
    (Rule::EpochIsLearned, Ends(STUCK)),
    (Rule::OnlyTheOwnerSpeaks, Ends(STUCK)),
    (Rule::ConfirmationEchoes, Breaks(FENCES, I1)),
    (
        Rule::ConfirmationIsNotAbove,
        Survives(
            "a site above that does not rule has learned of a ruler, which does not confirm; kept for mail that comes out of order",
        ),
    ),
    (Rule::ConfirmationDoesNotRule, Breaks(FENCES, I1)),
    (Rule::EveryOtherSiteConfirms, Ends(I1)),
    (Rule::ColdFenceIsConfirmed, Breaks(POWER, I1)),
    (Rule::LiftIsConfirmed, Breaks(FENCES, I1)),
    (
        Rule::PodsAreRuling,
        Survives(
            "in the world a record that stops ruling is posted only after the Pods are gone wherever it matters within these bounds; tests/e2e case_fence looks at the containers themselves",
        ),
    ),
    (Rule::DeletedClaimsAreCopiedAnew, Breaks(DELETES, "I8")),
    (Rule::OnlyWholeVolumesServe, Breaks(DELETES, "an incomplete copy is served")),
    (Rule::OrderAboveEpoch, Survives("OrderAboveIntents compares with the record's epoch, too")),
    (Rule::OrderAboveIntents, Breaks(FENCES, I10)),
    (
        Rule::ForcedIsNotForTheActive,
        Survives("what it would do is a new epoch of the same ruler; it only spares a restart of the reign"),
    ),
    (Rule::TicketIsCurrent, Breaks(FENCES, I1)),
    (
        Rule::MailIsReadFirst,
        Survives(
            "an attestation is void once a newer document was read, so that unread mail changes a promotion only if the attestation was false",
        ),
    ),
    (Rule::NewestIsRestoredFirst, Breaks(LIES, "an acknowledged point is left behind")),
    (Rule::OwnBytesAreKeptFirst, Breaks(LIES, "I8")),
    (
        Rule::RecloneIsFinishedFirst,
        Survives(
            "bytes that were given up are behind the newest point, which is restored first in any case while its vault is in reach",
        ),
    ),
    (
        Rule::CompletedByNoOlderLine,
        Survives(
            "needs a re-clone stopped half-way, a cut link and a forced order in a row: seen once in 9,006 random schedules (ADR 3)",
        ),
    ),
    (Rule::OnlyTheActiveGives, Breaks(FENCES, I10)),
    (
        Rule::HeldGivesNothing,
        Survives(
            "a held site has no Pods to stop: its handover is as good as another; the rule keeps people's fence from being overtaken by Git",
        ),
    ),
    (Rule::GivenWithinOneVault, Ends(STUCK)),
    (
        Rule::TargetReports,
        Survives("a switch to a silent site waits, and can be cancelled; the rule spares the outage"),
    ),
    (
        Rule::TargetIsStandby,
        Survives("a switch to another role waits and can be asked back; the rule spares the outage"),
    ),
    (
        Rule::TargetIsFree,
        Survives("a switch to a held site waits until it is lifted; the rule spares the outage"),
    ),
    (Rule::CancelRaisesTheEpoch, Breaks(FENCES, "I3")),
    (Rule::HeldRunsNothing, Breaks(FENCES, "I5")),
    (Rule::LiveBeforeStart, Breaks(LIES, "I8: bytes are written that the record calls a committed point")),
    (Rule::FenceIsComplete, Breaks(FENCES, "I7: a final point of volumes in use")),
    (
        Rule::FinalPointIsOfThisReign,
        Survives("a ruler's volumes are live, and only a copy under its own epoch makes them clean"),
    ),
    (Rule::AbortIsLetPass, Breaks(FENCES, I1)),
    (Rule::OnlyAPrefixIsStandby, Survives("row 7c takes a standby with bytes of its own for diverged")),
    (
        Rule::OnlyTheTargetLetsPass,
        Survives(
            "two sites have one target; with three, who lets pass without being asked only learns a number",
        ),
    ),
    (
        Rule::AbortIsAbove,
        Survives("an epoch at or below the known one is refused by check_write (I3) before it is written"),
    ),
    (
        Rule::DivergedLetsPass,
        Survives("the role is seldom given to a site that diverged; the giver is then ordered by force"),
    ),
    (Rule::HandoverIsNotOld, Breaks(THREE_LIES, "I3")),
    (
        Rule::HandoverStands,
        Survives(
            "row 7a comes first: the target lets the abort pass, and HandoverIsNotOld refuses the handover after it",
        ),
    ),
    (
        Rule::HeldTakesNothing,
        Survives("a held site promotes and starts nothing until it is lifted or confirmed (HeldRunsNothing)"),
    ),
    (
        Rule::HandoverMailIsRead,
        Survives("operators read all mail before they decide; HandoverIsNotOld refuses what was overruled"),
    ),
    (Rule::HandoverBytesAreHere, Breaks(LIES, I7)),
    (
        Rule::RecloneTakesNothing,
        Survives("bytes that are not whole are not those that were handed over (HandoverBytesAreHere)"),
    ),
    (Rule::NewestByEpoch, Ends(OLDER)),
    (Rule::OnlyContinuationsAreRestored, Ends(I8)),
    (Rule::RecloneIsOfThisReign, Ends(OLDER)),
    (Rule::DiscardIsApproved, Breaks(LIES, I8)),
    (Rule::ApprovalNamesNumber, Ends(I8)),
    (Rule::DiscardHasAReplacement, Survives("row 7d waits for a point of the reign in force")),
    (Rule::MailAheadIsAdopted, Breaks(TAKEN_BACK, MISNAMED)),
    (Rule::AdoptedIsHeld, Breaks(TAKEN_BACK, I1)),
    (Rule::LostIsHeld, Breaks(LOSSES, I1)),
];

/// What was found, and whether it is what the table says.
fn judged(rule: Rule, fate: &Fate) -> (String, bool) {
    match fate {
        Breaks(world, expected) => {
            let world = World { setting: Setting { without: Some(rule), ..world.setting }, ..*world };
            match search(world, Bound::States(3_000_000)).broken {
                Some((what, events)) => (format!("{what}, in {} events", events.len()), what == *expected),
                None => ("survives".to_owned(), false),
            }
        }
        Ends(expected) => match misses(rule, SCHEDULES) {
            Some((seed, what)) => {
                let what = what.split(" in the schedule").next().unwrap_or_default().to_owned();
                let as_expected = what.trim_end_matches(" is broken") == *expected;
                (format!("{what}, in schedule {seed}"), as_expected)
            }
            None => ("survives".to_owned(), false),
        },
        Survives(why) => (format!("survives: {why}"), true),
    }
}

#[test]
fn every_rule_is_missed() {
    let mut wrong = vec![];
    for (rule, fate) in TABLE {
        let start = Instant::now();
        let (found, expected) = judged(*rule, fate);
        println!("{rule:?}: {found} ({:.1} s)", start.elapsed().as_secs_f64());
        if !expected {
            wrong.push(format!("{rule:?}: {found}"));
        }
    }
    assert!(wrong.is_empty(), "not what the table says:\n{}", wrong.join("\n"));
}

#[test]
fn every_rule_is_in_the_table() {
    let source = include_str!("../../src/plan/failover/rules.rs");
    let rules = source.split("pub enum Rule {").nth(1).and_then(|rest| rest.split("\n}").next()).unwrap();
    let named = rules.lines().filter_map(|line| line.trim().strip_suffix(','));
    let missing: Vec<_> = named
        .filter(|name| {
            !name.starts_with("///") && !TABLE.iter().any(|(rule, _)| format!("{rule:?}") == **name)
        })
        .collect();
    assert!(missing.is_empty(), "no fate is known of {missing:?}");
}
