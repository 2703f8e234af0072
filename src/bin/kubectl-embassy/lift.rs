//! `kubectl embassy lift`: a person asks to open a fence again.

use std::process::ExitCode;

use kube::Client;

use super::{
    Failure,
    acknowledge::Acknowledged,
    follow::{Step, follow},
    register::Register,
};

/// Asks and follows until the fence is open.
pub async fn run(client: &Client, arguments: &Acknowledged) -> Result<ExitCode, Failure> {
    let register = Register::read(client, &arguments.register).await?;
    let (name, site) = (&register.name, &register.record.site);
    if !register.record.human_fence {
        let why = if register.record.cold_fence {
            "it is held since all its nodes were started anew; that ends when the other sites confirm, or with kubectl \
             embassy resume"
        } else {
            "no person fenced it"
        };
        return Err(format!("nothing was done: there is no fence to lift in {site}: {why}").into());
    }
    register.headline();
    println!(
        "Lifting a fence asks the other site first: {site} opens once that has read this very request and"
    );
    println!(
        "neither rules nor is ahead. While it is silent {site} stays fenced; then, and only if you know that it"
    );
    println!("does not run: kubectl embassy resume {name} -n {}", register.namespace);
    if register.record.role.rules() {
        println!("The register starts here as soon as the fence is open.");
    }
    arguments.acknowledgement.ask(&format!("lift the fence of {name} in {site}"))?;
    register.annotate_fence("lift").await?;
    follow(async || Ok(step(&register.again().await?))).await
}

fn step(register: &Register) -> Step {
    let record = &register.record;
    match (record.human_fence, record.lifting) {
        (false, _) => Step::Done(format!("the fence is lifted; {} is {}", record.site, record.role.as_str())),
        (true, true) => Step::Going("waiting for the other site to confirm the request".to_owned()),
        (true, false) => Step::Going("waiting for the operator here".to_owned()),
    }
}
