//! Checks the production `decide` in a small world, in every order of events: I1 to I8 and I10 hold in every reachable
//! state, and from every reachable state heals and approvals alone lead back to one active site and a standby in step.
//!
//! `cargo test --test failover_model -- --nocapture` prints the sizes of what was searched.

#![cfg(test)]

#[path = "failover/world.rs"]
mod world;

use std::{collections::HashMap, time::Instant};

use data_embassy::api::failover_record::Role;
use stateright::{Checker, Expectation, Model, Property};
use world::{Bytes, Command, Do, E, Letter, Names, Record, SmallView, Volume, decided, length, prefix};

/// Which events are in the world.
#[derive(Clone, Copy, Debug)]
struct World {
    names: Names,
    /// Orders use numbers up to this.
    numbers: u8,
    writes: usize,
    power: bool,
    crash: bool,
    people: bool,
    /// Whether attestations may be false.
    lies: bool,
    /// At most one fault at a time, never in home itself.
    one_fault: bool,
    human_fence: bool,
    /// Mail flows at once where the link allows: a smaller graph for more numbers.
    prompt_mail: bool,
}

const BASE: World = World {
    names: Names { home_last: false },
    numbers: 3,
    writes: 1,
    power: true,
    crash: false,
    people: true,
    lies: false,
    one_fault: false,
    human_fence: true,
    prompt_mail: true,
};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Site {
    alive: bool,
    booted: bool,
    pods: bool,
    record: Record,
    volume: Volume,
    read: Option<Letter>,
    posted: Option<Letter>,
    unread: bool,
    /// The forced order that names the current ticket.
    fresh: E,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State {
    sites: [Site; 2],
    link: bool,
    points: [Bytes; 2],
    approved: u32,
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Event {
    Link,
    PowerOff(usize),
    PowerOn(usize),
    Crash(usize),
    Write(usize),
    Backup(usize),
    Read(usize),
    Post(usize),
    Step(usize),
    Planned(usize, E),
    Attest(usize, E),
    Forced(usize, E),
    HumanFence(usize),
    Lift(usize),
    Approve(usize),
}

impl State {
    fn reach(&self, i: usize) -> bool {
        self.sites[1].alive && (i == 1 || self.link)
    }

    fn writable(&self, i: usize) -> bool {
        self.sites[i].alive && self.sites[i].pods
    }

    fn view(&self, i: usize) -> SmallView {
        let (site, peer) = (&self.sites[i], 1 - i);
        SmallView {
            me: i,
            record: site.record,
            booted: site.booted,
            pods: site.pods,
            volume: site.volume,
            letter: site.read,
            drained: !self.sites[peer].unread,
            reach: self.reach(i),
            own: self.points[i],
            peer: self.points[peer],
            command: None,
            lift: false,
            approved: site.record.diverged != 0 && self.approved & (1 << site.record.diverged) != 0,
        }
    }

    /// What site `i` would say now. A site with a writable Pod reports itself as ruling, whatever its record says.
    fn letter(&self, i: usize) -> Letter {
        let site = &self.sites[i];
        let record = &site.record;
        let demoted = record.role == Role::Demoted;
        let role = match record.role {
            _ if site.pods => Role::Active,
            Role::Active | Role::Promoting => Role::Active,
            Role::Demoted | Role::Standby => record.role,
            _ => Role::Diverged,
        };
        Letter {
            role,
            epoch: record.epoch,
            intent: if demoted { record.intent } else { 0 },
            abort: record.abort,
            handover: record.handover.filter(|_| demoted),
            held: record.role == Role::Standby && (record.cold || record.human),
            asks: record.cold || record.lifting,
            current: true,
            echo: site.read.is_some_and(|letter| letter.current && letter.asks),
        }
    }

    /// A write of the record at `i` is a new revision: what was made against the old one no longer counts.
    fn new_revision(&mut self, i: usize) {
        let peer = 1 - i;
        if let Some(letter) = &mut self.sites[i].posted {
            letter.current = false;
        }
        if let Some(letter) = &mut self.sites[peer].read {
            letter.current = false;
        }
        if let Some(letter) = &mut self.sites[peer].posted {
            letter.echo = false;
        }
        if let Some(letter) = &mut self.sites[i].read {
            letter.echo = false;
        }
        self.sites[i].fresh = 0;
    }
}

impl World {
    fn start(&self) -> State {
        let first = self.names.epoch(1, 0);
        let bytes = Bytes { data: [0; 3], epoch: first };
        let site = |role, pods| Site {
            alive: true,
            booted: false,
            pods,
            record: Record {
                role,
                epoch: first,
                intent: 0,
                abort: 0,
                human: false,
                lifting: false,
                cold: false,
                diverged: 0,
                reclone: false,
                handover: None,
            },
            volume: Volume { copy: bytes, live: pods },
            read: None,
            posted: None,
            unread: false,
            fresh: 0,
        };
        let mut state = State {
            sites: [site(Role::Active, true), site(Role::Standby, false)],
            link: true,
            points: [bytes, Bytes { data: [0; 3], epoch: 0 }],
            approved: 0,
            broken: None,
        };
        for i in 0..2 {
            let letter = state.letter(i);
            state.sites[i].posted = Some(letter);
            state.sites[1 - i].read = Some(letter);
        }
        state
    }

    fn power_off(state: &mut State, i: usize) {
        let site = &mut state.sites[i];
        (site.alive, site.pods, site.read, site.fresh) = (false, false, None, 0);
        state.sites[1 - i].unread = state.sites[1 - i].posted.is_some();
    }

    fn step(&self, before: &State, event: Event) -> Option<State> {
        let mut state = *before;
        let allowed = match event {
            Event::Link => {
                state.link = !state.link;
                true
            }
            Event::PowerOff(i) => {
                Self::power_off(&mut state, i);
                true
            }
            Event::PowerOn(i) => {
                (state.sites[i].alive, state.sites[i].booted) = (true, true);
                true
            }
            Event::Crash(i) => {
                state.sites[i].read = None;
                state.sites[1 - i].unread = before.sites[1 - i].posted.is_some();
                before.sites[i].alive && before.sites[i].read.is_some()
            }
            Event::Write(i) => self.write(&mut state, i),
            Event::Backup(i) => {
                let site = &before.sites[i];
                state.points[i] = Bytes { data: site.volume.copy.data, epoch: site.record.epoch };
                site.alive
                    && before.reach(i)
                    && site.record.role == Role::Active
                    && site.pods
                    && site.volume.live
            }
            Event::Read(i) => {
                state.sites[i].read = before.sites[1 - i].posted;
                state.sites[1 - i].unread = false;
                // A document with another revision changes the ticket.
                if before.sites[i].read.is_none_or(|letter| !letter.current) {
                    state.sites[i].fresh = 0;
                }
                before.sites[i].alive && before.reach(i) && before.sites[1 - i].unread
            }
            Event::Post(i) => {
                let site = &before.sites[i];
                let letter = before.letter(i);
                (state.sites[i].posted, state.sites[i].unread) = (Some(letter), true);
                site.alive && !site.booted && before.reach(i) && site.posted != Some(letter)
            }
            Event::HumanFence(i) => {
                let site = &before.sites[i];
                (state.sites[i].record.human, state.sites[i].record.lifting) = (true, false);
                state.new_revision(i);
                site.alive && !site.booted && (!site.record.human || site.record.lifting)
            }
            Event::Approve(i) => {
                state.approved |= 1 << before.sites[i].record.diverged;
                before.sites[i].alive && before.sites[i].record.role == Role::Diverged
            }
            Event::Attest(i, epoch) => self.attest(&mut state, i, epoch),
            Event::Step(i) | Event::Lift(i) | Event::Planned(i, _) | Event::Forced(i, _) => {
                self.decide(before, &mut state, i, event)
            }
        };
        (allowed && state != *before).then_some(state)
    }

    fn write(&self, state: &mut State, i: usize) -> bool {
        if !state.writable(i) || length(state.sites[i].volume.copy.data) >= self.writes {
            return false;
        }
        let site = &mut state.sites[i];
        let end = length(site.volume.copy.data);
        site.volume.copy.data[end] = site.record.epoch;
        if self.names.site(site.record.epoch) != i {
            state.broken = Some("I2");
        }
        if !site.volume.live {
            state.broken = Some("I8: bytes are written that the record calls a committed point");
        }
        true
    }

    /// A person creates a forced order at the target, attesting that the peer is off or completely fenced.
    fn attest(&self, state: &mut State, i: usize, epoch: E) -> bool {
        let (site, peer) = (state.sites[i], state.sites[1 - i]);
        let fenced = peer.record.human && !peer.record.lifting && !peer.pods && peer.fresh == 0;
        state.sites[i].fresh = epoch;
        site.alive && !site.booted && epoch > site.record.epoch && (!peer.alive || fenced || self.lies)
    }

    fn decide(&self, before: &State, state: &mut State, i: usize, event: Event) -> bool {
        let site = &before.sites[i];
        if !site.alive {
            return false;
        }
        let plain = before.view(i);
        let mut view = plain;
        match event {
            Event::Lift(_) if site.record.human && !site.record.lifting => view.lift = true,
            Event::Planned(_, epoch) => view.command = Some(Command { epoch, forced: false, fresh: true }),
            Event::Forced(_, epoch) if site.fresh == epoch => {
                view.command = Some(Command { epoch, forced: true, fresh: true });
            }
            Event::Lift(_) | Event::Forced(..) => return false,
            _ => {}
        }
        let action = decided(self.names, &view);
        // An order that changes nothing is the operator's own step.
        if !matches!(event, Event::Step(_)) && action == decided(self.names, &plain) {
            return false;
        }
        self.act(before, state, i, action, matches!(event, Event::Forced(..)));
        true
    }

    /// Carries one decision out; it touches nothing but site `i` and its own part of the vault (I9).
    fn act(&self, before: &State, state: &mut State, i: usize, action: Do, ordered: bool) {
        let record = before.sites[i].record;
        match action {
            Do::Nothing => {}
            Do::Write(written) => {
                state.sites[i].record = written;
                state.sites[i].booted = false;
                state.new_revision(i);
                Self::check_write(before, state, i, &written, ordered);
            }
            Do::Live => {
                state.sites[i].volume.live = true;
                state.sites[i].volume.copy.epoch = record.epoch;
            }
            Do::Fence => state.sites[i].pods = false,
            Do::Start => state.sites[i].pods = true,
            Do::Backup => {
                if before.sites[i].pods {
                    state.broken = Some("I7: a final point of volumes in use");
                }
                let copy = Bytes { data: before.sites[i].volume.copy.data, epoch: record.epoch };
                state.points[i] = copy;
                state.sites[i].volume = Volume { copy, live: false };
            }
            Do::Restore => self.restore(before, state, i),
        }
    }

    fn check_write(before: &State, state: &mut State, i: usize, written: &Record, ordered: bool) {
        let record = before.sites[i].record;
        let rises = written.role == Role::Promoting
            && (record.role != Role::Promoting || written.epoch != record.epoch)
            || written.role == Role::Active && matches!(record.role, Role::Demoting | Role::Demoted);
        if written.epoch < record.epoch || rises && written.epoch <= record.epoch {
            state.broken = Some("I3");
        }
        if written.role == Role::Promoting && record.role == Role::Standby && !ordered {
            let (peer, bytes) = (&before.sites[1 - i], before.sites[i].volume.copy.data);
            let handed = before.sites[i].read.and_then(|letter| letter.handover).map(|copy| copy.data);
            let left_behind = peer.record.role == Role::Demoted
                && peer.record.intent == written.epoch
                && peer.volume.copy.data != bytes;
            if handed != Some(bytes) || left_behind {
                state.broken = Some("I7");
            }
        }
        if written.role == Role::Active
            && matches!(record.role, Role::Demoting | Role::Demoted)
            && written.epoch <= record.intent
        {
            state.broken = Some("I10");
        }
    }

    fn restore(&self, before: &State, state: &mut State, i: usize) {
        let (old, new) = (before.sites[i].volume.copy, before.points[1 - i]);
        if !prefix(old.data, new.data) {
            let lost = old.data.iter().zip(new.data).skip_while(|(a, b)| **a == *b).map(|(a, _)| *a).max();
            let lost = lost.unwrap_or(0);
            let approved =
                (lost..32).any(|epoch| before.approved & (1 << epoch) != 0 && self.names.site(epoch) == i);
            if lost != 0 && !approved {
                state.broken = Some("I8");
            }
        }
        if new.epoch < old.epoch && new.data != old.data {
            state.broken = Some("I8: an older line over a newer one");
        }
        state.sites[i].volume = Volume { copy: new, live: false };
    }
}

impl Model for World {
    type State = State;
    type Action = Event;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, events: &mut Vec<Event>) {
        if state.broken.is_some() {
            return;
        }
        let faults = u8::from(!state.link) + u8::from(!state.sites[1].alive);
        if !self.one_fault || faults == 0 || !state.link {
            events.push(Event::Link);
        }
        for i in 0..2 {
            if self.power && (!self.one_fault || i == 1 && (faults == 0 || !state.sites[1].alive)) {
                events.push(if state.sites[i].alive { Event::PowerOff(i) } else { Event::PowerOn(i) });
            }
            if self.crash {
                events.push(Event::Crash(i));
            }
            events.extend([
                Event::Write(i),
                Event::Backup(i),
                Event::Read(i),
                Event::Post(i),
                Event::Step(i),
            ]);
            if self.people {
                if self.human_fence {
                    events.extend([Event::HumanFence(i), Event::Lift(i)]);
                }
                events.push(Event::Approve(i));
                for number in 2..=self.numbers {
                    for to in 0..2 {
                        let epoch = self.names.epoch(number, to);
                        events.push(Event::Planned(i, epoch));
                        if to == i {
                            events.extend([Event::Attest(i, epoch), Event::Forced(i, epoch)]);
                        }
                    }
                }
            }
        }
    }

    fn next_state(&self, before: &State, event: Event) -> Option<State> {
        let mut state = self.step(before, event)?;
        if self.prompt_mail {
            for _ in 0..3 {
                for i in 0..2 {
                    state = self.step(&state, Event::Post(i)).unwrap_or(state);
                    state = self.step(&state, Event::Read(1 - i)).unwrap_or(state);
                }
            }
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I1 one writable site", |world: &World, s: &State| {
                world.lies || !(s.writable(0) && s.writable(1))
            }),
            Property::always("I2, I3, I7, I8, I10 in every step", |_, s: &State| s.broken.is_none()),
            Property::always("I4 writable, so owner", |world: &World, s: &State| {
                (0..2).all(|i| {
                    let record = &s.sites[i].record;
                    !s.writable(i)
                        || world.names.site(record.epoch) == i
                            && !matches!(record.role, Role::Standby | Role::Demoted | Role::Diverged)
                })
            }),
            Property::always("I5 started cold, so fenced", |_, s: &State| {
                s.sites.iter().all(|site| !(site.alive && site.pods && (site.booted || site.record.cold)))
            }),
            Property::always("I6 home stays writable", |world: &World, s: &State| {
                !world.one_fault || s.writable(0)
            }),
            Property::sometimes("the embassy is active", |_, s: &State| s.writable(1)),
            Property::sometimes("home is active again", |world: &World, s: &State| {
                s.writable(0) && s.sites[0].record.epoch > world.names.epoch(2, 1)
            }),
            Property::sometimes("a site diverged", |_, s: &State| s.sites[0].record.role == Role::Diverged),
            Property::sometimes("an abort completed", |world: &World, s: &State| {
                s.writable(0)
                    && s.sites[1].record.role == Role::Standby
                    && s.sites[1].record.epoch == s.sites[0].record.epoch
                    && s.sites[0].record.epoch > world.names.epoch(1, 0)
                    && s.points[1].epoch == 0
            }),
            Property::sometimes("a site is copied anew", |_, s: &State| s.sites[0].record.reclone),
        ]
    }
}

/// Searches the whole world; `expected` names what must happen in it at least once, so that it is not idly safe.
fn holds(name: &str, world: World, expected: &[&str]) {
    let start = Instant::now();
    let checker = world.checker().threads(1).spawn_bfs().join();
    let found = checker.discoveries();
    let mut reached = vec![];
    for property in world.properties() {
        let Some(path) = found.get(property.name) else { continue };
        match property.expectation {
            Expectation::Always => {
                let last = path.last_state();
                panic!("{name}: {} is broken by {:?}\n{last:?}", property.name, path.clone().into_actions());
            }
            _ => reached.push(property.name),
        }
    }
    println!(
        "{name}: all invariants hold in {} states, depth {}, {:.1} s; reached: {}",
        checker.unique_state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f64(),
        reached.join(", ")
    );
    for wanted in expected {
        assert!(reached.contains(wanted), "{name}: never reached '{wanted}'");
    }
}

/// From every reachable state, heals, approvals and lifts alone lead to one active site and a standby in step (I11).
fn leads_back(name: &str, world: &World) {
    let start = Instant::now();
    let (mut known, mut states, mut edges) =
        (HashMap::from([(world.start(), 0_u32)]), vec![world.start()], vec![]);
    let (mut next, mut events) = (0, vec![]);
    while next < states.len() {
        let state = states[next];
        events.clear();
        world.actions(&state, &mut events);
        for event in &events {
            let Some(after) = world.next_state(&state, *event) else { continue };
            let id = *known.entry(after).or_insert_with(|| {
                states.push(after);
                u32::try_from(states.len() - 1).unwrap()
            });
            if heals(&state, *event) {
                edges.push((id, u32::try_from(next).unwrap()));
            }
        }
        next += 1;
    }
    drop(known);
    edges.sort_unstable();
    let mut back: Vec<bool> = states.iter().map(in_step).collect();
    let mut queue: Vec<usize> = (0..states.len()).filter(|i| back[*i]).collect();
    while let Some(to) = queue.pop() {
        let first = edges.partition_point(|edge| (edge.0 as usize) < to);
        for (_, from) in edges[first..].iter().take_while(|edge| edge.0 as usize == to) {
            let from = *from as usize;
            if !back[from] {
                back[from] = true;
                queue.push(from);
            }
        }
    }
    let stuck: Vec<&State> =
        states.iter().zip(&back).filter(|(_, back)| !**back).map(|(state, _)| state).collect();
    assert!(
        stuck.is_empty(),
        "{name}: {} of {} states are stuck; the first: {:?}",
        stuck.len(),
        states.len(),
        stuck[0]
    );
    println!(
        "{name}: from all {} states heals and approvals lead back, {:.1} s",
        states.len(),
        start.elapsed().as_secs_f64()
    );
}

fn heals(state: &State, event: Event) -> bool {
    match event {
        Event::Link => !state.link,
        Event::PowerOn(_)
        | Event::Backup(_)
        | Event::Read(_)
        | Event::Post(_)
        | Event::Step(_)
        | Event::Lift(_)
        | Event::Approve(_) => true,
        _ => false,
    }
}

fn in_step(state: &State) -> bool {
    let free = |site: &Site| site.alive && !site.booted && !site.record.cold && !site.record.human;
    state.link
        && (0..2).any(|i| {
            let (active, standby) = (&state.sites[i], &state.sites[1 - i]);
            free(active)
                && free(standby)
                && active.pods
                && active.record.role == Role::Active
                && standby.record.role == Role::Standby
                && !standby.pods
                && !standby.record.reclone
                && standby.volume.copy.data == active.volume.copy.data
                && standby.record.epoch == active.record.epoch
        })
}

#[test]
fn home_stays_writable_under_any_single_fault_outside_it() {
    holds("single faults", World { people: false, one_fault: true, writes: 2, ..BASE }, &[]);
}

#[test]
fn human_fences() {
    let world = World { power: false, writes: 0, numbers: 3, ..BASE };
    holds("human fences, 3 numbers", world, &["the embassy is active", "an abort completed"]);
}

#[test]
fn power_loss() {
    let world = World { human_fence: false, writes: 0, numbers: 3, ..BASE };
    holds("power loss, 3 numbers", world, &["the embassy is active", "home is active again"]);
}

#[test]
fn power_loss_where_home_is_last_by_name() {
    let names = Names { home_last: true };
    holds(
        "power loss, home last by name, 2 numbers",
        World { names, human_fence: false, numbers: 2, ..BASE },
        &[],
    );
}

#[test]
fn false_attestations() {
    let world = World { power: false, human_fence: false, lies: true, writes: 2, numbers: 3, ..BASE };
    holds("false attestations, 3 numbers, 2 writes", world, &["a site diverged", "a site is copied anew"]);
}

#[test]
fn late_mail_and_crashes() {
    let world = World { human_fence: false, writes: 0, numbers: 2, crash: true, prompt_mail: false, ..BASE };
    holds("late mail, crashes, power loss, 2 numbers", world, &["the embassy is active"]);
}

#[test]
fn power_loss_leads_back() {
    leads_back("power loss, 3 numbers", &World { human_fence: false, writes: 0, ..BASE });
}

#[test]
fn divergence_leads_back() {
    let world = World { power: false, human_fence: false, lies: true, numbers: 2, ..BASE };
    leads_back("false attestations, 2 numbers, 1 write", &world);
}
