//! Pure: what should be, from what was seen. No client, async, clock, randomness or environment.

pub mod bandwidth;
mod custody;
pub mod desired;
pub mod divergence;
pub mod drill;
pub mod failover;
pub mod findings;
pub mod hooks;
pub mod intent;
pub mod lease;
pub mod letter;
pub mod mandate;
pub mod manifest;
pub mod renewal;
pub mod schedule;
pub mod snapshots;
pub mod status;
pub mod task;
pub mod thinning;
pub mod verification;
