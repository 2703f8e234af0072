//! The conditions of a `DataEmbassy`: each says what is so, why, and what to do about it.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::{
    custody,
    drill::serving,
    failover::{Action, Peer, View, impasse},
    manifest::Manifest,
    schedule,
    status::{Facts, active_site, phase},
    thinning::Standing,
    verification::{self, Checked},
};
use crate::api::{
    conditions::{ConditionType, Finding},
    duration,
    failover_record::{Role, VolumeCondition},
};

/// All of them, in the order in which people read them.
pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![
        protected(facts),
        replicating(facts),
        peer_reachable(facts),
        verified(facts),
        isolated(facts),
        fenced(facts),
        promotable(facts),
        rehearsed(facts),
        thinned(facts),
        in_sync(facts),
    ];
    found.extend(facts.serving.map(serving));
    let stalled = stalled(facts);
    let busy = !matches!(facts.action, Action::Nothing | Action::Wait(_));
    let ready = ready(facts, &found, &stalled);
    let (_, progression) = phase(facts);
    let doing = progression.unwrap_or_else(|| "nothing to do".to_owned());
    let reason = if busy { "Working" } else { "Steady" };
    found.insert(0, ready);
    found.insert(1, Finding::new(ConditionType::Reconciling, busy, reason, doing));
    found.insert(2, stalled);
    found
}

fn ready(facts: &Facts, found: &[Finding], stalled: &Finding) -> Finding {
    let record = &facts.view.record;
    if stalled.holds == Some(true) {
        return Finding::new(ConditionType::Ready, false, stalled.reason, stalled.message.clone());
    }
    let wanted: &[ConditionType] = match record.role {
        Role::Active => &[ConditionType::Protected, ConditionType::Replicating, ConditionType::PeerReachable],
        _ => &[ConditionType::Replicating, ConditionType::Promotable, ConditionType::PeerReachable],
    };
    let wrong = found.iter().find(|f| wanted.contains(&f.condition) && f.holds != Some(true));
    match (wrong, record.role) {
        (Some(wrong), _) => Finding::new(ConditionType::Ready, false, wrong.reason, wrong.message.clone()),
        (None, Role::Active) => Finding::new(
            ConditionType::Ready,
            true,
            "Protected",
            "the register runs here and is protected abroad",
        ),
        (None, Role::Standby) if facts.view.sealed => Finding::new(
            ConditionType::Ready,
            true,
            "Sealed",
            "ready to take over once a person brings the key",
        ),
        (None, Role::Standby) => {
            Finding::new(ConditionType::Ready, true, "InStep", "ready to take over from the newest copy")
        }
        (None, _) => {
            let (_, doing) = phase(facts);
            Finding::new(
                ConditionType::Ready,
                false,
                "Switching",
                doing.unwrap_or_else(|| "switching".to_owned()),
            )
        }
    }
}

fn stalled(facts: &Facts) -> Finding {
    let record = &facts.view.record;
    let is = |reason, message: String| Finding::new(ConditionType::Stalled, true, reason, message);
    if let Some((reason, why)) = facts.distrust {
        return is(reason, why.to_owned());
    }
    if facts.spec.suspend {
        return is(
            "Suspended",
            "spec.suspend is true: nothing is copied or switched; set it to false".to_owned(),
        );
    }
    if let Some(impasse) = impasse::of(facts.view) {
        return is("Impasse", impasse.to_string());
    }
    if let Some(own) = record.diverged.as_ref().filter(|_| record.role == Role::Diverged) {
        return is(
            "Diverged",
            format!(
                "this site holds bytes of {own} that {} does not have; they are kept as a recovery point: {}. To \
                 give them up run kubectl embassy discard here, or set spec.failover.approveDiscard: {{number: {}, \
                 site: {}}}",
                record.epoch.site,
                facts.divergence.unwrap_or("how much is not known yet"),
                own.number,
                own.site
            ),
        );
    }
    if record.human_fence && !record.lifting {
        return is(
            "HumanFence",
            "a person fenced this site; to lift it set annotation dataembassy.io/fence: lift".to_owned(),
        );
    }
    if record.held() {
        return is(
            "ColdStart",
            format!(
                "all nodes were started anew: nothing runs until {} confirmed, or a Forced order to {} with ticket {}",
                record.others(),
                record.site,
                record.ticket()
            ),
        );
    }
    Finding::new(ConditionType::Stalled, false, "NoHelpNeeded", "no person is needed")
}

fn age_of(manifest: &Manifest, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(manifest.cut_time.0)).unwrap_or_default()
}

fn in_words(age: Duration) -> String {
    let seconds = age.as_secs();
    let rounded = if seconds >= 7_200 { seconds / 3_600 * 3_600 } else { seconds / 60 * 60 };
    duration::format(Duration::from_secs(if seconds < 120 { seconds } else { rounded }))
}

fn protected(facts: &Facts) -> Finding {
    let finding = |holds: Option<bool>, reason, message: String| {
        Finding::new(ConditionType::Protected, holds, reason, message)
    };
    let Some(newest) = facts.newest else {
        return finding(Some(false), "NoRecoveryPoint", "there is no recovery point yet".to_owned());
    };
    if let Some(unprotected) = custody::unprotected(facts.unkept) {
        return unprotected;
    }
    let age = age_of(newest, facts.now);
    let rpo = duration::parse(&facts.spec.replication.rpo).unwrap_or_default();
    let active = facts.view.record.role == Role::Active;
    let source = active_site(facts.view).or_else(|| silent(facts.view).map(|(site, _)| site.to_owned()));
    let heard = source.as_ref().and_then(|site| facts.view.peers.get(site)).is_none_or(|peer| peer.recent);
    if !active && !heard {
        return finding(
            None,
            "PeerSilent",
            format!(
                "the newest copy is {} old; what {} did since is unknown",
                in_words(age),
                source.unwrap_or_default()
            ),
        );
    }
    if age <= rpo {
        finding(
            Some(true),
            "WithinRPO",
            format!("the newest recovery point is within the RPO of {}", facts.spec.replication.rpo),
        )
    } else {
        let why = facts.trouble.map_or_else(String::new, |trouble| format!(": {}", trouble.message));
        finding(
            Some(false),
            "BeyondRPO",
            format!("the newest recovery point is older than the RPO of {}{why}", facts.spec.replication.rpo),
        )
    }
}

fn replicating(facts: &Facts) -> Finding {
    let failure = facts.view.record.freeze.as_ref().and_then(|freeze| freeze.failure.as_ref());
    if let Some(why) = failure {
        let message = format!(
            "a writer may still hold still for a copy that has ended: {why}. It is tried again; let the writer go on by \
             hand or delete its Pod"
        );
        return Finding::new(ConditionType::Replicating, false, "ThawFailed", message);
    }
    match facts.trouble {
        Some(trouble) => {
            Finding::new(ConditionType::Replicating, false, trouble.reason, trouble.message.clone())
        }
        None => Finding::new(ConditionType::Replicating, true, "AsExpected", "the last copy succeeded"),
    }
}

/// A site that should report and does not; one whose vault does not answer first. Of an embassy that another embassy only
/// hears of through home nothing is expected.
fn silent(view: &View) -> Option<(&str, &Peer)> {
    let silent = view.peers.iter().filter(|(_, peer)| peer.shares_vault && !peer.recent);
    silent.min_by_key(|(_, peer)| peer.reach).map(|(site, peer)| (site.as_str(), peer))
}

fn peer_reachable(facts: &Facts) -> Finding {
    let finding = |holds: Option<bool>, reason, message: String| {
        Finding::new(ConditionType::PeerReachable, holds, reason, message)
    };
    let Some((site, peer)) = silent(facts.view) else {
        let near = facts.view.peers.iter().filter(|(_, peer)| peer.shares_vault);
        let near: Vec<&str> = near.map(|(site, _)| site.as_str()).collect();
        let verb = if near.len() == 1 { "reports" } else { "report" };
        return finding(Some(true), "Reporting", format!("{} {verb} regularly", near.join(" and ")));
    };
    let last = facts.reported.get(site).map_or_else(
        || format!("{site} has not reported yet"),
        |time| format!("the last report of {site} is of {}", time.0),
    );
    if peer.reach {
        finding(None, "PeerSilent", format!("{last}; whether it runs is not known"))
    } else {
        finding(Some(false), "VaultUnreachable", format!("the vault does not answer; {last}"))
    }
}

fn verified(facts: &Facts) -> Finding {
    let finding = |holds: Option<bool>, reason, message: String| {
        Finding::new(ConditionType::Verified, holds, reason, message)
    };
    if let Some(checked) = facts.checked.filter(|checked| !checked.is_sound()) {
        return finding(Some(false), "Damaged", damage_message(checked));
    }
    let Some(wanted) = &facts.spec.replication.verification else { return restored(facts) };
    let next = |after| schedule::next_of(&wanted.schedule, facts.identity, after);
    let trouble = facts.verification_trouble.map_or_else(String::new, |why| format!(": {why}"));
    match facts.checked {
        _ if next(facts.now).is_err() => {
            let why = next(facts.now).err().unwrap_or_default();
            let message = format!("spec.replication.verification.schedule cannot be read: {why}");
            finding(None, "InvalidSchedule", message)
        }
        None => Finding { message: format!("no verification has ended yet{trouble}"), ..restored(facts) },
        // A whole one was left out.
        Some(checked) if next(checked.time.0).and_then(next).is_ok_and(|due| due < facts.now) => finding(
            None,
            "Overdue",
            format!("the last verification ended at {}, and none since{trouble}", checked.time.0),
        ),
        Some(checked) => finding(
            Some(true),
            "ReadBack",
            format!(
                "all {} files of {} recovery points were read back at {} ({}) and are what was signed",
                checked.files, checked.points, checked.time.0, checked.depth
            ),
        ),
    }
}

fn damage_message(checked: &Checked) -> String {
    let first = checked.damage.first().map_or_else(String::new, |damage| format!(", the first: {damage}"));
    let cost = if checked.affected.is_empty() {
        "no recovery point is lost by it".to_owned()
    } else {
        format!("recovery points {} cannot be restored from them", verification::list(&checked.affected))
    };
    format!(
        "{} files of the vault are damaged{first}; {cost}. Put them back from a copy of the vault's volume, or switch \
         the register over and back: each reign begins a new repository",
        checked.damaged_files
    )
}

/// What restores proved, where nothing else was asked for.
fn restored(facts: &Facts) -> Finding {
    let finding = |holds: Option<bool>, reason, message: String| {
        Finding::new(ConditionType::Verified, holds, reason, message)
    };
    match (facts.verified, facts.newest) {
        (Some(verified), Some(newest)) if verified.point == newest.point => finding(
            Some(true),
            "Restored",
            "the newest copy was read back and restored, every blob checked".to_owned(),
        ),
        (Some(verified), Some(_)) => finding(
            Some(true),
            "EarlierRestored",
            format!("recovery point {} was read back and restored; newer ones follow", verified.point),
        ),
        _ => finding(None, "NotVerified", "no copy was read back abroad yet".to_owned()),
    }
}

fn isolated(facts: &Facts) -> Finding {
    if facts.isolated {
        Finding::new(ConditionType::Isolated, true, "PoliciesInPlace", "the network policies are in place")
    } else {
        let message =
            "spec.network.isolate is false: nothing closes the namespace while the register runs here";
        Finding::new(ConditionType::Isolated, false, "NotAsked", message)
    }
}

fn fenced(facts: &Facts) -> Finding {
    match (facts.fenced, facts.view.pods) {
        (true, false) => {
            Finding::new(ConditionType::Fenced, true, "Complete", "no Pod runs and none may start")
        }
        (true, true) => Finding::new(
            ConditionType::Fenced,
            false,
            "Stopping",
            format!("no Pod may start; still there: {}", facts.left.join("; ")),
        ),
        (false, _) => Finding::new(ConditionType::Fenced, false, "Open", "the register may run here"),
    }
}

fn promotable(facts: &Facts) -> Finding {
    let record = &facts.view.record;
    let finding = |holds: bool, reason, message: String| {
        Finding::new(ConditionType::Promotable, holds, reason, message)
    };
    match (record.role, record.volumes.condition) {
        (Role::Active | Role::Promoting, _) => finding(true, "RunsHere", "the register runs here".to_owned()),
        (Role::Standby, _) if facts.newest_damaged => finding(
            false,
            "CopyDamaged",
            "the newest copy is damaged at the vault: see condition Verified for what and what to do"
                .to_owned(),
        ),
        (Role::Standby, _) if facts.view.sealed => custody::promotable(facts.newest),
        (Role::Standby, VolumeCondition::Clean | VolumeCondition::Restoring)
            if facts.rehearsed.lacking.is_some() =>
        {
            let why = facts.rehearsed.lacking.clone().unwrap_or_default();
            finding(false, "NotRehearsed", format!("{why}: {HOW_TO_REHEARSE}"))
        }
        (Role::Standby, VolumeCondition::Clean) if !record.reclone => {
            let at = record.volumes.at.as_ref().map_or_else(String::new, |at| at.point.to_string());
            finding(true, "CopyHere", format!("the volumes hold recovery point {at}, complete and checked"))
        }
        (Role::Standby, VolumeCondition::Restoring) => finding(
            true,
            "Refreshing",
            "the volumes are being refreshed; a takeover finishes that first, from the vault here".to_owned(),
        ),
        (Role::Standby, _) => finding(false, "NoCopy", "the volumes hold no complete copy yet".to_owned()),
        (role, _) => finding(false, "NotStandby", format!("this site is {}", role.as_str())),
    }
}

fn serving(standing: &serving::Standing) -> Finding {
    let finding =
        |holds, reason, message: String| Finding::new(ConditionType::Serving, holds, reason, message);
    let served = standing.served.as_ref().map(|(point, since)| format!("{point} is served since {since}"));
    if let (Some(served), Some(why)) = (&served, &standing.unready) {
        return finding(false, "NotReady", format!("{served}, and not all of it is ready now: {why}"));
    }
    match (served, &standing.failed, &standing.doing) {
        (Some(served), None, _) => finding(true, "Published", served),
        (Some(served), Some(why), _) => {
            finding(true, "NotRefreshed", format!("{served}; a newer one could not be: {why}"))
        }
        (None, Some(why), _) => finding(
            false,
            "NotServed",
            format!(
                "{why}. Workloads see their volumes read-only; \
             spec.reading.serve.selector can name the ones that only read"
            ),
        ),
        (None, None, doing) => finding(
            false,
            "Beginning",
            doing.clone().unwrap_or_else(|| "waits for a recovery point".to_owned()),
        ),
    }
}

/// What to do for a drill.
const HOW_TO_REHEARSE: &str =
    "kubectl get drills says how the last one went; create a Drill here to rehearse now";

fn rehearsed(facts: &Facts) -> Finding {
    let finding = |holds: Option<bool>, reason, message: String| {
        Finding::new(ConditionType::Rehearsed, holds, reason, message)
    };
    let standing = facts.rehearsed;
    if let Some(why) = &standing.unreadable {
        let message = format!("spec.drills.schedule cannot be read: {why}");
        return finding(Some(false), "InvalidSchedule", message);
    }
    match (&standing.lacking, &standing.last) {
        (_, Some(last)) if !last.passed => {
            finding(Some(false), "DrillFailed", format!("drill {} failed: {}", last.name, last.message))
        }
        (Some(why), _) => finding(Some(false), "NotRehearsed", format!("{why}: {HOW_TO_REHEARSE}")),
        (None, Some(last)) => {
            let point = last.recovery_point.as_ref().map_or_else(String::new, ToString::to_string);
            let took = last.time_to_ready.as_deref().unwrap_or("unknown time");
            let message = format!(
                "drill {} passed at {}: recovery point {point} was ready in {took}",
                last.name, last.time.0
            );
            finding(Some(true), "DrillPassed", message)
        }
        (None, None) => {
            let message = "no drill was held at this site: create a Drill to prove that a copy runs here";
            finding(None, "NoDrill", message.to_owned())
        }
    }
}

fn thinned(facts: &Facts) -> Finding {
    let finding = |holds: Option<bool>, reason, message: String| {
        Finding::new(ConditionType::Thinned, holds, reason, message)
    };
    for (vault, standing) in &facts.thinned {
        match standing {
            Standing::Held(shrunk) => return finding(Some(false), "PointShrank", shrunk.to_string()),
            Standing::Failed(why) => {
                let message = format!("the vault of {vault} was not told what it may give up: {why}");
                return finding(Some(false), "NotOrdered", message);
            }
            Standing::Ordered { .. } => {}
        }
    }
    if facts.thinned.is_empty() {
        let message =
            "the active site says which recovery points a vault may give up; not this one, or not yet";
        return finding(None, "NotActive", message.to_owned());
    }
    let parts = facts.thinned.iter().filter_map(|(vault, standing)| match standing {
        Standing::Ordered { given_up, stay } => {
            Some(format!("{stay} points stay at {vault}, {given_up} are given up"))
        }
        _ => None,
    });
    let held = &facts.spec.replication.retention.immutable_for;
    let message = format!("{}; nothing is freed before {held}", parts.collect::<Vec<_>>().join(", "));
    finding(Some(true), "Ordered", message)
}

fn in_sync(facts: &Facts) -> Finding {
    if facts.drift.is_empty() {
        return Finding::new(
            ConditionType::SpecInSync,
            true,
            "Same",
            "the spec is the one that the active site mandates",
        );
    }
    let fields = facts.drift.join(", ");
    let message =
        format!("differs from the active site's spec in {fields}: apply the same manifest at both sites");
    Finding::new(ConditionType::SpecInSync, false, "SpecDrift", message)
}
