//! Wiring: controllers, leader lease, health, metrics.

pub mod health;
pub mod lease;
pub mod telemetry;
