//! Searches of the whole world: what must hold in every state, and that every state has a way back.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Instant,
};

use data_embassy::api::failover_record::{Role, VolumeCondition};
use rustc_hash::FxHashMap;
use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use crate::{
    events::{Event, Memory, Site, State, World},
    world::{Do, HOME, Setting, decided},
};

impl Model for World {
    type State = State;
    type Action = Event;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, events: &mut Vec<Event>) {
        self.events(state, events);
    }

    fn next_state(&self, before: &State, event: Event) -> Option<State> {
        self.next(before, event)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("every state is sound", |world: &World, state: &State| {
                unsound(world, state).is_none()
            }),
            Property::sometimes("an embassy is active", |_, s: &State| s.writable(1) || s.writable(2)),
            Property::sometimes("home is active again", |world: &World, s: &State| {
                s.writable(HOME) && s.sites[HOME].record.epoch > world.setting.epoch(2, 1)
            }),
            Property::sometimes("a site diverged", |_, s: &State| {
                s.sites[HOME].record.role == Role::Diverged
            }),
            Property::sometimes("an abort completed", |world: &World, s: &State| {
                s.writable(HOME)
                    && s.sites[1].record.role == Role::Standby
                    && s.sites[1].record.epoch == s.sites[HOME].record.epoch
                    && s.sites[HOME].record.epoch > world.setting.epoch(1, HOME)
                    && s.vaults[1].points[1].epoch == 0
            }),
            Property::sometimes("a site is copied anew", |_, s: &State| s.sites[HOME].record.reclone),
        ]
    }
}

/// The invariant that a state breaks.
pub fn unsound(world: &World, state: &State) -> Option<&'static str> {
    let sites = 0..world.setting.sites;
    let writable = sites.clone().filter(|i| state.writable(*i)).count();
    if !world.lies && writable > 1 {
        return Some("I1 one writable site");
    }
    for i in sites {
        let record = &state.sites[i].record;
        // A record that was lost or taken back is held while what it had started is being stopped: there every start and every
        // write is judged instead.
        if !state.writable(i) || world.losses || world.taken_back {
            continue;
        }
        if world.setting.site(record.epoch) != i
            || matches!(record.role, Role::Standby | Role::Demoted | Role::Diverged)
        {
            return Some("I4 writable, so owner");
        }
        if state.sites[i].booted || record.cold {
            return Some("I5 started cold, so fenced");
        }
    }
    if world.one_fault && !state.writable(HOME) {
        return Some("I6 home stays writable");
    }
    // With more sites the points that are in reach may be older than the copy that was begun.
    let one_vault = world.setting.sites == 2;
    if world.halves && one_vault && (0..world.setting.sites).any(|i| rests_on_half(world, state, i)) {
        return Some(RESTS);
    }
    state.broken
}

const RESTS: &str = "a standby rests with half a copy, and its vault has whole ones";

/// Whether a standby does nothing about volumes that are not whole, although a point could make them so.
fn rests_on_half(world: &World, state: &State, i: usize) -> bool {
    let site = &state.sites[i];
    let view = state.view(world.setting, i);
    let whole = matches!(view.volume.condition, VolumeCondition::Clean | VolumeCondition::Live);
    let points = view.points.iter().chain([&view.own]).any(|point| point.epoch != 0);
    site.alive
        && !site.booted
        && site.memory == Memory::Whole
        && site.record.role == Role::Standby
        && !site.record.reclone
        && view.reach != 0
        && !whole
        && points
        && decided(world.setting, &view) == Do::Nothing
}

/// What a search of the whole world found.
pub struct Found {
    pub states: usize,
    pub depth: usize,
    pub reached: Vec<&'static str>,
    /// The invariant that breaks, in the fewest events that break one.
    pub broken: Option<(&'static str, Vec<Event>)>,
}

/// How far a search goes.
#[derive(Clone, Copy)]
pub enum Bound {
    /// To the end.
    None,
    /// To the states that so many events lead to.
    Events(usize),
    /// To about so many states.
    States(usize),
}

pub fn search(world: World, bound: Bound) -> Found {
    let checker = world.checker().threads(1).finish_when(HasDiscoveries::AnyFailures);
    let checker = match bound {
        Bound::None => checker,
        // The checker counts states on a path, not the events between them.
        Bound::Events(events) => checker.target_max_depth(events + 1),
        Bound::States(states) => checker.target_state_count(states),
    };
    let checker = checker.spawn_bfs().join();
    let found = checker.discoveries();
    let mut result = Found {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        reached: vec![],
        broken: None,
    };
    for property in world.properties() {
        let Some(path) = found.get(property.name) else { continue };
        match property.expectation {
            Expectation::Always => {
                let what = unsound(&world, path.last_state()).unwrap();
                result.broken = Some((what, path.clone().into_actions()));
            }
            _ => result.reached.push(property.name),
        }
    }
    result
}

/// Searches a world; `expected` names what must happen in it at least once, so that it is not idly safe.
pub fn holds(name: &str, world: World, bound: Bound, expected: &[&str]) {
    let start = Instant::now();
    let found = search(world, bound);
    if let Some((what, events)) = found.broken {
        panic!("{name}: {what} is broken in {} steps: {events:?}", events.len());
    }
    println!(
        "{name}: all invariants hold in {} states, depth {}, {:.1} s; reached: {}",
        found.states,
        found.depth,
        start.elapsed().as_secs_f64(),
        found.reached.join(", ")
    );
    for wanted in expected {
        assert!(found.reached.contains(wanted), "{name}: never reached '{wanted}'");
    }
}

/// How a search for ways back ended.
pub struct Ways {
    pub states: usize,
    pub stuck: usize,
    /// The first events that lead to a state without a way back, and that state.
    pub example: Option<(Vec<Event>, State)>,
}

/// Whether from every reachable state heals, approvals, lifts, and between embassies planned orders home, lead to one active
/// site with the others in step (I11); for the states that at most so many events lead to.
pub fn ways_back(world: &World, events: usize) -> Ways {
    let mut graph = Graph::default();
    graph.visit(world.setting.sites, &world.start(), None);
    // First all that can happen; then, from everything, what heals.
    graph.explore(world, Some(events));
    let reachable = graph.good.len();
    graph.explore(world, None);
    let back = graph.leads_back();
    let stuck: Vec<usize> = (0..reachable).filter(|id| !back[*id]).collect();
    Ways { states: reachable, stuck: stuck.len(), example: stuck.first().map(|id| graph.way_to(*id)) }
}

/// Two states with one fingerprint would be taken for one: not to be expected among fewer than 2^32.
fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

#[derive(Default)]
struct Graph {
    ids: FxHashMap<u64, u32>,
    states: Vec<State>,
    good: Vec<bool>,
    /// Events from the start, in the fewest.
    depth: Vec<u8>,
    reached_by: Vec<Option<(u32, Event)>>,
    /// Healing edges, backwards.
    edges: Vec<(u32, u32)>,
}

impl Graph {
    fn visit(&mut self, sites: usize, state: &State, by: Option<(u32, Event)>) -> u32 {
        let id = u32::try_from(self.states.len()).unwrap();
        let known = *self.ids.entry(fingerprint(state)).or_insert(id);
        if known == id {
            self.good.push(in_step(sites, state));
            self.states.push(*state);
            self.depth.push(by.map_or(0, |(from, _)| self.depth[from as usize].saturating_add(1)));
            self.reached_by.push(by);
        }
        known
    }

    /// Everything that can happen, as far as so many events; without a bound, only what heals.
    fn explore(&mut self, world: &World, bound: Option<usize>) {
        let mut events = vec![];
        let mut next = 0;
        while next < self.states.len() {
            let state = self.states[next];
            events.clear();
            match bound {
                Some(bound) if usize::from(self.depth[next]) < bound => world.events(&state, &mut events),
                Some(_) => {}
                None => healing_events(world, &state, &mut events),
            }
            let from = u32::try_from(next).unwrap();
            for event in &events {
                let Some(after) = world.next(&state, *event) else { continue };
                let id = self.visit(world.setting.sites, &after, Some((from, *event)));
                if bound.is_none() {
                    self.edges.push((id, from));
                }
            }
            next += 1;
        }
    }

    fn leads_back(&mut self) -> Vec<bool> {
        self.edges.sort_unstable();
        let mut back = self.good.clone();
        let mut queue: Vec<usize> = (0..back.len()).filter(|id| back[*id]).collect();
        while let Some(to) = queue.pop() {
            let first = self.edges.partition_point(|edge| (edge.0 as usize) < to);
            for (_, from) in self.edges[first..].iter().take_while(|edge| edge.0 as usize == to) {
                if !back[*from as usize] {
                    back[*from as usize] = true;
                    queue.push(*from as usize);
                }
            }
        }
        back
    }

    fn way_to(&self, id: usize) -> (Vec<Event>, State) {
        let (mut events, mut at) = (vec![], id);
        while let Some((from, event)) = self.reached_by[at] {
            events.push(event);
            at = from as usize;
        }
        events.reverse();
        (events, self.states[id])
    }
}

/// What lifts faults, what the operators do by themselves, what people approve.
pub fn healing_events(world: &World, state: &State, events: &mut Vec<Event>) {
    if state.broken.is_some() {
        return;
    }
    let setting = world.setting;
    events.extend((1..setting.sites).filter(|k| !state.links[*k]).map(Event::Link));
    for i in 0..setting.sites {
        let off = !state.sites[i].alive;
        events.extend(off.then_some(Event::PowerOn(i)));
        events.extend([Event::Step(i), Event::Lift(i), Event::Approve(i)]);
        for vault in crate::events::vaults_of(setting, i) {
            events.push(Event::Backup(i, vault));
            if !world.prompt_mail {
                events.extend([Event::Read(i, vault), Event::Post(i, vault)]);
            }
        }
        if world.taken_back || world.losses {
            events.extend(heals_after_loss(world, state, i));
        }
        events.extend(heals_by_order(world.setting, state, i, [world.numbers + 1, world.numbers + 2]));
    }
}

/// What the runbooks of lost records and namespaces say: a site whose bytes nobody can name gives them up, and where nobody
/// rules people fence one site, force the role to the other, and lift.
fn heals_after_loss(world: &World, state: &State, i: usize) -> Vec<Event> {
    let epoch = world.setting.epoch(world.numbers + 2, i);
    let nobody_rules = !state.sites.iter().take(world.setting.sites).any(|site| site.record.role.owns());
    let mut events = vec![];
    if state.sites[i].memory == Memory::Gone {
        events.push(Event::Empty(i));
    }
    if nobody_rules {
        events.extend([Event::HumanFence(i), Event::Attest(i, epoch), Event::Forced(i, epoch)]);
    }
    events
}

/// With three sites people order, too: two embassies share no vault, and only by way of home do all follow again; and a switch
/// whose target meanwhile let a higher epoch of a third site pass is ordered back.
pub fn heals_by_order(setting: Setting, state: &State, i: usize, [back, home]: [u8; 2]) -> Option<Event> {
    match state.sites[i].record.role {
        _ if setting.sites < 3 => None,
        Role::Demoted => Some(Event::Planned(i, setting.epoch(back, i))),
        _ if i != HOME => Some(Event::Planned(i, setting.epoch(home, HOME))),
        _ => None,
    }
}

/// One site is active and every other one a free standby with its bytes, in its epoch.
pub fn in_step(sites: usize, state: &State) -> bool {
    let free = |site: &Site| {
        site.alive && !site.booted && site.memory == Memory::Whole && !site.record.cold && !site.record.human
    };
    state.links.iter().all(|link| *link)
        && (0..sites).any(|active| {
            let ruler = &state.sites[active];
            let follows = |site: &Site| {
                site.record.role == Role::Standby
                    && !site.pods
                    && !site.record.reclone
                    && !site.hollow
                    && site.volume.copy.data == ruler.volume.copy.data
                    && site.volume.condition == VolumeCondition::Clean
                    && site.record.epoch == ruler.record.epoch
            };
            free(ruler)
                && ruler.pods
                && !ruler.hollow
                && ruler.record.role == Role::Active
                && (0..sites)
                    .filter(|i| *i != active)
                    .all(|i| free(&state.sites[i]) && follows(&state.sites[i]))
        })
}
