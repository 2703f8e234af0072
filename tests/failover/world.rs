//! A small world around the real `decide`: two sites, mail and recovery points in the embassy's vault, people, Git, power.
//!
//! States are small numbers, so that millions fit in memory; each view is built from them with the production types, and
//! each decision is taken by the production function (remembered by view, since it is pure). Revisions are abstracted to
//! two ghosts of a document: `current` (carries its author's current revision) and `echo` (names the reader's).

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
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
        Action, Document, Order, Peer, Point, View, decide, document::DOCUMENT_VERSION, invariants,
    },
};

/// Epoch: number * 2 + rank of the site's name; 0 for none.
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

/// Which name each site has: home's may come first or last in the order of names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Names {
    pub home_last: bool,
}

impl Names {
    pub fn site(self, epoch: E) -> usize {
        usize::from((epoch & 1 == 1) != self.home_last)
    }

    pub fn epoch(self, number: u8, site: usize) -> E {
        number * 2 + u8::from((site == 1) != self.home_last)
    }

    fn name(self, site: usize) -> &'static str {
        if (site == 1) == self.home_last { "alpha" } else { "omega" }
    }

    fn real(self, epoch: E) -> Epoch {
        Epoch::new(i64::from(epoch / 2), self.name(self.site(epoch)))
    }

    fn optional(self, epoch: E) -> Option<Epoch> {
        (epoch != 0).then(|| self.real(epoch))
    }

    fn small(self, epoch: &Epoch) -> E {
        let site = usize::from(epoch.site == self.name(1));
        self.epoch(u8::try_from(epoch.number).unwrap(), site)
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

/// A recovery point: its epoch and all the writes in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Bytes {
    pub data: Data,
    pub epoch: E,
}

/// Volumes: their bytes, the epoch of the point or reign that these come from, and whether a reign writes them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Volume {
    pub copy: Bytes,
    pub live: bool,
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
    pub echo: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Command {
    pub epoch: E,
    pub forced: bool,
    /// Names the current ticket.
    pub fresh: bool,
}

/// A view in small numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SmallView {
    pub me: usize,
    pub record: Record,
    pub booted: bool,
    pub pods: bool,
    pub volume: Volume,
    pub letter: Option<Letter>,
    pub drained: bool,
    pub reach: bool,
    pub own: Bytes,
    pub peer: Bytes,
    pub command: Option<Command>,
    pub lift: bool,
    pub approved: bool,
}

/// An action in small numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Do {
    Nothing,
    Write(Record),
    Live,
    Fence,
    Start,
    Restore,
    Backup,
}

fn data_point(names: Names, copy: Bytes) -> DataPoint {
    let sequence = i64::try_from(length(copy.data)).unwrap() + 1;
    DataPoint { point: PointRef { epoch: names.real(copy.epoch), sequence }, digest: digest(copy.data) }
}

fn digest(data: Data) -> String {
    hex::encode(data)
}

/// A point with its line: for each epoch that wrote, the bytes at its last write.
fn point(names: Names, copy: Bytes) -> Option<Point> {
    if copy.epoch == 0 {
        return None;
    }
    let n = length(copy.data);
    let mut ancestry = vec![];
    for end in 0..n {
        let mut data = [0; 3];
        data[..end].copy_from_slice(&copy.data[..end]);
        let epoch = if end == 0 { names.epoch(1, 0) } else { copy.data[end - 1] };
        let last_of_epoch = end == 0 || copy.data[end] != copy.data[end - 1];
        if last_of_epoch && epoch != copy.epoch {
            ancestry.push(data_point(names, Bytes { data, epoch }));
        }
    }
    if n > 0 && copy.data[n - 1] != copy.epoch {
        ancestry.push(data_point(names, Bytes { data: copy.data, epoch: copy.data[n - 1] }));
    }
    Some(Point { data: data_point(names, copy), ancestry })
}

fn record(names: Names, view: &SmallView) -> FailoverRecordSpec {
    let r = &view.record;
    let volumes = if view.volume.live {
        Volumes { condition: VolumeCondition::Live, at: None }
    } else {
        Volumes { condition: VolumeCondition::Clean, at: Some(data_point(names, view.volume.copy)) }
    };
    FailoverRecordSpec {
        site: names.name(view.me).to_owned(),
        peers: BTreeMap::from([(names.name(1 - view.me).to_owned(), PEER_REVISION)]),
        revision: REVISION,
        role: r.role,
        epoch: names.real(r.epoch),
        intent: names.optional(r.intent),
        abort: names.optional(r.abort),
        cold_fence: r.cold,
        human_fence: r.human,
        lifting: r.lifting,
        diverged: names.optional(r.diverged),
        reclone: r.reclone,
        handover: r.handover.map(|copy| data_point(names, copy)),
        volumes,
        ancestry: vec![],
        activated: None,
        boot_ids: BTreeSet::new(),
        carriers: BTreeMap::new(),
        sequence: 0,
        history: vec![],
    }
}

fn document(names: Names, me: usize, letter: &Letter) -> Document {
    Document {
        version: DOCUMENT_VERSION,
        revision: PEER_REVISION,
        echoes: BTreeMap::from([(
            names.name(me).to_owned(),
            if letter.echo { REVISION } else { REVISION - 1 },
        )]),
        role: letter.role,
        epoch: names.real(letter.epoch),
        intent: names.optional(letter.intent),
        abort: names.optional(letter.abort),
        handover: letter.handover.map(|copy| data_point(names, copy)),
        held: letter.held,
        human_fence: false,
        asks: letter.asks,
        writable_pods: letter.role == Role::Active,
        sequence: 0,
        at: None,
    }
}

/// The view that the production function gets.
pub fn real_view(names: Names, view: &SmallView) -> View {
    let record = record(names, view);
    let ticket = record.ticket();
    let orders = view.command.iter().map(|command| Order {
        name: "order".to_owned(),
        epoch: names.real(command.epoch),
        kind: if command.forced { FailoverKind::Forced } else { FailoverKind::Planned },
        ticket: command.forced.then(|| if command.fresh { ticket.clone() } else { "0.0".to_owned() }),
        attestation: command.forced.then_some(PeerState::PoweredOff),
        max_data_loss: Duration::MAX,
    });
    View {
        cold_start: view.booted,
        boot_ids: BTreeSet::new(),
        pods: view.pods,
        started: view.pods,
        peers: BTreeMap::from([(
            names.name(1 - view.me).to_owned(),
            Peer {
                document: view.letter.as_ref().map(|letter| document(names, view.me, letter)),
                drained: view.drained,
                reach: view.reach,
                recent: view.reach,
                shares_vault: true,
                point: point(names, view.peer),
            },
        )]),
        own_point: point(names, view.own).filter(|_| view.reach),
        loss: None,
        orders: orders.collect(),
        fence_asked: false,
        lift_asked: view.lift,
        approved: view.approved.then(|| {
            let epoch = names.real(view.record.diverged);
            ApproveDiscard { number: epoch.number, site: epoch.site }
        }),
        suspended: false,
        record,
    }
}

fn small_record(names: Names, view: &SmallView, written: &FailoverRecordSpec) -> Record {
    Record {
        role: written.role,
        epoch: names.small(&written.epoch),
        intent: names.small_optional(written.intent.as_ref()),
        abort: names.small_optional(written.abort.as_ref()),
        human: written.human_fence,
        lifting: written.lifting,
        cold: written.cold_fence,
        diverged: names.small_optional(written.diverged.as_ref()),
        reclone: written.reclone,
        handover: written.handover.as_ref().map(|_| match view.record.role {
            Role::Demoting => view.volume.copy,
            _ => view.record.handover.unwrap(),
        }),
    }
}

thread_local! {
    static DECIDED: RefCell<HashMap<(Names, SmallView), Do>> = RefCell::default();
}

/// The production decision. A step that breaks an invariant asserted in release builds ends the run.
pub fn decided(names: Names, view: &SmallView) -> Do {
    let key = (names, *view);
    if let Some(known) = DECIDED.with_borrow(|known| known.get(&key).copied()) {
        return known;
    }
    let real = real_view(names, view);
    let made = match decide(&real) {
        Action::Nothing | Action::Wait(_) => Do::Nothing,
        Action::Write(written, _) => {
            invariants::check_write(&real.record, &written)
                .unwrap_or_else(|broken| panic!("{broken}: {view:?}"));
            Do::Write(small_record(names, view, &written))
        }
        Action::Note(noted) => {
            assert_eq!(noted.volumes.condition, VolumeCondition::Live, "{view:?}");
            Do::Live
        }
        Action::Fence => Do::Fence,
        Action::Start => {
            invariants::check_start(&real.record).unwrap_or_else(|broken| panic!("{broken}: {view:?}"));
            Do::Start
        }
        Action::Restore { discard, .. } => {
            invariants::check_restore(&real.record, discard)
                .unwrap_or_else(|broken| panic!("{broken}: {view:?}"));
            Do::Restore
        }
        Action::Backup(_) => Do::Backup,
    };
    DECIDED.with_borrow_mut(|known| known.insert(key, made));
    made
}
