//! Who of several replicas acts: a Lease, decided here, written with its resourceVersion.
//!
//! It keeps two operators from working against each other; it is no fence between sites.

use std::time::Duration;

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseState {
    /// Who holds it, if anybody.
    pub holder: Option<String>,
    /// How long a holder may be silent.
    pub duration: Duration,
    /// For how long this replica has seen the Lease unchanged, by its own monotonic clock: clocks of others do not count.
    pub unchanged_for: Duration,
}

/// What a replica does about the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseStep {
    /// Make it.
    Create,
    /// Take it over, its holder being gone or silent for too long.
    Take,
    /// Renew it.
    Renew,
    /// Another replica holds it; look again.
    Wait,
}

/// The next step of the replica called `me`.
#[must_use]
pub fn step(lease: Option<&LeaseState>, me: &str) -> LeaseStep {
    let Some(lease) = lease else { return LeaseStep::Create };
    match lease.holder.as_deref() {
        Some(holder) if holder == me => LeaseStep::Renew,
        Some(holder) if !holder.is_empty() && lease.unchanged_for < lease.duration => LeaseStep::Wait,
        _ => LeaseStep::Take,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(holder: &str, unchanged_for: u64) -> LeaseState {
        LeaseState {
            holder: Some(holder.to_owned()),
            duration: Duration::from_secs(15),
            unchanged_for: Duration::from_secs(unchanged_for),
        }
    }

    #[test]
    fn a_lease_is_taken_only_when_its_holder_is_gone() {
        assert_eq!(step(None, "a"), LeaseStep::Create);
        assert_eq!(step(Some(&held("b", 14)), "a"), LeaseStep::Wait);
        assert_eq!(step(Some(&held("b", 15)), "a"), LeaseStep::Take);
        assert_eq!(step(Some(&held("", 0)), "a"), LeaseStep::Take);
        assert_eq!(step(Some(&LeaseState { holder: None, ..held("", 0) }), "a"), LeaseStep::Take);
    }

    #[test]
    fn the_holder_renews() {
        assert_eq!(step(Some(&held("a", 99)), "a"), LeaseStep::Renew);
    }
}
