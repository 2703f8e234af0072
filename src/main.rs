//! Arguments, logging, signals; dispatch to a subcommand.

use std::{error::Error, process::ExitCode};

use clap::{Parser, Subcommand};
use data_embassy::{
    guard, mover,
    run::controller,
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
    /// Speak for this site: reconcile its embassies.
    Controller(controller::Arguments),
    /// Serve this site's vault: an append-only store behind mutual TLS, without access to the cluster.
    Vault(server::Arguments),
    /// Let a Pod of the register start only when this site's operator says so; an init container.
    Guard(guard::Arguments),
    /// Move a namespace's data once; run by the operator as a Job.
    Mover(mover::arguments::Arguments),
    /// Hand the key that comes on standard input to the mover that waits for it in this Pod; run by `kubectl embassy unseal`.
    Unseal(mover::unseal::Arguments),
}

fn main() -> ExitCode {
    let result: Result<(), Box<dyn Error>> = match Arguments::parse().command {
        Command::Crd => data_embassy::api::definitions::print().map_err(Into::into),
        Command::Controller(arguments) => controller(arguments),
        Command::Vault(arguments) => vault(arguments),
        Command::Guard(arguments) => guarded(&arguments),
        Command::Unseal(arguments) => mover::unseal::bring(&arguments).map_err(Into::into),
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

#[tokio::main(worker_threads = 2)]
async fn controller(arguments: controller::Arguments) -> Result<(), Box<dyn Error>> {
    telemetry::start(arguments.log_format);
    let ended = stopped()?;
    Ok(controller::run(arguments, ended).await?)
}

/// Ends at once when it is asked to: as the first process of a container it would otherwise be waited for and killed.
#[tokio::main(flavor = "current_thread")]
async fn guarded(arguments: &guard::Arguments) -> Result<(), Box<dyn Error>> {
    telemetry::start(LogFormat::Text);
    let ended = stopped()?;
    tokio::select! {
        () = guard::wait(arguments) => Ok(()),
        () = ended => Err("stopped before this site's operator gave leave".into()),
    }
}

#[tokio::main]
async fn vault(arguments: server::Arguments) -> Result<(), Box<dyn Error>> {
    telemetry::start(LogFormat::Json);
    let ended = stopped()?;
    Ok(server::serve(arguments, ended).await?)
}

/// Ends when the process is asked to end.
fn stopped() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    })
}
