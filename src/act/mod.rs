//! I/O out: applies, prunes, writes, reports.

pub mod apply;
pub mod drill;
pub mod exec;
pub mod fence;
pub mod hooks;
pub mod movers;
pub mod record;
pub mod report;
pub mod snapshots;
