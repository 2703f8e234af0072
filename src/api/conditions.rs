//! Conditions: closed sets of types and reasons, and the merge that keeps transition times honest.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

/// The condition types of a `DataEmbassy`. The first three follow kstatus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// Everything that the spec asks for holds, as far as this site can see.
    Ready,
    /// Work is under way towards the spec.
    Reconciling,
    /// A person must act before anything goes on.
    Stalled,
    /// The newest recovery point abroad is younger than the RPO.
    Protected,
    /// The last attempt at a recovery point (or at refreshing the standby) succeeded.
    Replicating,
    /// The peer's last signed report is recent.
    PeerReachable,
    /// The newest copy abroad was read back and verified.
    Verified,
    /// The network policies are in place.
    Isolated,
    /// The namespace is fenced: nothing but the mover may run in it.
    Fenced,
    /// Everything that a takeover at this site needs is here and checked.
    Promotable,
    /// The last drill at this site went as it should, and is not too long ago.
    Rehearsed,
    /// Readers are served, at an embassy whose standby is `ReadOnly`.
    Serving,
    /// Each vault was told which recovery points it may give up.
    Thinned,
    /// The spec at this site is the one that the active site mandates.
    SpecInSync,
}

impl ConditionType {
    /// The name in manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Protected => "Protected",
            Self::Replicating => "Replicating",
            Self::PeerReachable => "PeerReachable",
            Self::Verified => "Verified",
            Self::Isolated => "Isolated",
            Self::Fenced => "Fenced",
            Self::Promotable => "Promotable",
            Self::Rehearsed => "Rehearsed",
            Self::Serving => "Serving",
            Self::Thinned => "Thinned",
            Self::SpecInSync => "SpecInSync",
        }
    }
}

/// What a condition says; `None` in `holds` is `Unknown`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which condition.
    pub condition: ConditionType,
    /// Whether it holds.
    pub holds: Option<bool>,
    /// `PascalCase`, from a closed set.
    pub reason: &'static str,
    /// What happened and what to do next.
    pub message: String,
}

impl Finding {
    /// A condition that holds, does not hold, or (`None`) cannot be known.
    #[must_use]
    pub fn new(
        condition: ConditionType,
        holds: impl Into<Option<bool>>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { condition, holds: holds.into(), reason, message: message.into() }
    }
}

/// Longest message that the API server accepts in a condition, in characters.
const MAX_MESSAGE: usize = 32_768;

/// Conditions from findings; a transition time changes only when the status does.
#[must_use]
pub fn merge(old: &[Condition], findings: &[Finding], generation: i64, now: Timestamp) -> Vec<Condition> {
    findings
        .iter()
        .map(|f| condition(old, f.condition.as_str(), f.holds, f.reason, &f.message, generation, now))
        .collect()
}

/// One condition; its transition time changes only when its status does.
#[must_use]
pub fn condition(
    old: &[Condition],
    name: &str,
    holds: Option<bool>,
    reason: &str,
    message: &str,
    generation: i64,
    now: Timestamp,
) -> Condition {
    let status = match holds {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let since = old
        .iter()
        .find(|c| c.type_ == name && c.status == status)
        .map_or(Time(now), |c| c.last_transition_time.clone());
    Condition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.chars().take(MAX_MESSAGE).collect(),
        last_transition_time: since,
        observed_generation: Some(generation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let (t1, t2) = (Timestamp::from_second(1_000).unwrap(), Timestamp::from_second(2_000).unwrap());
        let first = merge(&[], &[Finding::new(ConditionType::Ready, true, "AsExpected", "a")], 1, t1);
        let same = merge(&first, &[Finding::new(ConditionType::Ready, true, "AsExpected", "b")], 2, t2);
        assert_eq!(same[0].last_transition_time, Time(t1));
        assert_eq!(same[0].message, "b");
        let changed = merge(&same, &[Finding::new(ConditionType::Ready, None, "PeerSilent", "c")], 2, t2);
        assert_eq!((changed[0].status.as_str(), &changed[0].last_transition_time), ("Unknown", &Time(t2)));
    }
}
