//! `kubectl embassy`: what people use on top of `kubectl get`. It needs the caller's own rights and adds none.

mod abort;
mod acknowledge;
mod carry;
mod check;
mod discard;
mod export;
mod failover;
mod fence;
mod first_copy;
mod follow;
mod gap;
mod import;
mod invite;
mod keys;
mod lift;
mod order;
mod register;
mod resume;
mod status;
mod unseal;
mod verdict;

use std::{io::Write, process::ExitCode};

use clap::{Parser, Subcommand};
use kube::{Client, Config, config::KubeConfigOptions};

/// Look at data embassies, link sites, move the active role.
#[derive(Parser)]
#[command(name = "kubectl embassy", version, about)]
struct Arguments {
    /// Context of the kubeconfig; default: the current one.
    #[arg(long, global = true)]
    context: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what runs where, how old the newest copy is, and what is wrong.
    Status(status::Arguments),
    /// Print the manifest that lets another site use the vault of this one; apply it in that site's cluster.
    Invite(invite::Arguments),
    /// Move the active role, planned or forced, and follow it.
    Failover(failover::Arguments),
    /// Take a planned switch back: run this at the site that had the role.
    Abort(acknowledge::Acknowledged),
    /// Stop the register at this site, whatever its role, until the fence is lifted.
    Fence(acknowledge::Acknowledged),
    /// Ask to lift the fence that a person set at this site.
    Lift(acknowledge::Acknowledged),
    /// Let a site that is held after a cold start go on with its own bytes, while the other sites are silent.
    Resume(resume::Arguments),
    /// Give up what only this diverged site holds, and copy it anew from the active site.
    #[command(visible_alias = "reclone")]
    Discard(acknowledge::Acknowledged),
    /// Copy recovery points, or the first copy of all, into a folder that is carried by hand.
    Export(export::Arguments),
    /// Put what was carried by hand into a vault.
    Import(import::Arguments),
    /// Take the keys of the copies out of the cluster, sealed to people, and prove that they open.
    Keys(keys::Arguments),
    /// Bring the key to a takeover at a sealed site.
    Unseal(unseal::Arguments),
    /// Read a folder back that is carried by hand; needs no cluster.
    Check(check::Arguments),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match (&arguments.command, client(arguments.context)) {
        (Command::Check(arguments), _) => check::run(arguments).await,
        (command, client) => match client.await {
            Ok(client) => perform(&client, command).await,
            Err(error) => Err(error),
        },
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            // What was printed before must stand before the error.
            let _ = std::io::stdout().flush();
            eprintln!("error: {}", in_words(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn perform(client: &Client, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Status(arguments) => status::run(client, arguments).await,
        Command::Invite(arguments) => invite::run(client, arguments).await,
        Command::Failover(arguments) => failover::run(client, arguments).await,
        Command::Abort(arguments) => abort::run(client, arguments).await,
        Command::Fence(arguments) => fence::run(client, arguments).await,
        Command::Lift(arguments) => lift::run(client, arguments).await,
        Command::Resume(arguments) => resume::run(client, arguments).await,
        Command::Discard(arguments) => discard::run(client, arguments).await,
        Command::Export(arguments) => export::run(client, arguments).await,
        Command::Import(arguments) => import::run(client, arguments).await,
        Command::Keys(arguments) => keys::run(client, arguments).await,
        Command::Unseal(arguments) => unseal::run(client, arguments).await,
        Command::Check(arguments) => check::run(arguments).await,
    }
}

/// Of an API server's refusal only its sentence: the rest is for programs.
fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => format!("the API server refused: {}", status.message),
        _ => error.to_string(),
    }
}

type Failure = Box<dyn std::error::Error>;

async fn client(context: Option<String>) -> Result<Client, Failure> {
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let config = Config::from_kubeconfig(&options)
        .await
        .map_err(|error| format!("no cluster to talk to: set KUBECONFIG or --context ({error})"))?;
    Ok(Client::try_from(config)?)
}
