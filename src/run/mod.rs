//! Wiring: controllers, leader lease, health, metrics.
