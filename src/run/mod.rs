//! Wiring: controllers, leader lease, health, metrics.

pub mod lease;
