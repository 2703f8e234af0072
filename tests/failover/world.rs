//! A small world around the real `decide`: two or three sites, mail and recovery points in the embassies' vaults.
//!
//! States are small numbers, so that millions fit in memory; each view is built from them with the production types, and
//! each decision is taken by the production function (remembered by view, since it is pure). Revisions are abstracted to
//! two ghosts of a document: `current` (carries its author's current revision) and `echo` (whose current revision it names).

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use data_embassy::{
    api::{
        data_embassy::ApproveDiscard,
        epoch::{Epoch, PointRef},
        failover::{FailoverKind, PeerState},
        failover_record::{DataPoint, FailoverRecordSpec, Role, VolumeCondition, Volumes},
    },
    plan::failover::{
        Action, Document, Order, Peer, Point, View, decide,
        document::{DOCUMENT_VERSION, document as document_of},
        first_record::{Before, Beginning, adopt, begin},
        invariants,
        rules::{Rule, without},
        volumes::restored,
    },
};
use rustc_hash::FxHashMap;

/// Most sites: home and two embassies.
pub const MOST: usize = 3;
/// Home; the others are embassies, each with a vault of its own.
pub const HOME: usize = 0;

/// Epoch: number * 4 + rank of the site's name; 0 for none.
pub type E = u8;
/// Everything ever written to a volume: the epoch of each write.
pub type Data = [u8; 3];

const REVISION: i64 = 10;
const PEER_REVISION: i64 = 20;

pub fn length(data: Data) -> usize {
    data.iter().take_while(|entry| **entry != 0).count()
}

pub fn prefix(one: Data, other: Data) -> bool {
    let n = length(one);
    n <= length(other) && one[..n] == other[..n]
}

/// What is the same in all states of a world, as far as decisions go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Setting {
    /// Two or three.
    pub sites: usize,
    /// Home's name may come first or last in the order of names.
    pub home_last: bool,
    /// The rule that is switched off.
    pub without: Option<Rule>,
}

impl Setting {
    pub fn site(self, epoch: E) -> usize {
        let rank = usize::from(epoch & 3);
        if self.home_last { (rank + 1) % MOST } else { rank }
    }

    pub fn epoch(self, number: u8, site: usize) -> E {
        let rank = if self.home_last { (site + MOST - 1) % MOST } else { site };
        number * 4 + u8::try_from(rank).unwrap()
    }

    pub fn name(self, site: usize) -> &'static str {
        match site {
            HOME if self.home_last => "omega",
            HOME => "alpha",
            1 => "beta",
            _ => "gamma",
        }
    }

    pub fn others(self, me: usize) -> impl Iterator<Item = usize> {
        (0..self.sites).filter(move |site| *site != me)
    }

    fn real(self, epoch: E) -> Epoch {
        Epoch::new(i64::from(epoch / 4), self.name(self.site(epoch)))
    }

    fn optional(self, epoch: E) -> Option<Epoch> {
        (epoch != 0).then(|| self.real(epoch))
    }

    fn numbered(self, name: &str) -> usize {
        (0..self.sites).find(|site| self.name(*site) == name).unwrap()
    }

    fn small(self, epoch: &Epoch) -> E {
        self.epoch(u8::try_from(epoch.number).unwrap(), self.numbered(&epoch.site))
    }

    fn small_optional(self, epoch: Option<&Epoch>) -> E {
        epoch.map_or(0, |epoch| self.small(epoch))
    }
}

/// The protocol's part of a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Record {
    pub role: Role,
    pub epoch: E,
    pub intent: E,
    pub abort: E,
    pub human: bool,
    pub lifting: bool,
    pub cold: bool,
    pub diverged: E,
    pub reclone: bool,
    pub handover: Option<Bytes>,
}

/// A recovery point: its epoch and all the writes in it. Epoch 0 for none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Bytes {
    pub data: Data,
    pub epoch: E,
}

pub const NO_POINT: Bytes = Bytes { data: [0; 3], epoch: 0 };

/// Volumes: their bytes, the epoch of the point or reign that these come from, and what the record says of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Volume {
    pub copy: Bytes,
    pub condition: VolumeCondition,
}

/// What a document says, as far as a reader can tell the difference.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Letter {
    pub role: Role,
    pub epoch: E,
    pub intent: E,
    pub abort: E,
    pub handover: Option<Bytes>,
    pub held: bool,
    pub asks: bool,
    pub current: bool,
    /// A bit for each site whose current revision it names.
    pub echo: u8,
}

impl Letter {
    pub fn for_reader(mut self, reader: usize) -> Self {
        self.echo &= 1 << reader;
        self
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Command {
    pub epoch: E,
    pub forced: bool,
    /// Names the current ticket.
    pub fresh: bool,
}

/// What a site's newest own document says that readers of it need not know; only worlds that lose records look at it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Posted {
    pub role: Role,
    pub diverged: E,
    pub at: Option<Bytes>,
}

/// How a site begins or goes on after its record was lost or taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begun {
    /// Not before something is there.
    Waits,
    /// A person must say what the volumes are.
    Asks,
    /// With this record, and what it says of the volumes.
    With(Record, Volume),
}

/// A view in small numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SmallView {
    pub me: usize,
    pub record: Record,
    pub booted: bool,
    pub pods: bool,
    pub volume: Volume,
    pub replaced: bool,
    pub letters: [Option<Letter>; MOST],
    /// A bit for each other site.
    pub drained: u8,
    pub reach: u8,
    pub own: Bytes,
    pub points: [Bytes; MOST],
    pub command: Option<Command>,
    pub fence: bool,
    pub lift: bool,
    pub approved: E,
}

/// An action in small numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Do {
    Nothing,
    Write(Record),
    Live,
    /// The volumes are no copy any more.
    Doubt,
    Fence,
    Start,
    /// To that point; and whether bytes are still to be given up after it.
    Restore(Bytes, bool),
    /// Towards that site.
    Backup(usize),
    /// What release builds would refuse to do.
    Broken(&'static str),
}

fn data_point(setting: Setting, copy: Bytes) -> DataPoint {
    let sequence = i64::try_from(length(copy.data)).unwrap() + 1;
    DataPoint {
        point: PointRef { epoch: setting.real(copy.epoch), sequence },
        digest: hex::encode(copy.data),
    }
}

fn bytes(setting: Setting, point: &DataPoint) -> Bytes {
    let data: Data = hex::decode(&point.digest).unwrap().try_into().unwrap();
    Bytes { data, epoch: setting.small(&point.point.epoch) }
}

/// A point with its line: for each epoch that wrote, the bytes at its last write.
fn point(setting: Setting, copy: Bytes) -> Option<Point> {
    if copy.epoch == 0 {
        return None;
    }
    let n = length(copy.data);
    let mut ancestry = vec![];
    for end in 0..n {
        let mut data = [0; 3];
        data[..end].copy_from_slice(&copy.data[..end]);
        let epoch = if end == 0 { setting.epoch(1, HOME) } else { copy.data[end - 1] };
        let last_of_epoch = end == 0 || copy.data[end] != copy.data[end - 1];
        if last_of_epoch && epoch != copy.epoch {
            ancestry.push(data_point(setting, Bytes { data, epoch }));
        }
    }
    if n > 0 && copy.data[n - 1] != copy.epoch {
        ancestry.push(data_point(setting, Bytes { data: copy.data, epoch: copy.data[n - 1] }));
    }
    Some(Point { data: data_point(setting, copy), ancestry })
}

fn real_record(setting: Setting, me: usize, r: &Record, volume: Volume) -> FailoverRecordSpec {
    let at = match volume.condition {
        VolumeCondition::Clean | VolumeCondition::Restoring => Some(data_point(setting, volume.copy)),
        VolumeCondition::Live | VolumeCondition::Empty => None,
    };
    FailoverRecordSpec {
        site: setting.name(me).to_owned(),
        peers: setting.others(me).map(|site| (setting.name(site).to_owned(), PEER_REVISION)).collect(),
        revision: REVISION,
        role: r.role,
        epoch: setting.real(r.epoch),
        intent: setting.optional(r.intent),
        abort: setting.optional(r.abort),
        cold_fence: r.cold,
        human_fence: r.human,
        lifting: r.lifting,
        diverged: setting.optional(r.diverged),
        reclone: r.reclone,
        handover: r.handover.map(|copy| data_point(setting, copy)),
        volumes: Volumes { condition: volume.condition, at, ..Volumes::default() },
        ancestry: vec![],
        objects: None,
        boot_ids: BTreeSet::new(),
        carriers: BTreeMap::new(),
        sequence: 0,
        freeze: None,
        history: vec![],
    }
}

/// What the site's production document says, as far as readers can tell the difference; without echoes.
pub fn letter(setting: Setting, me: usize, record: &Record, volume: Volume, pods: bool) -> Letter {
    without(setting.without, || {
        let document = document_of(&real_record(setting, me, record, volume), pods);
        let role = match document.role {
            _ if document.rules() => Role::Active,
            Role::Demoted | Role::Standby => document.role,
            _ => Role::Diverged,
        };
        Letter {
            role,
            epoch: record.epoch,
            intent: setting.small_optional(document.intent.as_ref()),
            abort: setting.small_optional(document.abort.as_ref()),
            handover: document.handover.as_ref().map(|point| bytes(setting, point)),
            held: role == Role::Standby && document.held,
            asks: document.asks,
            current: true,
            echo: 0,
        }
    })
}

fn document(setting: Setting, me: usize, letter: &Letter) -> Document {
    let echo = if letter.echo & (1 << me) == 0 { REVISION - 1 } else { REVISION };
    Document {
        version: DOCUMENT_VERSION,
        revision: PEER_REVISION,
        echoes: BTreeMap::from([(setting.name(me).to_owned(), echo)]),
        role: letter.role,
        epoch: setting.real(letter.epoch),
        intent: setting.optional(letter.intent),
        abort: setting.optional(letter.abort),
        handover: letter.handover.map(|copy| data_point(setting, copy)),
        diverged: None,
        held: letter.held,
        human_fence: false,
        asks: letter.asks,
        writable_pods: letter.role == Role::Active,
        sequence: 0,
        at: None,
    }
}

/// The site's own newest document, as it is read back; whether it is of a later revision than the record.
fn own_document(setting: Setting, me: usize, letter: &Letter, posted: Posted, later: bool) -> Document {
    Document {
        revision: REVISION + i64::from(later),
        echoes: setting.others(me).map(|site| (setting.name(site).to_owned(), PEER_REVISION)).collect(),
        role: posted.role,
        diverged: setting.optional(posted.diverged),
        at: posted.at.map(|at| data_point(setting, at)),
        ..document(setting, me, letter)
    }
}

/// What the production function makes of a record that is behind its own mail.
pub fn adopted(
    setting: Setting,
    me: usize,
    r: &Record,
    volume: Volume,
    own: (&Letter, Posted),
    later: bool,
) -> Begun {
    let record = real_record(setting, me, r, volume);
    let own = own_document(setting, me, own.0, own.1, later);
    let adopted = without(setting.without, || adopt(&record, &own));
    adopted.map_or(Begun::Waits, |adopted| begun(setting, &adopted, volume))
}

/// How the production function begins without a record.
pub fn began(
    setting: Setting,
    me: usize,
    volume: Option<Volume>,
    own: Option<(&Letter, Posted)>,
    read: &[Option<Letter>; MOST],
) -> Begun {
    let own = own.map(|(letter, posted)| own_document(setting, me, letter, posted, true));
    let peers: BTreeMap<&str, Option<Document>> = setting
        .others(me)
        .map(|site| (setting.name(site), read[site].as_ref().map(|letter| document(setting, me, letter))))
        .collect();
    let beginning = without(setting.without, || {
        begin(&Before {
            site: setting.name(me),
            peers: peers.iter().map(|(site, document)| (*site, document.as_ref())).collect(),
            home: setting.name(HOME),
            boot_ids: &BTreeSet::new(),
            own_document: own.as_ref().map(Some),
            volumes_exist: volume.is_some(),
        })
    });
    match beginning {
        Beginning::Join(_) => Begun::Waits,
        Beginning::AskPerson(_) => Begun::Asks,
        Beginning::Record(record, _) => {
            let none = Volume { copy: NO_POINT, condition: VolumeCondition::Empty };
            begun(setting, &record, volume.unwrap_or(none))
        }
    }
}

fn begun(setting: Setting, record: &FailoverRecordSpec, volume: Volume) -> Begun {
    let at = record.volumes.at.as_ref().map(|at| bytes(setting, at));
    let volume = Volume { copy: at.unwrap_or(volume.copy), condition: record.volumes.condition };
    Begun::With(small_record(setting, record), volume)
}

/// The view that the production function gets.
pub fn real_view(setting: Setting, view: &SmallView) -> View {
    let record = real_record(setting, view.me, &view.record, view.volume);
    let ticket = record.ticket();
    let orders = view.command.iter().map(|command| Order {
        name: "order".to_owned(),
        epoch: setting.real(command.epoch),
        kind: if command.forced { FailoverKind::Forced } else { FailoverKind::Planned },
        ticket: command.forced.then(|| if command.fresh { ticket.clone() } else { "0.0".to_owned() }),
        attestation: command.forced.then_some(PeerState::PoweredOff),
        max_data_loss: Duration::MAX,
    });
    let peer = |site: usize| Peer {
        document: view.letters[site].as_ref().map(|letter| document(setting, view.me, letter)),
        drained: view.drained & (1 << site) != 0,
        reach: view.reach & (1 << site) != 0,
        recent: view.reach & (1 << site) != 0,
        shares_vault: view.me == HOME || site == HOME,
        point: point(setting, view.points[site]),
    };
    View {
        cold_start: view.booted,
        boot_ids: BTreeSet::new(),
        pods: view.pods,
        started: view.pods,
        peers: setting.others(view.me).map(|site| (setting.name(site).to_owned(), peer(site))).collect(),
        own_point: point(setting, view.own).filter(|_| view.reach != 0),
        loss: None,
        orders: orders.collect(),
        fence_asked: view.fence,
        lift_asked: view.lift,
        approved: setting
            .optional(view.approved)
            .map(|epoch| ApproveDiscard { number: epoch.number, site: epoch.site }),
        suspended: false,
        replaced: view.replaced,
        sealed: false,
        record,
    }
}

fn small_record(setting: Setting, written: &FailoverRecordSpec) -> Record {
    Record {
        role: written.role,
        epoch: setting.small(&written.epoch),
        intent: setting.small_optional(written.intent.as_ref()),
        abort: setting.small_optional(written.abort.as_ref()),
        human: written.human_fence,
        lifting: written.lifting,
        cold: written.cold_fence,
        diverged: setting.small_optional(written.diverged.as_ref()),
        reclone: written.reclone,
        handover: written.handover.as_ref().map(|point| bytes(setting, point)),
    }
}

type Decisions = FxHashMap<(Setting, SmallView), Do>;

thread_local! {
    static DECIDED: RefCell<Decisions> = RefCell::default();
}

/// Decisions that are remembered; beyond this all are forgotten.
const REMEMBERED: usize = 2_000_000;

/// The production decision, guarded by what release builds assert.
pub fn decided(setting: Setting, view: &SmallView) -> Do {
    let key = (setting, *view);
    if let Some(known) = DECIDED.with_borrow(|known| known.get(&key).copied()) {
        return known;
    }
    let real = real_view(setting, view);
    let made = small_action(setting, &real, without(setting.without, || decide(&real)));
    DECIDED.with_borrow_mut(|known| {
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, made);
    });
    made
}

fn small_action(setting: Setting, real: &View, action: Action) -> Do {
    let guarded = |broken: Result<(), invariants::Violation>, made| match broken {
        Ok(()) => made,
        Err(violation) => Do::Broken(asserted(&violation)),
    };
    match action {
        Action::Nothing | Action::Wait(_) => Do::Nothing,
        Action::Write(written, _) => guarded(
            invariants::check_write(&real.record, &written),
            Do::Write(small_record(setting, &written)),
        ),
        Action::Note(written) if written.volumes.condition == VolumeCondition::Restoring => Do::Doubt,
        Action::Note(_) => Do::Live,
        Action::Fence => Do::Fence,
        Action::Start => guarded(invariants::check_start(&real.record), Do::Start),
        Action::Restore { point, discard } => guarded(
            invariants::check_restore(&real.record, discard),
            Do::Restore(bytes(setting, &point.data), restored(&real.record, &point).reclone),
        ),
        Action::Backup(towards) => Do::Backup(setting.numbered(&towards)),
    }
}

fn asserted(violation: &invariants::Violation) -> &'static str {
    let text = violation.to_string();
    let names = ["I3", "I4", "I5", "I8"];
    names.into_iter().find(|name| text.starts_with(name)).unwrap_or("an assertion")
}
