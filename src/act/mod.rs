//! I/O out: applies, prunes, reports.
