//! Arguments, logging, signals; dispatch to a subcommand.
fn main() {}
