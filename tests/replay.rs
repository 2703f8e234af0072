//! Replays the steps in operators' logs: `TRACES="LOG..." cargo test --test replay` fails on a step that the protocol does not
//! allow. Without `TRACES` only the checks themselves are tested, with planted violations.

#![cfg(test)]

#[path = "replay/check.rs"]
mod check;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    time::Duration,
};

use check::Replayed;
use data_embassy::{
    api::{
        epoch::Epoch,
        failover::FailoverKind,
        failover_record::{DataPoint, FailoverRecordSpec, Role, VolumeCondition, Volumes},
    },
    plan::failover::{
        Action, Order, Peer, Point, View, decide,
        document::document,
        first_record::{Before, Beginning, begin},
        trace::{Did, Trace},
    },
};

/// Every log named in `TRACES`; logs of one site in the sequence in which they were written.
#[test]
fn logs_replay() {
    let Ok(names) = env::var("TRACES") else { return };
    let mut replayed = Replayed::default();
    for name in names.split_whitespace() {
        let log = fs::read_to_string(name).unwrap_or_else(|why| panic!("{name}: {why}"));
        replayed.log(name, &log);
    }
    replayed.between_sites();
    for ((embassy, site), record) in &replayed.sites {
        println!(
            "{site}: {embassy} ends as {} in {}, revision {}",
            record.role.as_str(),
            record.epoch,
            record.revision
        );
    }
    println!("{} steps, {} of them decided again", replayed.steps, replayed.decided_again);
    assert!(replayed.decided_again > 0, "no step was found in {names}");
    assert!(replayed.violations.is_empty(), "{}", replayed.violations.join("\n"));
}

const EMBASSY: &str = "land-register/land-register";

fn line(trace: &Trace) -> String {
    serde_json::json!({"level": "INFO", "message": "step", "trace": trace.line()}).to_string()
}

fn first() -> FailoverRecordSpec {
    let boot_ids = BTreeSet::new();
    let peers = BTreeMap::from([("luxembourg", None)]);
    let before = Before {
        site: "tallinn",
        peers,
        home: "tallinn",
        boot_ids: &boot_ids,
        own_document: Some(None),
        volumes_exist: true,
    };
    match begin(&before) {
        Beginning::Record(record, _) => *record,
        other => panic!("{other:?}"),
    }
}

fn data(sequence: i64) -> DataPoint {
    DataPoint { point: format!("1/tallinn/{sequence}").parse().unwrap(), digest: format!("{sequence}") }
}

fn view(record: &FailoverRecordSpec, pods: bool) -> View {
    let standby = FailoverRecordSpec {
        site: "luxembourg".to_owned(),
        role: Role::Standby,
        peers: BTreeMap::from([("tallinn".to_owned(), 1)]),
        volumes: Volumes { condition: VolumeCondition::Clean, at: Some(data(1)), ..Volumes::default() },
        ..first()
    };
    let peer = Peer {
        document: Some(document(&standby, false)),
        reach: true,
        drained: true,
        recent: true,
        shares_vault: true,
        point: None,
    };
    View {
        record: FailoverRecordSpec {
            peers: BTreeMap::from([("luxembourg".to_owned(), 1)]),
            ..record.clone()
        },
        cold_start: false,
        boot_ids: BTreeSet::new(),
        pods,
        started: pods,
        peers: BTreeMap::from([("luxembourg".to_owned(), peer)]),
        own_point: Some(Point { data: data(1), ancestry: vec![] }),
        loss: None,
        orders: vec![Order {
            name: "order".to_owned(),
            epoch: Epoch::new(2, "luxembourg"),
            kind: FailoverKind::Planned,
            ticket: None,
            attestation: None,
            max_data_loss: Duration::MAX,
        }],
        fence_asked: false,
        lift_asked: false,
        approved: None,
        suspended: false,
        replaced: false,
        sealed: false,
    }
}

/// A planned order at home, as far as the handover.
fn switch() -> Vec<Trace> {
    let mut record = first();
    let mut traces = vec![Trace::of(EMBASSY.to_owned(), None, Did::Begin(Box::new(record.clone())))];
    let mut pods = true;
    while record.role != Role::Demoted {
        let view = view(&record, pods);
        let action = decide(&view);
        let did = match &action {
            Action::Write(written, _) => {
                let revision = record.revision + 1;
                record = FailoverRecordSpec { revision, ..(**written).clone() };
                Did::Write(Box::new(record.clone()))
            }
            act => Did::act(act).unwrap(),
        };
        match did {
            Did::Fence => pods = false,
            Did::Backup { .. } => {
                record.volumes.condition = VolumeCondition::Clean;
                record.volumes.at = Some(data(2));
            }
            _ => {}
        }
        traces.push(Trace::of(EMBASSY.to_owned(), Some(&view), did));
    }
    traces
}

fn violations(traces: &[Trace]) -> Vec<String> {
    let mut replayed = Replayed::default();
    replayed.log("log", &traces.iter().map(line).collect::<Vec<_>>().join("\n"));
    replayed.between_sites();
    assert_eq!(replayed.steps, traces.len());
    replayed.violations
}

/// The one violation that a change of the switch's traces makes.
fn planted(change: impl FnOnce(&mut Vec<Trace>)) -> String {
    let mut traces = switch();
    change(&mut traces);
    let found = violations(&traces);
    found.first().unwrap_or_else(|| panic!("not found")).clone()
}

fn written(trace: &mut Trace) -> &mut FailoverRecordSpec {
    match &mut trace.did {
        Did::Write(record) | Did::Begin(record) => record,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_honest_switch_replays() {
    let traces = switch();
    let did: Vec<_> = traces.iter().map(|trace| trace.did.name()).collect();
    assert_eq!(did, ["Begin", "Write", "Fence", "Backup", "Write"]);
    assert_eq!(violations(&traces), Vec::<String>::new());
}

#[test]
fn planted_violations_are_found() {
    let last = |traces: &mut Vec<Trace>| traces.len() - 1;
    let skipped = planted(|traces| {
        traces.remove(1);
    });
    assert!(skipped.contains("wrote revision 1 (Active in 1/tallinn) last"), "{skipped}");
    let other = planted(|traces| written(&mut traces[1]).role = Role::Demoted);
    assert!(other.contains("was written"), "{other}");
    let other = planted(|traces| traces[2].did = Did::Start);
    assert!(other.contains("the view gives Fence"), "{other}");
    let other = planted(|traces| traces[3].did = Did::Backup { towards: "riga".to_owned() });
    assert!(other.contains("the view gives Backup"), "{other}");
    let forged = planted(|traces| traces[2].view.as_mut().unwrap().pods = false);
    assert!(forged.contains("digest"), "{forged}");
    let jumped = planted(|traces| {
        let at = last(traces);
        written(&mut traces[at]).revision = 9;
    });
    assert!(jumped.contains("was written"), "{jumped}");
    let begins = planted(|traces| {
        let record = FailoverRecordSpec { revision: 7, ..first() };
        traces.push(Trace::of(EMBASSY.to_owned(), None, Did::Begin(Box::new(record))));
    });
    assert!(begins.contains("without being held"), "{begins}");
}

#[test]
fn what_was_read_must_have_been_written() {
    let misread = planted(|traces| {
        let standby = view(&first(), true).peers["luxembourg"].document.clone().unwrap();
        let record = FailoverRecordSpec {
            site: "luxembourg".to_owned(),
            role: Role::Active,
            epoch: Epoch::new(1, "luxembourg"),
            revision: standby.revision,
            ..first()
        };
        traces.push(Trace::of(EMBASSY.to_owned(), None, Did::Begin(Box::new(record))));
    });
    assert!(misread.contains("luxembourg was read as Standby"), "{misread}");
}
