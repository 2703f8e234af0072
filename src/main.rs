//! Arguments, logging, signals; dispatch to a subcommand.

use std::{error::Error, process::ExitCode};

use clap::{Parser, Subcommand};
use data_embassy::{
    mover,
    run::telemetry::{self, LogFormat},
    vault::server,
};
use tokio::signal::unix::{SignalKind, signal};

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
    /// Serve this site's vault: an append-only store behind mutual TLS, without access to the cluster.
    Vault(server::Arguments),
    /// Move a namespace's data once; run by the operator as a Job.
    Mover(mover::arguments::Arguments),
}

fn main() -> ExitCode {
    let result: Result<(), Box<dyn Error>> = match Arguments::parse().command {
        Command::Crd => data_embassy::api::definitions::print().map_err(Into::into),
        Command::Vault(arguments) => vault(arguments),
        Command::Mover(arguments) => {
            telemetry::start(LogFormat::Json);
            return mover::run::run(arguments);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("data-embassy: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn vault(arguments: server::Arguments) -> Result<(), Box<dyn Error>> {
    telemetry::start(LogFormat::Json);
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let shutdown = async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    };
    Ok(server::serve(arguments, shutdown).await?)
}
