//! What people are told: the status of a `DataEmbassy`, from what was seen.

use std::collections::BTreeMap;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{
    drill::{calendar::Standing, serving},
    failover::{Action, Peer, View},
    findings::findings,
    manifest::Manifest,
    thinning,
    verification::Checked,
};
use crate::api::{
    conditions::merge,
    data_embassy::{DataEmbassySpec, DataEmbassyStatus, PointStatus, SiteReport, VerificationStatus},
    epoch::{Epoch, PointRef},
    failover_record::{FailoverRecordSpec, Role},
};

/// A failure of the last attempt at a copy or a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// `PascalCase`, from the mover's closed set or ours.
    pub reason: &'static str,
    /// What happened and what to do.
    pub message: String,
}

/// What a status is made of.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The spec in force.
    pub spec: &'a DataEmbassySpec,
    /// Its generation.
    pub generation: i64,
    /// What the decision stood on.
    pub view: &'a View,
    /// What was decided.
    pub action: &'a Action,
    /// The newest committed point of either site.
    pub newest: Option<&'a Manifest>,
    /// The newest point that was restored abroad, every blob checked.
    pub verified: Option<&'a Manifest>,
    /// The last verification of all that a vault holds; where there are several, one that found damage.
    pub checked: Option<&'a Checked>,
    /// Whether the newest point is damaged at its vault.
    pub newest_damaged: bool,
    /// Namespace and name, which a schedule may depend on.
    pub identity: &'a str,
    /// Why the last verification did not end.
    pub verification_trouble: Option<&'a str>,
    /// When each other site last reported, by its clock; for people.
    pub reported: BTreeMap<&'a str, &'a Time>,
    /// The last failure, if the last attempt failed.
    pub trouble: Option<&'a Trouble>,
    /// Why nothing is decided on the mail of some vault: a reason and a sentence.
    pub distrust: Option<(&'static str, &'a str)>,
    /// Whether the policies are in place.
    pub isolated: bool,
    /// Whether the fence is in place.
    pub fenced: bool,
    /// What the fence still waits for, in words.
    pub left: &'a [String],
    /// What only this site holds, in words, where it has diverged.
    pub divergence: Option<&'a str>,
    /// How far this site is rehearsed.
    pub rehearsed: &'a Standing,
    /// What is served to readers; at an embassy with a `ReadOnly` standby only.
    pub serving: Option<&'a serving::Standing>,
    /// How far each vault was thinned out; at the active site only.
    pub thinned: BTreeMap<&'a str, &'a thinning::Standing>,
    /// Epochs whose keys are in this cluster only, where people are to keep copies.
    pub unkept: &'a [Epoch],
    /// Fields in which the spec here differs from the mandate.
    pub drift: &'a [String],
    /// Now.
    pub now: Timestamp,
}

/// The status.
#[must_use]
pub fn status(facts: &Facts, old: Option<&DataEmbassyStatus>) -> DataEmbassyStatus {
    let record = &facts.view.record;
    let (phase, progression) = phase(facts);
    let old_conditions = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    DataEmbassyStatus {
        observed_generation: Some(facts.generation),
        role: Some(shown_role(record)),
        active_site: active_site(facts.view),
        epoch: Some(record.epoch.to_string()),
        phase: Some(phase.to_owned()),
        progression,
        ticket: Some(record.ticket()),
        last_recovery_point: facts.newest.map(point_status),
        last_verified: facts.verified.map(point_status),
        verification: facts.checked.map(verification_status),
        last_drill: facts.rehearsed.last.clone(),
        sites: sites(facts.view),
        conditions: merge(old_conditions, &findings(facts), facts.generation, facts.now),
    }
}

fn point_status(manifest: &Manifest) -> PointStatus {
    PointStatus {
        epoch: manifest.point.epoch.to_string(),
        sequence: manifest.point.sequence,
        time: manifest.cut_time.clone(),
    }
}

fn verification_status(checked: &Checked) -> VerificationStatus {
    VerificationStatus {
        time: checked.time.clone(),
        depth: checked.depth,
        points: checked.points,
        files: checked.files,
        bytes: checked.bytes,
        damaged_files: checked.damaged_files,
        damage: checked.damage.iter().map(ToString::to_string).collect(),
    }
}

/// A held site is shown as fenced, whatever its role.
fn shown_role(record: &FailoverRecordSpec) -> String {
    if record.held() { "Fenced".to_owned() } else { record.role.as_str().to_owned() }
}

pub(super) fn active_site(view: &View) -> Option<String> {
    if view.record.role == Role::Active && !view.record.held() {
        return Some(view.record.site.clone());
    }
    let ruling = view.documents().filter(|(_, document)| {
        document.role.rules() && !document.held && document.epoch >= view.record.epoch
    });
    ruling.max_by_key(|(_, document)| &document.epoch).map(|(site, _)| site.to_owned())
}

fn sites(view: &View) -> Vec<SiteReport> {
    let record = &view.record;
    let at = |point: Option<&PointRef>| point.map(ToString::to_string);
    let own = SiteReport {
        name: record.site.clone(),
        role: Some(shown_role(record)),
        epoch: Some(record.epoch.to_string()),
        revision: Some(record.revision),
        reachable: true,
        data_point: at(record.volumes.at.as_ref().map(|at| &at.point)),
    };
    let other = |(name, peer): (&String, &Peer)| {
        let document = peer.document.as_ref();
        let shown = |held: bool, role: Role| if held { "Fenced" } else { role.as_str() }.to_owned();
        SiteReport {
            name: name.clone(),
            role: document.map(|document| shown(document.held, document.role)),
            epoch: document.map(|document| document.epoch.to_string()),
            revision: document.map(|document| document.revision),
            reachable: document.is_some() && peer.recent,
            data_point: at(document.and_then(|document| document.at.as_ref()).map(|at| &at.point)),
        }
    };
    std::iter::once(own).chain(view.peers.iter().map(other)).collect()
}

pub(super) fn phase(facts: &Facts) -> (&'static str, Option<String>) {
    match facts.action {
        Action::Nothing => ("Steady", None),
        Action::Wait(what) => ("Waiting", Some(format!("waiting for {what}"))),
        Action::Write(_, why) => ("Changing", Some((*why).to_owned())),
        Action::Note(_) => ("Changing", None),
        Action::Fence => ("Fencing", Some("stopping everything that uses the protected volumes".to_owned())),
        Action::Start => ("Starting", Some("starting the register".to_owned())),
        Action::Restore { point, .. } => {
            let key =
                if facts.view.sealed { "; its mover waits for the key: kubectl embassy unseal" } else { "" };
            ("Restoring", Some(format!("bringing the volumes to recovery point {}{key}", point.data.point)))
        }
        Action::Backup(_) => {
            ("Copying", Some("keeping the bytes of this site as a recovery point".to_owned()))
        }
    }
}
