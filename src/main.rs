//! Arguments, logging, signals; dispatch to a subcommand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The Data Embassy operator: one binary, a subcommand for each role.
#[derive(Parser)]
#[command(version, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the CustomResourceDefinitions, as `crds/` holds them.
    Crd,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Crd => data_embassy::api::definitions::print(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("data-embassy: {error}");
            ExitCode::FAILURE
        }
    }
}
