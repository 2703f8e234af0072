//! Checks the production `decide` in a small world, in every order of events: I1 to I8 and I10 hold in every reachable
//! state, and from every reachable state heals and approvals alone lead back to one active site and standbys in step.
//!
//! `cargo test --test failover_model -- --nocapture` prints the sizes of what was searched; `--ignored` adds larger worlds.

#![cfg(test)]

#[path = "failover/events.rs"]
mod events;
#[path = "failover/mutants.rs"]
mod mutants;
#[path = "failover/schedules.rs"]
mod schedules;
#[path = "failover/search.rs"]
mod search;
#[path = "failover/world.rs"]
mod world;

use std::time::Instant;

use events::{BASE, THREE, World};
use search::{Bound, holds, ways_back};
use world::Setting;

/// More events than the longest way has.
const ALL: usize = 250;

fn leads_back(name: &str, world: World, events: usize) {
    let start = Instant::now();
    let ways = ways_back(&world, events);
    if let Some((events, state)) = ways.example {
        let (stuck, states) = (ways.stuck, ways.states);
        panic!("{name}: {stuck} of {states} states are stuck; the first after {events:?}: {state:?}");
    }
    println!(
        "{name}: from all {} states there is a way back, {:.1} s",
        ways.states,
        start.elapsed().as_secs_f64()
    );
}

const POWER: World = World { human_fence: false, writes: 0, ..BASE };
const FENCES: World = World { power: 0, writes: 0, ..BASE };
const LIES: World = World { power: 0, human_fence: false, lies: true, ..BASE };
const THREE_POWER: World = World { human_fence: false, ..THREE };
const THREE_FENCES: World = World { power: 0, ..THREE };
const THREE_LIES: World = World { power: 0, human_fence: false, lies: true, writes: 1, ..THREE };

#[test]
fn home_stays_writable_under_any_single_fault_outside_it() {
    let world = World { people: false, one_fault: true, writes: 2, ..BASE };
    holds("single faults", world, Bound::None, &[]);
    let world = World { people: false, one_fault: true, writes: 2, ..THREE };
    holds("three sites, single faults", world, Bound::None, &[]);
}

#[test]
fn human_fences() {
    holds("human fences, 3 numbers", FENCES, Bound::None, &["an embassy is active", "an abort completed"]);
}

#[test]
fn power_loss() {
    let expected = ["an embassy is active", "home is active again"];
    holds("power loss, 3 numbers", POWER, Bound::None, &expected);
}

#[test]
fn power_loss_where_home_is_last_by_name() {
    let setting = Setting { home_last: true, ..BASE.setting };
    let world = World { setting, numbers: 2, writes: 1, ..POWER };
    holds("power loss, home last by name, 2 numbers", world, Bound::None, &[]);
}

#[test]
fn false_attestations() {
    let expected = ["a site diverged", "a site is copied anew"];
    holds("false attestations, 3 numbers, 2 writes", World { writes: 2, ..LIES }, Bound::None, &expected);
}

#[test]
fn late_mail_and_crashes() {
    let world = World { numbers: 2, crash: true, prompt_mail: false, ..POWER };
    holds("late mail, crashes, power loss, 2 numbers", world, Bound::None, &["an embassy is active"]);
}

/// Nodes that go one by one are no cold start, and restores stop half-way.
#[test]
fn partial_power_loss_and_half_restores() {
    let world = World { power: 0, partial_power: true, halves: true, writes: 2, numbers: 2, ..LIES };
    let expected = ["a site diverged", "a site is copied anew"];
    holds("partial power loss, half restores, 2 numbers", world, Bound::None, &expected);
}

const TAKEN_BACK: World = World { taken_back: true, numbers: 2, writes: 1, ..POWER };
const RECORDS: Bound = Bound::States(3_000_000);
const LOSSES: World = World { losses: true, numbers: 2, writes: 1, ..FENCES };

/// etcd is restored from a backup; the mail knows better.
#[test]
fn records_taken_back() {
    holds("records taken back, power loss, 1 write", TAKEN_BACK, RECORDS, &["an embassy is active"]);
}

/// Claims are deleted under the copies of standbys, in the middle of switches, too.
#[test]
fn claims_deleted() {
    let deletes = World { deletes: true, power: 0, human_fence: false, ..BASE };
    holds("claims deleted, 3 numbers, 1 write", deletes, Bound::None, &["an embassy is active"]);
    let lies = World { lies: true, halves: true, numbers: 2, ..deletes };
    holds(
        "claims deleted, false attestations, half restores, 2 numbers",
        lies,
        RECORDS,
        &["a site diverged"],
    );
    leads_back("claims deleted, 2 numbers", World { numbers: 2, ..deletes }, ALL);
}

/// Records and whole namespaces are deleted.
#[test]
fn records_lost() {
    holds("records lost, human fences, 1 write", LOSSES, RECORDS, &["an embassy is active"]);
    let halves = World { halves: true, writes: 0, ..LOSSES };
    holds("records lost, half restores", halves, RECORDS, &["an embassy is active"]);
}

#[test]
fn taken_back_and_lost_records_lead_back() {
    leads_back("records taken back, 13 events", World { writes: 0, ..TAKEN_BACK }, 13);
    leads_back("records lost, 11 events", World { writes: 0, ..LOSSES }, 11);
}

#[test]
fn power_loss_leads_back() {
    leads_back("power loss, 2 numbers", World { numbers: 2, ..POWER }, ALL);
}

#[test]
fn divergence_leads_back() {
    leads_back("false attestations, 2 numbers, 1 write", World { numbers: 2, ..LIES }, ALL);
}

#[test]
fn three_sites() {
    holds("three sites, power loss, 8 events", THREE_POWER, Bound::Events(8), &["an embassy is active"]);
    holds("three sites, human fences, 8 events", THREE_FENCES, Bound::Events(8), &["an embassy is active"]);
    holds(
        "three sites, false attestations, 9 events",
        THREE_LIES,
        Bound::Events(9),
        &["an embassy is active"],
    );
}

#[test]
fn three_sites_lead_back() {
    leads_back("three sites, power loss, 5 events", THREE_POWER, 5);
}

/// Larger worlds: `make model-deep`.
mod deep {
    use super::*;

    #[test]
    #[ignore = "takes long"]
    fn power_loss_together_with_human_fences() {
        let world = World { writes: 0, ..BASE };
        holds("power loss and human fences, 3 numbers", world, Bound::States(100_000_000), &[]);
    }

    #[test]
    #[ignore = "takes long"]
    fn late_mail_with_writes() {
        let world = World { numbers: 2, writes: 1, prompt_mail: false, crash: true, lies: true, ..POWER };
        holds("late mail, crashes, false attestations, 1 write", world, Bound::States(100_000_000), &[]);
    }

    #[test]
    #[ignore = "takes long"]
    fn records_taken_back_and_lost() {
        let bound = Bound::States(30_000_000);
        holds("records taken back, power loss, 1 write", TAKEN_BACK, bound, &[]);
        holds("records taken back, false attestations", World { lies: true, ..TAKEN_BACK }, bound, &[]);
        holds("records lost, human fences, 1 write", LOSSES, bound, &[]);
    }

    #[test]
    #[ignore = "takes long"]
    fn power_loss_leads_back_from_three_numbers() {
        leads_back("power loss, 3 numbers", POWER, ALL);
    }

    #[test]
    #[ignore = "takes long"]
    fn three_sites_deeper() {
        holds("three sites, power loss, 12 events", THREE_POWER, Bound::Events(12), &[]);
        holds("three sites, human fences, 12 events", THREE_FENCES, Bound::Events(12), &[]);
        holds("three sites, false attestations, 14 events", THREE_LIES, Bound::Events(14), &[]);
        leads_back("three sites, power loss, 7 events", THREE_POWER, 7);
        leads_back("three sites, false attestations, 8 events", THREE_LIES, 8);
    }
}
