//! `kubectl embassy failover`: says what will happen and what it costs, asks in words, writes the order, follows it.

use std::process::ExitCode;

use clap::Args;
use kube::Client;

use super::{
    Failure,
    acknowledge::Acknowledgement,
    gap,
    order::{AttestationArguments, Force, check, give, order},
    register::{Name, Register},
};

/// What to move where.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    register: Name,
    /// The site that shall run the register.
    #[arg(long)]
    to: String,
    /// Take over without the other site: run this at the site that takes over.
    #[arg(long)]
    forced: bool,
    #[command(flatten)]
    attestation: AttestationArguments,
    /// Forced: the newest copy may be this old, such as 2h.
    #[arg(long)]
    max_data_loss: Option<String>,
    #[command(flatten)]
    acknowledgement: Acknowledgement,
}

/// Orders and follows. Ends with failure if the order is rejected or superseded.
pub async fn run(client: &Client, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let register = Register::read(client, &arguments.register).await?;
    let force = if arguments.forced {
        let attestation = arguments.attestation.given()?;
        Some(Force { attestation, max_data_loss: arguments.max_data_loss.clone() })
    } else {
        None
    };
    let order = order(&register, &arguments.to, force);
    check(&register, &order)?;
    register.headline();
    let name = &register.name;
    if arguments.forced {
        forced(&register).await?;
        arguments.acknowledgement.ask(&format!("take over {name} and lose what was not copied"))?;
    } else {
        println!("A planned switch loses nothing. It will:");
        println!("  1. stop the register here, and copy it to the last byte");
        println!("  2. hand it over to {}, which starts it", arguments.to);
        println!("To take it back while it is under way: kubectl embassy abort {name}, here.");
        arguments.acknowledgement.ask(&format!("move {name} to {}", arguments.to))?;
    }
    give(&register, &order).await
}

async fn forced(register: &Register) -> Result<(), Failure> {
    let peer = register.record.others();
    println!("A forced takeover: {peer} is not asked. It will:");
    println!("  1. bring the volumes here to the newest recovery point, if they are not there already");
    println!("  2. start the register here; its own copies begin at once");
    println!("  3. fence {peer} as soon as it can read its mail; what only it has is kept there");
    gap::show(register).await?;
    println!("You attest that {peer} does not run and stays off until it can reach the vault.");
    Ok(())
}
