//! What can happen in the world, and what must hold of every step.

use data_embassy::api::failover_record::{Role, VolumeCondition};

use crate::world::{
    Begun, Bytes, Command, Do, E, HOME, Letter, MOST, NO_POINT, Posted, Record, Setting, SmallView, Volume,
    adopted, began, decided, length, letter, prefix,
};

/// Which events are in the world.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub setting: Setting,
    /// Orders use numbers up to this.
    pub numbers: u8,
    pub writes: usize,
    /// A bit for each site that may lose power.
    pub power: u8,
    /// A site may also lose part of its nodes: its Pods are gone, and some node keeps its boot id.
    pub partial_power: bool,
    /// Links are cut and healed.
    pub cuts: bool,
    pub crash: bool,
    pub people: bool,
    /// Whether attestations may be false.
    pub lies: bool,
    /// At most one fault at a time, never in home itself.
    pub one_fault: bool,
    pub human_fence: bool,
    /// Restores stop half-way.
    pub halves: bool,
    /// A site comes back with an older record, restored from a backup; two sites only. What it recorded last was posted: what was
    /// never posted is gone with it.
    pub taken_back: bool,
    /// A record is deleted, alone or with its namespace; two sites only. What it recorded last was posted.
    pub losses: bool,
    /// Claims are deleted under a copy, and made anew.
    pub deletes: bool,
    /// Mail flows at once where the link allows: a smaller graph for more numbers.
    pub prompt_mail: bool,
}

pub const BASE: World = World {
    setting: Setting { sites: 2, home_last: false, without: None },
    numbers: 3,
    writes: 1,
    power: 0b111,
    partial_power: false,
    cuts: true,
    crash: false,
    people: true,
    lies: false,
    one_fault: false,
    human_fence: true,
    halves: false,
    taken_back: false,
    losses: false,
    deletes: false,
    prompt_mail: true,
};

/// Three sites; few numbers, since the graph is large.
pub const THREE: World =
    World { setting: Setting { sites: 3, ..BASE.setting }, numbers: 2, writes: 0, ..BASE };

/// What is left of a site's record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Memory {
    /// It is there.
    Whole,
    /// It is there, and older than the site's mail.
    Behind,
    /// It is gone.
    Gone,
    /// It is gone, and the volumes with it.
    Emptied,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Site {
    pub alive: bool,
    pub booted: bool,
    pub pods: bool,
    pub record: Record,
    /// What is on the disks.
    pub volume: Volume,
    /// What the record says of them, where that differs.
    pub claim: Option<Volume>,
    /// Whether the claims were deleted since the last whole restore: then nothing is on the disks.
    pub hollow: bool,
    pub memory: Memory,
    pub posted: Option<Posted>,
    /// The backup of a record and its word on the volumes.
    pub kept: Option<(Record, Volume)>,
    /// Whether the record was, or the mail is, of a later revision than the backup.
    pub revised: bool,
    /// The newest document of each other site.
    pub read: [Option<Letter>; MOST],
    /// The forced order that names the current ticket.
    pub fresh: E,
}

/// The vault of an embassy, its mail and its points. Slot 0 is home's, slot 1 the embassy's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Vault {
    pub letters: [Option<Letter>; 2],
    /// What home's letter passes on of the other embassies.
    pub enclosed: [Option<Letter>; MOST],
    /// Whether the reader has not read it.
    pub unread: [bool; 2],
    pub points: [Bytes; 2],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    pub sites: [Site; MOST],
    /// By the site of the vault; home has none.
    pub vaults: [Vault; MOST],
    /// From home to each embassy.
    pub links: [bool; MOST],
    pub approved: u64,
    pub broken: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    Link(usize),
    PowerOff(usize),
    PowerOn(usize),
    /// The claims are deleted.
    Delete(usize),
    /// Every Pod of the site is gone; some node keeps its boot id.
    NodesLost(usize),
    Crash(usize),
    /// The record is backed up.
    Keep(usize),
    /// Power is back, and with it the record of the backup.
    PowerOnOld(usize),
    /// The record is deleted.
    Lose(usize),
    /// The namespace is deleted, or what is left of it.
    Empty(usize),
    Write(usize),
    /// By a site into a vault.
    Backup(usize, usize),
    Read(usize, usize),
    Post(usize, usize),
    Step(usize),
    Planned(usize, E),
    Attest(usize, E),
    Forced(usize, E),
    HumanFence(usize),
    Lift(usize),
    Approve(usize),
}

/// The vaults that a site uses: home each embassy's, an embassy its own.
pub fn vaults_of(setting: Setting, i: usize) -> std::ops::Range<usize> {
    if i == HOME { 1..setting.sites } else { i..i + 1 }
}

/// The vault over which a site exchanges mail with another one.
fn towards(i: usize, other: usize) -> usize {
    if i == HOME { other } else { i }
}

/// A site's slot in a vault.
fn slot(i: usize) -> usize {
    usize::from(i != HOME)
}

impl Site {
    /// The volumes as the record has them.
    fn recorded(&self) -> Volume {
        self.claim.unwrap_or(self.volume)
    }

    /// The record says this of the volumes from now on. Of live volumes it says nothing more.
    fn claims(&mut self, claim: Volume) {
        if claim.condition == VolumeCondition::Live {
            self.volume.condition = VolumeCondition::Live;
        }
        self.claim = (claim.condition != VolumeCondition::Live && claim != self.volume).then_some(claim);
    }

    /// What its document says now that only the site itself asks.
    fn to_post(self) -> Posted {
        let volume = self.recorded();
        let at = (volume.condition == VolumeCondition::Clean).then_some(volume.copy);
        Posted { role: self.record.role, diverged: self.record.diverged, at }
    }
}

impl State {
    pub fn reach(&self, i: usize, vault: usize) -> bool {
        self.sites[vault].alive && (i == vault || self.links[vault])
    }

    pub fn writable(&self, i: usize) -> bool {
        self.sites[i].alive && self.sites[i].pods
    }

    /// The newest point of an author that a site knows of.
    fn point(&self, i: usize, author: usize) -> Bytes {
        match (i, author) {
            (_, HOME) if i != HOME => self.vaults[i].points[0],
            (HOME, _) => self.vaults[author].points[1],
            _ => NO_POINT,
        }
    }

    pub fn view(&self, setting: Setting, i: usize) -> SmallView {
        let site = &self.sites[i];
        let unread = |other: usize| self.vaults[towards(i, other)].unread[1 - slot(i)];
        let bits = |has: &dyn Fn(usize) -> bool| {
            setting.others(i).filter(|other| has(*other)).fold(0, |bits, other| bits | 1 << other)
        };
        let own = vaults_of(setting, i).filter(|vault| self.reach(i, *vault));
        let own = own.map(|vault| self.vaults[vault].points[slot(i)]);
        let mut points = [NO_POINT; MOST];
        setting.others(i).for_each(|other| points[other] = self.point(i, other));
        SmallView {
            me: i,
            record: site.record,
            booted: site.booted,
            pods: site.pods,
            volume: site.recorded(),
            replaced: site.hollow && site.recorded().condition == VolumeCondition::Clean,
            letters: site.read,
            drained: bits(&|other| !unread(other)),
            reach: bits(&|other| self.reach(i, towards(i, other))),
            own: own.max_by_key(|copy| (copy.epoch, length(copy.data))).unwrap_or(NO_POINT),
            points,
            command: None,
            fence: false,
            lift: false,
            approved: self.approval(site.record.diverged),
        }
    }

    /// What Git shows as approved: what is diverged here if that was approved, else an approval of something else.
    fn approval(&self, diverged: E) -> E {
        let given = |epoch: u8| self.approved & (1 << epoch) != 0;
        match diverged {
            0 => 0,
            epoch if given(epoch) => epoch,
            _ => (4..64).find(|epoch| given(*epoch)).unwrap_or(0),
        }
    }

    /// What a site would say now, with the echoes that another one waits for.
    fn letter(&self, setting: Setting, i: usize) -> Letter {
        let site = &self.sites[i];
        let mut says = letter(setting, i, &site.record, site.recorded(), site.pods);
        for other in setting.others(i) {
            if site.read[other].is_some_and(|letter| letter.current && letter.asks) {
                says.echo |= 1 << other;
            }
        }
        says
    }

    /// Every copy of a letter, with its author.
    fn letters(&mut self) -> impl Iterator<Item = (usize, &mut Letter)> {
        let read = self.sites.iter_mut().flat_map(|site| site.read.iter_mut().enumerate());
        let kept = self.vaults.iter_mut().enumerate().flat_map(|(vault, mail)| {
            let [home, embassy] = &mut mail.letters;
            [(HOME, home), (vault, embassy)].into_iter().chain(mail.enclosed.iter_mut().enumerate())
        });
        read.chain(kept).filter_map(|(author, letter)| Some((author, letter.as_mut()?)))
    }

    /// A write of the record at `i` is a new revision: what was made against the old one no longer counts.
    fn new_revision(&mut self, i: usize) {
        for (author, letter) in self.letters() {
            if author == i {
                letter.current = false;
            } else {
                letter.echo &= !(1 << i);
            }
        }
        let site = &mut self.sites[i];
        site.fresh = 0;
        site.revised |= site.kept.is_some();
    }

    /// Whether all that a site recorded is in its vault. Two sites: there is one.
    fn is_posted(&self, i: usize) -> bool {
        let site = &self.sites[i];
        let letter = self.vaults[1].letters[slot(i)];
        site.memory == Memory::Whole
            && letter.is_some_and(|letter| letter.current)
            && site.posted == Some(site.to_post())
    }

    /// The process at `i` is gone, and all that it had read.
    fn forget(&mut self, setting: Setting, i: usize) {
        self.sites[i].read = [None; MOST];
        for vault in vaults_of(setting, i) {
            let mail = &mut self.vaults[vault];
            mail.unread[1 - slot(i)] = mail.letters[1 - slot(i)].is_some();
        }
    }
}

impl World {
    pub fn start(&self) -> State {
        let first = self.setting.epoch(1, HOME);
        let copy = Bytes { data: [0; 3], epoch: first };
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
            volume: Volume {
                copy,
                condition: if pods { VolumeCondition::Live } else { VolumeCondition::Clean },
            },
            claim: None,
            hollow: false,
            memory: Memory::Whole,
            posted: None,
            kept: None,
            revised: false,
            read: [None; MOST],
            fresh: 0,
        };
        let vault = Vault {
            letters: [None; 2],
            enclosed: [None; MOST],
            unread: [false; 2],
            points: [copy, NO_POINT],
        };
        let mut state = State {
            sites: [site(Role::Active, true), site(Role::Standby, false), site(Role::Standby, false)],
            vaults: [vault; MOST],
            links: [true; MOST],
            approved: 0,
            broken: None,
        };
        self.deliver(&mut state);
        state
    }

    /// Posts and reads until no letter is left that can be.
    fn deliver(&self, state: &mut State) {
        for _ in 0..3 * self.setting.sites {
            let mut moved = false;
            for i in 0..self.setting.sites {
                for vault in vaults_of(self.setting, i) {
                    moved |= self.post(state, i, vault) | Self::read(state, i, vault);
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn post(&self, state: &mut State, i: usize, vault: usize) -> bool {
        let site = &state.sites[i];
        if !site.alive || site.booted || site.memory != Memory::Whole || !state.reach(i, vault) {
            return false;
        }
        let posted = (self.taken_back || self.losses).then(|| site.to_post());
        let mut letter = state.letter(self.setting, i);
        let mut enclosed = [None; MOST];
        if i == HOME {
            letter = letter.for_reader(vault);
            for other in self.setting.others(HOME).filter(|other| *other != vault) {
                enclosed[other] = site.read[other].map(|letter| letter.for_reader(vault));
            }
        }
        let mail = &mut state.vaults[vault];
        let news = enclosed.iter().zip(&mail.enclosed).any(|(next, last)| next.is_some() && next != last);
        let same = mail.letters[slot(i)] == Some(letter) && site.posted == posted;
        if same && !news {
            return false;
        }
        state.sites[i].posted = posted;
        mail.letters[slot(i)] = Some(letter);
        if i == HOME {
            mail.enclosed = enclosed;
        }
        mail.unread[slot(i)] = true;
        true
    }

    fn read(state: &mut State, i: usize, vault: usize) -> bool {
        let mail = state.vaults[vault];
        if !state.sites[i].alive || !state.reach(i, vault) || !mail.unread[1 - slot(i)] {
            return false;
        }
        state.vaults[vault].unread[1 - slot(i)] = false;
        let author = if i == HOME { vault } else { HOME };
        let passed_on = mail.enclosed.into_iter().enumerate().filter(|_| i != HOME);
        let letters = passed_on.chain([(author, mail.letters[1 - slot(i)])]);
        for (author, letter) in letters.filter(|(_, letter)| letter.is_some()) {
            let site = &mut state.sites[i];
            // A document with another revision changes the ticket.
            let known = site.read[author].is_some_and(|last| last.current || letter == Some(last));
            if !known {
                site.fresh = 0;
            }
            site.read[author] = letter;
        }
        true
    }

    pub fn step(&self, before: &State, event: Event) -> Option<State> {
        let mut state = *before;
        let happens = match event {
            Event::Link(embassy) => {
                state.links[embassy] = !state.links[embassy];
                true
            }
            Event::PowerOff(i) => {
                let site = &mut state.sites[i];
                (site.alive, site.pods, site.fresh) = (false, false, 0);
                state.forget(self.setting, i);
                before.sites[i].alive
            }
            Event::PowerOn(i) => {
                (state.sites[i].alive, state.sites[i].booted) = (true, true);
                !before.sites[i].alive
            }
            Event::Keep(i) => {
                let site = &mut state.sites[i];
                (site.kept, site.revised) = (Some((site.record, site.recorded())), false);
                site.alive
                    && !site.booted
                    && site.kept != before.sites[i].kept
                    && before.sites[i].kept.is_none()
            }
            Event::PowerOnOld(i) => Self::power_on_old(&mut state, i),
            Event::Lose(i) => {
                state.sites[i].memory = Memory::Gone;
                before.sites[i].alive && before.is_posted(i)
            }
            Event::Empty(i) => {
                let site = &mut state.sites[i];
                (site.memory, site.pods, site.claim) = (Memory::Emptied, false, None);
                site.volume = Volume { copy: NO_POINT, condition: VolumeCondition::Empty };
                before.sites[i].alive && (before.sites[i].memory == Memory::Gone || before.is_posted(i))
            }
            Event::Delete(i) => {
                let site = &mut state.sites[i];
                site.hollow = true;
                let copies =
                    matches!(site.volume.condition, VolumeCondition::Clean | VolumeCondition::Restoring);
                site.alive && !site.pods && copies
            }
            Event::NodesLost(i) => {
                state.sites[i].pods = false;
                state.forget(self.setting, i);
                before.sites[i].alive
            }
            Event::Crash(i) => {
                state.forget(self.setting, i);
                before.sites[i].alive
            }
            Event::Write(i) => self.write(&mut state, i),
            Event::Backup(i, vault) => {
                let site = &before.sites[i];
                state.vaults[vault].points[slot(i)] =
                    Bytes { data: site.volume.copy.data, epoch: site.record.epoch };
                site.alive
                    && before.reach(i, vault)
                    && site.record.role == Role::Active
                    && site.pods
                    && site.volume.condition == VolumeCondition::Live
            }
            Event::Read(i, vault) => Self::read(&mut state, i, vault),
            Event::Post(i, vault) => self.post(&mut state, i, vault),
            Event::Approve(i) => {
                state.approved |= 1 << before.sites[i].record.diverged;
                before.sites[i].alive && before.sites[i].record.role == Role::Diverged
            }
            Event::Attest(i, epoch) => self.attest(&mut state, i, epoch),
            Event::Step(i)
            | Event::HumanFence(i)
            | Event::Lift(i)
            | Event::Planned(i, _)
            | Event::Forced(i, _) => self.decide(before, &mut state, i, event),
        };
        (happens && state != *before).then_some(state)
    }

    /// A site comes back with the record of its backup, on the disks as they are.
    fn power_on_old(state: &mut State, i: usize) -> bool {
        let Some((record, claim)) = state.sites[i].kept else { return false };
        if state.sites[i].alive || !state.is_posted(i) {
            return false;
        }
        let later = state.sites[i].revised;
        state.new_revision(i);
        let site = &mut state.sites[i];
        (site.alive, site.booted, site.record) = (true, true, record);
        site.claims(claim);
        site.memory = Memory::Behind;
        (site.kept, site.revised) = (None, later);
        true
    }

    /// A site without a record begins, and one with an old record takes its mail's word, once it can read that.
    fn begin(&self, before: &State, state: &mut State, i: usize) -> bool {
        let site = &before.sites[i];
        let letter = before.vaults[1].letters[slot(i)].filter(|_| before.reach(i, 1));
        let own = letter.as_ref().zip(site.posted);
        let begun = match site.memory {
            Memory::Behind => own.map_or(Begun::Waits, |own| {
                adopted(self.setting, i, &site.record, site.recorded(), own, site.revised)
            }),
            Memory::Gone => began(self.setting, i, Some(site.volume), own, &site.read),
            _ => began(self.setting, i, None, own, &site.read),
        };
        let Begun::With(record, claim) = begun else {
            if site.memory == Memory::Behind {
                (state.sites[i].memory, state.sites[i].revised) = (Memory::Whole, false);
            }
            return site.memory == Memory::Behind;
        };
        state.new_revision(i);
        let site = &mut state.sites[i];
        (site.record, site.booted, site.memory, site.revised) = (record, false, Memory::Whole, false);
        site.claims(claim);
        let known = letter.map_or(0, |letter| letter.epoch);
        if record.epoch < known && record.role != Role::Fenced {
            state.broken = Some("I3 epochs rise");
        }
        true
    }

    /// One event, and all mail after it where mail is prompt.
    pub fn next(&self, before: &State, event: Event) -> Option<State> {
        let mut state = self.step(before, event)?;
        if self.prompt_mail {
            self.deliver(&mut state);
        }
        (state != *before).then_some(state)
    }

    fn write(&self, state: &mut State, i: usize) -> bool {
        let site = &mut state.sites[i];
        let end = length(site.volume.copy.data);
        if !site.alive || !site.pods || end >= self.writes {
            return false;
        }
        site.volume.copy.data[end] = site.record.epoch;
        if self.setting.site(site.record.epoch) != i {
            state.broken = Some("I2 one writer an epoch");
        } else if site.volume.condition != VolumeCondition::Live {
            state.broken = Some("I8: bytes are written that the record calls a committed point");
        }
        true
    }

    /// A person creates a forced order at the target, attesting that each other site is off or completely fenced.
    fn attest(&self, state: &mut State, i: usize, epoch: E) -> bool {
        let down = |other: usize| {
            let other = &state.sites[other];
            !other.alive || (other.record.human && !other.record.lifting && !other.pods && other.fresh == 0)
        };
        let true_ones = self.setting.others(i).all(down);
        let site = &mut state.sites[i];
        site.fresh = epoch;
        site.alive && !site.booted && epoch > site.record.epoch && (true_ones || self.lies)
    }

    fn decide(&self, before: &State, state: &mut State, i: usize, event: Event) -> bool {
        let site = &before.sites[i];
        if !site.alive {
            return false;
        }
        let waits = match site.memory {
            Memory::Whole => false,
            // Without its vault a site cannot know that its record is old.
            Memory::Behind => before.reach(i, 1),
            Memory::Gone | Memory::Emptied => true,
        };
        if waits {
            return matches!(event, Event::Step(_)) && self.begin(before, state, i);
        }
        let plain = before.view(self.setting, i);
        let mut view = plain;
        match event {
            Event::HumanFence(_) => view.fence = true,
            Event::Lift(_) if site.record.human && !site.record.lifting => view.lift = true,
            Event::Planned(_, epoch) => view.command = Some(Command { epoch, forced: false, fresh: true }),
            // Whatever Git applies again: an order that names an older ticket, too.
            Event::Forced(_, epoch) => {
                view.command = Some(Command { epoch, forced: true, fresh: site.fresh == epoch });
            }
            Event::Lift(_) => return false,
            _ => {}
        }
        let action = decided(self.setting, &view);
        // An order that changes nothing is the operator's own step.
        if !matches!(event, Event::Step(_)) && action == decided(self.setting, &plain) {
            return false;
        }
        self.act(before, state, i, action, matches!(event, Event::Forced(..)));
        true
    }

    /// Carries one decision out; it touches nothing but site `i` and its own part of the vaults (I9).
    fn act(&self, before: &State, state: &mut State, i: usize, action: Do, ordered: bool) {
        let record = before.sites[i].record;
        let site = &mut state.sites[i];
        match action {
            Do::Nothing => {}
            Do::Broken(what) => state.broken = Some(what),
            Do::Write(written) => {
                site.record = written;
                site.booted = false;
                state.new_revision(i);
                self.check_write(before, state, i, &written, ordered);
            }
            Do::Doubt => {
                site.claim = None;
                site.volume.condition = VolumeCondition::Restoring;
            }
            Do::Live => {
                let whole = matches!(site.volume.condition, VolumeCondition::Clean | VolumeCondition::Live);
                let claim = site.claim.take().filter(|claim| claim.condition == VolumeCondition::Clean);
                let own_writes = |from: usize| {
                    site.volume.copy.data[from..].iter().all(|epoch| [0, record.epoch].contains(epoch))
                };
                let continues = |claim: Volume| {
                    prefix(claim.copy.data, site.volume.copy.data) && own_writes(length(claim.copy.data))
                };
                if claim.is_some_and(|claim| !continues(claim)) {
                    state.broken = Some("I8: a reign begins on other bytes than its record says");
                    return;
                }
                site.volume.condition = VolumeCondition::Live;
                site.volume.copy.epoch = record.epoch;
                if !whole {
                    state.broken = Some("an incomplete copy is served");
                }
            }
            Do::Fence => site.pods = false,
            Do::Start => {
                site.pods = true;
                if site.hollow
                    || matches!(site.volume.condition, VolumeCondition::Empty | VolumeCondition::Restoring)
                {
                    state.broken = Some("an incomplete copy is served");
                }
            }
            Do::Backup(other) => {
                if site.pods {
                    state.broken = Some("I7: a final point of volumes in use");
                }
                if site.hollow {
                    state.broken = Some("an incomplete copy is handed over");
                }
                let copy = Bytes { data: site.volume.copy.data, epoch: record.epoch };
                (site.volume, site.claim) = (Volume { copy, condition: VolumeCondition::Clean }, None);
                state.vaults[towards(i, other)].points[slot(i)] = copy;
            }
            Do::Restore(point, reclone) => self.restore(before, state, i, point, reclone),
        }
    }

    fn check_write(&self, before: &State, state: &mut State, i: usize, written: &Record, ordered: bool) {
        let record = before.sites[i].record;
        let rises = written.role == Role::Promoting
            && (record.role != Role::Promoting || written.epoch != record.epoch)
            || written.role == Role::Active && matches!(record.role, Role::Demoting | Role::Demoted);
        if written.epoch < record.epoch || rises && written.epoch <= record.epoch {
            state.broken = Some("I3 epochs rise");
        }
        if written.role == Role::Promoting && record.role == Role::Standby {
            if ordered {
                self.check_forced(before, state, i);
            } else {
                self.check_handover(before, state, i, written);
            }
        }
        if written.role == Role::Active
            && matches!(record.role, Role::Demoting | Role::Demoted)
            && written.epoch <= record.intent
        {
            state.broken = Some("I10 no old order changes who is active");
        }
    }

    fn check_handover(&self, before: &State, state: &mut State, i: usize, written: &Record) {
        let bytes = before.sites[i].volume.copy.data;
        let read = self.setting.others(i).filter_map(|other| before.sites[i].read[other]);
        let handed = read.filter_map(|letter| letter.handover).any(|copy| copy.data == bytes);
        let left_behind = self.setting.others(i).any(|other| {
            let giver = &before.sites[other];
            giver.record.role == Role::Demoted
                && giver.memory == Memory::Whole
                && giver.record.intent == written.epoch
                && giver.volume.copy.data != bytes
        });
        if !handed || left_behind {
            state.broken = Some("I7 a planned switch loses nothing");
        }
    }

    /// What was committed and is in reach when a standby is forced is not left behind.
    fn check_forced(&self, before: &State, state: &mut State, i: usize) {
        let here = before.sites[i].volume.copy;
        let newer = self.setting.others(i).filter(|other| before.reach(i, towards(i, *other))).any(|other| {
            let point = before.point(i, other);
            point.epoch >= here.epoch && point.data != here.data && prefix(here.data, point.data)
        });
        if newer {
            state.broken = Some("an acknowledged point is left behind");
        }
    }

    fn restore(&self, before: &State, state: &mut State, i: usize, new: Bytes, reclone: bool) {
        let Volume { copy: old, condition } = before.sites[i].volume;
        // Of volumes that a restore had begun to overwrite, what was given up was judged then.
        let whole = condition != VolumeCondition::Restoring;
        let claim = state.sites[i].claim.take().filter(|claim| claim.condition == VolumeCondition::Clean);
        if claim.is_some_and(|claim| claim.copy.data != old.data) {
            state.broken = Some("I8: a restore compares with other bytes than are there");
            return;
        }
        // Only a copy that the record takes for whole is compared by times and sizes alone.
        if before.sites[i].hollow && before.sites[i].recorded().condition == VolumeCondition::Clean {
            state.broken = Some("I8: a restore trusts a volume that was deleted");
            return;
        }
        let half = self.halves && (condition, old) != (VolumeCondition::Restoring, new);
        let condition = if half { VolumeCondition::Restoring } else { VolumeCondition::Clean };
        state.sites[i].volume = Volume { copy: new, condition };
        if !half {
            state.sites[i].record.reclone = reclone;
            state.sites[i].hollow = false;
        }
        if whole && !prefix(old.data, new.data) {
            let lost = old.data.iter().zip(new.data).skip_while(|(a, b)| **a == *b).map(|(a, _)| *a).max();
            let lost = lost.unwrap_or(0);
            let approved = (lost..64).any(|epoch| before.approved & (1 << epoch) != 0);
            // A standby that forgot what its volumes hold may have restored its own last point, which stays in the vault.
            let is_kept = self.losses && before.vaults[1].points.iter().any(|point| point.data == old.data);
            if lost != 0 && !approved && !is_kept {
                state.broken = Some("I8 bytes are given up by approval only");
            }
        }
        if new.epoch < old.epoch && new.data != old.data {
            state.broken = Some("I8: an older line over a newer one");
        }
    }

    /// Everything that may be tried in a state.
    pub fn events(&self, state: &State, events: &mut Vec<Event>) {
        if state.broken.is_some() {
            return;
        }
        let cut = (1..self.setting.sites).filter(|k| !state.links[*k]).count();
        let off = (1..self.setting.sites).filter(|k| !state.sites[*k].alive).count();
        for k in 1..self.setting.sites {
            if self.cuts && (!self.one_fault || cut + off == 0 || !state.links[k]) {
                events.push(Event::Link(k));
            }
        }
        for i in 0..self.setting.sites {
            let alive = state.sites[i].alive;
            let may_lose = self.power & (1 << i) != 0;
            if may_lose && (!self.one_fault || i != HOME && (cut + off == 0 || !alive)) {
                events.push(if alive { Event::PowerOff(i) } else { Event::PowerOn(i) });
            }
            if self.taken_back {
                events.extend([Event::Keep(i), Event::PowerOnOld(i)]);
            }
            if self.losses {
                events.extend([Event::Lose(i), Event::Empty(i)]);
            }
            if self.deletes {
                events.push(Event::Delete(i));
            }
            if self.partial_power {
                events.push(Event::NodesLost(i));
            }
            if self.crash {
                events.push(Event::Crash(i));
            }
            events.extend([Event::Write(i), Event::Step(i)]);
            for vault in vaults_of(self.setting, i) {
                events.push(Event::Backup(i, vault));
                if !self.prompt_mail {
                    events.extend([Event::Read(i, vault), Event::Post(i, vault)]);
                }
            }
            if self.people {
                self.people(i, events);
            }
        }
    }

    fn people(&self, i: usize, events: &mut Vec<Event>) {
        if self.human_fence {
            events.extend([Event::HumanFence(i), Event::Lift(i)]);
        }
        events.push(Event::Approve(i));
        for number in 2..=self.numbers {
            for to in 0..self.setting.sites {
                let epoch = self.setting.epoch(number, to);
                events.push(Event::Planned(i, epoch));
                if to == i {
                    events.extend([Event::Attest(i, epoch), Event::Forced(i, epoch)]);
                }
            }
        }
    }
}
