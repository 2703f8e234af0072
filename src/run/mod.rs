//! Wiring: controllers, leader lease, health, metrics.

pub mod context;
pub mod controller;
pub mod divergence;
pub mod embassy;
pub mod error;
pub mod health;
pub mod hosting;
pub mod keeper;
pub mod lease;
pub mod link;
pub mod mail;
pub mod memory;
pub mod metrics;
pub mod mover_jobs;
pub mod movers;
pub mod namespace;
pub mod parties;
pub mod points;
pub mod renewal;
pub mod reporting;
pub mod repository_keys;
pub mod round;
pub mod sites;
pub mod telemetry;
pub mod verification;
