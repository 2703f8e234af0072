//! `kubectl embassy resume`: a person lets a held site go on while nobody else can confirm it.

use std::process::ExitCode;

use clap::Args;
use kube::Client;

use super::{
    Failure,
    acknowledge::Acknowledgement,
    order::{AttestationArguments, Force, check, give, order},
    register::{Name, Register},
};

/// Which register, and what is known of the other site.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    register: Name,
    #[command(flatten)]
    attestation: AttestationArguments,
    #[command(flatten)]
    acknowledgement: Acknowledgement,
}

/// A forced order to this very site: it goes on with its own bytes.
pub async fn run(client: &Client, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let register = Register::read(client, &arguments.register).await?;
    let (record, name) = (&register.record, &register.name);
    let site = &record.site;
    if !(record.held() && record.role.owns()) {
        let how = if record.held() {
            format!(
                "it holds a copy, not the register: to take over from that copy use kubectl embassy failover {name} -n \
                 {} --to {site} --forced",
                register.namespace
            )
        } else {
            "it is not held: see kubectl embassy status".to_owned()
        };
        return Err(format!(
            "nothing was done: {site} is {}, and there is nothing to resume: {how}",
            record.role.as_str()
        )
        .into());
    }
    let force = Force { attestation: arguments.attestation.given()?, max_data_loss: None };
    let order = order(&register, site, Some(force));
    check(&register, &order)?;
    register.headline();
    println!("It will start the register here with the bytes of {site}, in a new epoch.");
    for other in register.status().sites.iter().filter(|other| other.name != *site) {
        println!(
            "The last that {} said: {} in epoch {}{}.",
            other.name,
            other.role.as_deref().unwrap_or("nothing"),
            other.epoch.as_deref().unwrap_or("-"),
            if other.reachable { "" } else { "; it is silent now" }
        );
    }
    println!(
        "If another site took over meanwhile, both run: what is written here is then only here. You attest that"
    );
    println!("none did, and that none runs.");
    arguments.acknowledgement.ask(&format!("resume {name} in {site}"))?;
    give(&register, &order).await
}
