//! `kubectl embassy fence`: a person stops the register at this site.

use std::process::ExitCode;

use kube::Client;

use super::{
    Failure,
    acknowledge::Acknowledged,
    follow::{Step, follow},
    register::Register,
};

/// Fences and follows until no container with a protected volume is left.
pub async fn run(client: &Client, arguments: &Acknowledged) -> Result<ExitCode, Failure> {
    let register = Register::read(client, &arguments.register).await?;
    let (name, site) = (&register.name, &register.record.site);
    register.headline();
    println!("A fence at {site}. It will:");
    println!("  1. let no Pod but the mover start in namespace {}", register.namespace);
    println!("  2. stop every workload there, keeping its scale, and wait until no container is left");
    if register.record.role.rules() {
        println!("The register runs HERE: it is down until the fence is lifted or another site takes over.");
    }
    println!("Nothing is lost. To open it again: kubectl embassy lift {name} -n {}", register.namespace);
    arguments.acknowledgement.ask(&format!("fence {name} in {site}"))?;
    register.annotate_fence("true").await?;
    follow(async || Ok(step(&register.again().await?))).await
}

fn step(register: &Register) -> Step {
    if !register.record.human_fence || register.record.lifting {
        return Step::Going("waiting for the operator here".to_owned());
    }
    match register.condition("Fenced") {
        Some((status, message)) if status == "True" => Step::Done(format!("fenced: {message}")),
        Some((_, message)) => Step::Going(format!("stopping: {message}")),
        None => Step::Going("stopping".to_owned()),
    }
}
