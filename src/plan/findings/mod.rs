//! The conditions of a `DataEmbassy`: each says what is so, why, and what to do about it.

mod copies;
mod takeover;

use self::{
    copies::{protected, replicating, thinned, verified},
    takeover::{promotable, rehearsed, serving},
};
use super::{
    failover::{Action, Peer, View, impasse},
    status::{Facts, phase},
};
use crate::api::{
    conditions::{ConditionType, Finding},
    failover_record::Role,
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
