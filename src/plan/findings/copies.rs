//! Whether recovery points are made in time, are what was signed, and what becomes of old ones.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::silent;
use crate::api::{
    conditions::{ConditionType, Finding},
    duration,
    failover_record::Role,
};
use crate::plan::{
    custody,
    manifest::Manifest,
    schedule,
    status::{Facts, active_site},
    thinning::Standing,
    verification::{self, Checked},
};

fn age_of(manifest: &Manifest, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(manifest.cut_time.0)).unwrap_or_default()
}

fn in_words(age: Duration) -> String {
    let seconds = age.as_secs();
    let rounded = if seconds >= 7_200 { seconds / 3_600 * 3_600 } else { seconds / 60 * 60 };
    duration::format(Duration::from_secs(if seconds < 120 { seconds } else { rounded }))
}

pub(super) fn protected(facts: &Facts) -> Finding {
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

pub(super) fn replicating(facts: &Facts) -> Finding {
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

pub(super) fn verified(facts: &Facts) -> Finding {
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

pub(super) fn thinned(facts: &Facts) -> Finding {
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
