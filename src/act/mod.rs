//! I/O out: applies, prunes, reports.

pub mod apply;
