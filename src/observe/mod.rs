//! I/O in: what the cluster and the mail say. Reads are live; watches only say when to look.

pub mod cluster;
pub mod drill;
pub mod post;
pub mod snapshots;
pub mod thinning;
