//! What traces must obey: every decision is decided again, and the steps of each site follow each other as records do.

use std::collections::{BTreeMap, BTreeSet};

use data_embassy::{
    api::failover_record::{FailoverRecordSpec, Role},
    plan::failover::{
        Action, Document, View, decide,
        document::document,
        invariants::{check_restore, check_start, check_write},
        trace::{Did, Trace, brief},
    },
};

/// The traces among the lines of a log, with the number of each line.
pub fn traces(log: &str) -> Vec<(usize, Trace)> {
    let parsed = log.lines().enumerate().filter_map(|(number, line)| {
        let value: serde_json::Value = serde_json::from_str(&line[line.find('{')?..]).ok()?;
        let text = value.get("trace")?.as_str()?;
        let trace = serde_json::from_str(text)
            .unwrap_or_else(|why| panic!("line {}: a trace that cannot be read: {why}", number + 1));
        Some((number + 1, trace))
    });
    parsed.collect()
}

/// What was replayed, and every step that the protocol does not allow.
#[derive(Default)]
pub struct Replayed {
    pub steps: usize,
    pub decided_again: usize,
    pub sites: BTreeMap<(String, String), FailoverRecordSpec>,
    pub violations: Vec<String>,
    /// The sites of which this process has logged a step.
    begun: BTreeSet<(String, String)>,
    /// What the record of each site said in each revision.
    written: BTreeMap<(String, String, i64), FailoverRecordSpec>,
    /// What others showed of a site, with the revision that they read.
    shown: Vec<(String, String, Document)>,
}

impl Replayed {
    /// The log of one process, oldest line first. Logs of one site follow each other.
    pub fn log(&mut self, name: &str, log: &str) {
        self.begun.clear();
        for (number, trace) in traces(log) {
            self.steps += 1;
            if let Err(why) = self.step(&trace) {
                self.violations.push(format!("{name}:{number}: {}: {why}", trace.did.name()));
            }
        }
    }

    fn step(&mut self, trace: &Trace) -> Result<(), String> {
        if !trace.is_whole() {
            return Err("the view is not the one that the digest names".to_owned());
        }
        let site =
            trace.view.as_ref().map(|view| &view.record).or(trace.did.record()).map(|record| &record.site);
        let first = site.is_some_and(|site| self.begun.insert((trace.embassy.clone(), site.clone())));
        if let Some(view) = &trace.view {
            self.follows(trace, view, first)?;
            // What a killed process wrote and did not log is known from here on.
            self.sites.insert((trace.embassy.clone(), view.record.site.clone()), view.record.clone());
            decides(view, &trace.did)?;
            self.decided_again += 1;
            let shown = view.documents();
            self.shown.extend(
                shown.map(|(site, document)| (trace.embassy.clone(), site.to_owned(), document.clone())),
            );
        }
        let Some(record) = trace.did.record() else { return Ok(()) };
        let key = (trace.embassy.clone(), record.site.clone());
        if trace.view.is_none() {
            alone(self.sites.get(&key), &trace.did, record)?;
        }
        let revision = (key.0.clone(), key.1.clone(), record.revision);
        if let Some(earlier) = self.written.insert(revision, record.clone())
            && earlier != *record
        {
            return Err(format!("revision {} was written twice, and not the same", record.revision));
        }
        self.sites.insert(key, record.clone());
        Ok(())
    }

    /// The view's record is the one that this site wrote last, but for notes.
    /// A process that was killed may have written once more than it logged.
    fn follows(&self, trace: &Trace, view: &View, first: bool) -> Result<(), String> {
        let site = &view.record.site;
        let Some(last) = self.sites.get(&(trace.embassy.clone(), site.clone())) else { return Ok(()) };
        let noted = FailoverRecordSpec {
            peers: view.record.peers.clone(),
            volumes: view.record.volumes.clone(),
            ancestry: view.record.ancestry.clone(),
            objects: view.record.objects.clone(),
            boot_ids: view.record.boot_ids.clone(),
            sequence: view.record.sequence,
            carriers: view.record.carriers.clone(),
            // The end of a restore ends a re-clone; nothing but an approval, which is a revision, begins one.
            reclone: last.reclone && view.record.reclone,
            ..last.clone()
        };
        let unlogged = first && view.record.revision == last.revision + 1 && view.record.epoch >= last.epoch;
        if noted == view.record || unlogged {
            return Ok(());
        }
        Err(format!(
            "{site} wrote revision {} ({} in {}) last, and this step stands on revision {} ({} in {})",
            last.revision,
            last.role.as_str(),
            last.epoch,
            view.record.revision,
            view.record.role.as_str(),
            view.record.epoch
        ))
    }

    /// What must hold between sites: each word that was read had been written, and no epoch had two owners.
    pub fn between_sites(&mut self) {
        for (embassy, site, document) in &self.shown {
            let Some(record) = self.written.get(&(embassy.clone(), site.clone(), document.revision)) else {
                continue;
            };
            let said = (document.role, &document.epoch, document.held);
            if said != (record.role, &record.epoch, record.held()) {
                self.violations.push(format!(
                    "{site} was read as {} in {} at revision {}, which it wrote as {} in {}",
                    document.role.as_str(),
                    document.epoch,
                    document.revision,
                    record.role.as_str(),
                    record.epoch
                ));
            }
        }
        let mut began: BTreeMap<_, i64> = BTreeMap::new();
        for ((embassy, site, revision), record) in &self.written {
            if record.role != Role::Promoting {
                continue;
            }
            if let Some(earlier) = began.insert((embassy, site, &record.epoch), *revision)
                && (earlier + 1..*revision).any(|between| {
                    let between = self.written.get(&(embassy.clone(), site.clone(), between));
                    between.is_some_and(|record| !record.role.rules())
                })
            {
                self.violations.push(format!("{site} took the role in {} twice", record.epoch));
            }
        }
    }
}

/// The view, decided again, gives what was done, and release builds would do it.
fn decides(view: &View, did: &Did) -> Result<(), String> {
    let action = decide(view);
    let held = match (&action, did) {
        (Action::Write(written, _), Did::Write(record)) => {
            let next = FailoverRecordSpec { revision: view.record.revision + 1, ..brief(written) };
            if next != **record {
                return Err(format!("the view gives {next:?}, and {record:?} was written"));
            }
            check_write(&view.record, written)
        }
        // One that was begun is finished, although a newer point came meanwhile.
        (Action::Restore { discard, .. }, Did::Restore { discard: did, .. }) if discard == did => {
            check_restore(&view.record, *discard)
        }
        (Action::Start, Did::Start) => check_start(&view.record),
        (Action::Fence, Did::Fence) => Ok(()),
        (Action::Backup(towards), Did::Backup { towards: did }) if towards == did => Ok(()),
        _ => return Err(format!("the view gives {action:?}, and this was done: {did:?}")),
    };
    held.map_err(|violation| violation.to_string())
}

/// A record that no view led to: the first one, or one that takes over what the mail says. It is held unless all is new.
fn alone(last: Option<&FailoverRecordSpec>, did: &Did, record: &FailoverRecordSpec) -> Result<(), String> {
    let new = record.revision == 1 && matches!(record.role, Role::Active | Role::Standby);
    let says = document(record, false);
    match (did, last) {
        (Did::Begin(_), None) if new || says.held => Ok(()),
        (Did::Begin(_) | Did::Adopt(_), Some(last)) if record.revision > last.revision && says.held => {
            if record.epoch >= last.epoch {
                return Ok(());
            }
            Err(format!("I3: the epoch went back from {} to {}", last.epoch, record.epoch))
        }
        (Did::Adopt(_), None) if says.held => Ok(()),
        _ => Err(format!("revision {} begins without being held", record.revision)),
    }
}
