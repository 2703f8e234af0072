//! Random schedules of the real `decide` in virtual time: a stretch in which anything fails, then one in which all heals. No
//! invariant breaks in the first, and after the second one site is active and every other one in step with it.
//!
//! `SCHEDULES=N FIRST=seed` runs so many from that seed; `SCHEDULE=seed` runs a single one again and prints its events.

use std::{collections::BTreeMap, env, time::Instant};

use data_embassy::{api::failover_record::Role, plan::failover::rules::Rule};
use fastrand::Rng;

use crate::{
    events::{BASE, Event, State, World, vaults_of},
    search::{heals_by_order, in_step, unsound},
    world::Setting,
};

/// Virtual seconds in which things fail.
const TROUBLE: u64 = 600;
/// Virtual seconds after which people with three sites resume one that nobody confirms.
const RESUMED: u64 = TROUBLE + 1_800;
/// Virtual seconds after which everything must be in step again.
const HEALED: u64 = TROUBLE + 7_200;

/// What is due at some moment.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// The operator of a site reads its mail, takes some steps and writes its mail.
    Look(usize),
    Copy(usize),
    Write(usize),
    Cut(usize),
    Power(usize),
    Crash(usize),
    /// Somebody orders, fences, lifts or approves.
    People,
    /// Git applies again everything that was ever ordered.
    Git,
}

struct Schedule {
    world: World,
    state: State,
    random: Rng,
    now: u64,
    due: BTreeMap<(u64, u64), Due>,
    queued: u64,
    orders: Vec<Event>,
    told: Vec<(u64, Event)>,
}

impl Schedule {
    fn new(seed: u64, without: Option<Rule>) -> Self {
        let mut random = Rng::with_seed(seed);
        let setting = Setting { sites: random.usize(2..=3), home_last: random.bool(), without };
        let world = World {
            setting,
            numbers: 6,
            writes: 3,
            lies: random.bool(),
            halves: random.bool(),
            prompt_mail: false,
            ..BASE
        };
        let mut schedule = Self {
            state: world.start(),
            world,
            random,
            now: 0,
            due: BTreeMap::new(),
            queued: 0,
            orders: vec![],
            told: vec![],
        };
        for site in 0..setting.sites {
            schedule.later(10, Due::Look(site));
            schedule.later(40, Due::Copy(site));
            schedule.later(60, Due::Write(site));
            schedule.later(300, Due::Power(site));
            schedule.later(200, Due::Crash(site));
        }
        for embassy in 1..setting.sites {
            schedule.later(200, Due::Cut(embassy));
        }
        schedule.later(60, Due::People);
        schedule.later(90, Due::Git);
        schedule
    }

    /// Within so many seconds.
    fn later(&mut self, within: u64, due: Due) {
        self.queued += 1;
        let at = self.now + self.random.u64(1..=within);
        self.due.insert((at, self.queued), due);
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        let Some(next) = self.world.step(&self.state, event) else { return Ok(()) };
        self.told.push((self.now, event));
        self.state = next;
        match unsound(&self.world, &self.state) {
            Some(what) => Err(format!("{what} is broken")),
            None => Ok(()),
        }
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(((now, _), due)) = self.due.pop_first() {
            self.now = now;
            let healing = now > TROUBLE;
            match due {
                Due::Look(site) => self.look(site)?,
                Due::Copy(site) => self.copy(site)?,
                Due::Write(site) if !healing => self.write(site)?,
                Due::Cut(embassy) if !healing || !self.state.links[embassy] => self.cut(embassy)?,
                Due::Power(site) if !healing || !self.state.sites[site].alive => self.power(site)?,
                Due::Crash(site) if !healing => {
                    self.happen(Event::Crash(site))?;
                    self.later(200, due);
                }
                Due::People => self.people(healing)?,
                Due::Git => self.git()?,
                Due::Write(_) | Due::Cut(_) | Due::Power(_) | Due::Crash(_) => {}
            }
            if healing && in_step(self.world.setting.sites, &self.state) {
                return Ok(());
            }
            if now > HEALED {
                return Err("no way back was found".to_owned());
            }
        }
        Err("nothing is left to do".to_owned())
    }

    fn look(&mut self, site: usize) -> Result<(), String> {
        let vaults = vaults_of(self.world.setting, site);
        for vault in vaults.clone() {
            self.happen(Event::Read(site, vault))?;
        }
        for _ in 0..self.random.usize(1..=4) {
            self.happen(Event::Step(site))?;
        }
        for vault in vaults {
            self.happen(Event::Post(site, vault))?;
        }
        self.later(20, Due::Look(site));
        Ok(())
    }

    fn copy(&mut self, site: usize) -> Result<(), String> {
        for vault in vaults_of(self.world.setting, site) {
            self.happen(Event::Backup(site, vault))?;
        }
        self.later(40, Due::Copy(site));
        Ok(())
    }

    fn write(&mut self, site: usize) -> Result<(), String> {
        self.happen(Event::Write(site))?;
        self.later(60, Due::Write(site));
        Ok(())
    }

    fn cut(&mut self, embassy: usize) -> Result<(), String> {
        self.happen(Event::Link(embassy))?;
        self.later(if self.state.links[embassy] { 200 } else { 100 }, Due::Cut(embassy));
        Ok(())
    }

    fn power(&mut self, site: usize) -> Result<(), String> {
        let alive = self.state.sites[site].alive;
        let event = match (alive, self.random.u8(0..4)) {
            (true, 0) => Event::NodesLost(site),
            (true, _) => Event::PowerOff(site),
            (false, _) => Event::PowerOn(site),
        };
        self.happen(event)?;
        self.later(if self.state.sites[site].alive { 300 } else { 100 }, Due::Power(site));
        Ok(())
    }

    fn people(&mut self, healing: bool) -> Result<(), String> {
        let sites = self.world.setting.sites;
        let site = self.random.usize(0..sites);
        if self.now > RESUMED && sites > 2 {
            self.resume()?;
        }
        let event = if healing {
            let next = self.next_number();
            let order = heals_by_order(self.world.setting, &self.state, site, [next, next]);
            match (self.random.u8(0..3), order) {
                (0, _) => Event::Approve(site),
                (1, Some(order)) => order,
                _ => Event::Lift(site),
            }
        } else {
            let known =
                self.state.sites.iter().map(|site| site.record.epoch.max(site.record.intent) / 4).max();
            let number = (known.unwrap_or(1) + self.random.u8(1..=2)).min(self.world.numbers);
            let epoch = self.world.setting.epoch(number, self.random.usize(0..sites));
            match self.random.u8(0..8) {
                0 => Event::HumanFence(site),
                1 => Event::Lift(site),
                2 => Event::Approve(site),
                3..=5 => Event::Planned(site, epoch),
                _ => Event::Attest(self.world.setting.site(epoch), epoch),
            }
        };
        if let Event::Attest(to, epoch) = event {
            self.happen(event)?;
            self.orders.push(Event::Forced(to, epoch));
            self.happen(Event::Forced(to, epoch))?;
        } else {
            self.happen(event)?;
            self.orders.extend(matches!(event, Event::Planned(..)).then_some(event));
        }
        self.later(60, Due::People);
        Ok(())
    }

    /// The number that people take for an order that nothing known stands above.
    fn next_number(&self) -> u8 {
        let known = self.state.sites.iter().map(|site| &site.record);
        let top = known.map(|record| record.epoch.max(record.intent).max(record.abort)).max();
        (top.unwrap_or(0) / 4 + 1).min(15)
    }

    /// With three sites, an epoch that was let pass and never entered may stand above the ruler: nobody confirms it or follows it
    /// any more. People then fence every site and order that one to resume (ADR 3).
    fn resume(&mut self) -> Result<(), String> {
        let setting = self.world.setting;
        let record = |site: usize| &self.state.sites[site].record;
        let overruled = |site: &usize| {
            let own = record(*site);
            let above = setting.others(*site).any(|other| record(other).epoch > own.epoch);
            own.role.owns() && (own.cold || own.human || above)
        };
        let Some(site) = (0..setting.sites).filter(overruled).max_by_key(|site| record(*site).epoch) else {
            return Ok(());
        };
        for any in 0..setting.sites {
            self.happen(Event::HumanFence(any))?;
        }
        let epoch = setting.epoch(self.next_number(), site);
        self.happen(Event::Attest(site, epoch))?;
        self.happen(Event::Forced(site, epoch))
    }

    /// Every order at every site, in any sequence.
    fn git(&mut self) -> Result<(), String> {
        let mut orders = self.orders.clone();
        self.random.shuffle(&mut orders);
        for order in orders {
            self.happen(order)?;
        }
        self.later(90, Due::Git);
        Ok(())
    }
}

fn one(seed: u64, without: Option<Rule>) -> Result<Schedule, String> {
    let mut schedule = Schedule::new(seed, without);
    match schedule.run() {
        Ok(()) => Ok(schedule),
        Err(what) => {
            let events: Vec<String> =
                schedule.told.iter().map(|(at, event)| format!("{at:>5} s  {event:?}")).collect();
            Err(format!(
                "{what} in the schedule of seed {seed}; run it again with SCHEDULE={seed}\n{}\n{:?}",
                events.join("\n"),
                schedule.state
            ))
        }
    }
}

/// The first of so many schedules in which a rule is missed, and what breaks.
pub fn misses(rule: Rule, count: u64) -> Option<(u64, String)> {
    (1..=count).find_map(|seed| one(seed, Some(rule)).err().map(|what| (seed, what)))
}

#[test]
fn random_schedules() {
    if let Some(seed) = env::var("SCHEDULE").ok().and_then(|seed| seed.parse().ok()) {
        let schedule = one(seed, None).unwrap_or_else(|failure| panic!("{failure}"));
        schedule.told.iter().for_each(|(at, event)| println!("{at:>5} s  {event:?}"));
        return;
    }
    let count: u64 = env::var("SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(100_000);
    let first: u64 = env::var("FIRST").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("{count} schedules from seed {first}");
    let start = Instant::now();
    let workers: Vec<_> = (0..2)
        .map(|worker| {
            std::thread::spawn(move || {
                (first + worker..first + count).step_by(2).try_fold(Seen::default(), add)
            })
        })
        .collect();
    let mut seen = Seen::default();
    for handle in workers {
        seen.join(&handle.join().unwrap().unwrap_or_else(|failure| panic!("{failure}")));
    }
    println!("{seen:?} in {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!(seen.schedules, count);
    assert!(seen.moved > 0 && seen.diverged > 0 && seen.held > 0 && seen.three > 0, "idly safe: {seen:?}");
}

/// What happened in the schedules, so that they are not idly safe.
#[derive(Default, Debug)]
struct Seen {
    schedules: u64,
    events: u64,
    three: u64,
    moved: u64,
    diverged: u64,
    held: u64,
}

impl Seen {
    fn join(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.events += other.events;
        self.three += other.three;
        self.moved += other.moved;
        self.diverged += other.diverged;
        self.held += other.held;
    }
}

fn add(mut seen: Seen, number: u64) -> Result<Seen, String> {
    let schedule = one(number, None)?;
    let world = schedule.world;
    let active = schedule.state.sites.iter().position(|site| site.record.role == Role::Active);
    seen.join(&Seen {
        schedules: 1,
        events: schedule.told.len() as u64,
        three: u64::from(world.setting.sites == 3),
        moved: u64::from(
            active.is_some_and(|i| schedule.state.sites[i].record.epoch > world.setting.epoch(2, 0)),
        ),
        diverged: u64::from(schedule.state.approved != 0),
        held: u64::from(schedule.told.iter().any(|(_, event)| matches!(event, Event::PowerOn(_)))),
    });
    Ok(seen)
}
