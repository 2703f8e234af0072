//! `kubectl embassy discard`: shows what only a diverged site holds, and gives it up if a person says so.

use std::process::ExitCode;

use data_embassy::{
    api::{epoch::Epoch, failover_record::Role},
    plan::divergence,
};
use kube::Client;
use serde_json::json;

use super::{
    Failure,
    acknowledge::Acknowledged,
    follow::{Step, follow},
    gap,
    register::Register,
};

/// Approves the discard of exactly the epoch that was shown, and follows until the new copy is complete.
pub async fn run(client: &Client, arguments: &Acknowledged) -> Result<ExitCode, Failure> {
    let register = Register::read(client, &arguments.register).await?;
    let (record, name) = (&register.record, &register.name);
    let Some(own) = record.diverged.clone().filter(|_| record.role == Role::Diverged) else {
        return Err(format!(
            "nothing was done: {} is {}, and holds nothing that another site lacks. A discard is approved at the site \
             that is Diverged",
            record.site,
            record.role.as_str()
        )
        .into());
    };
    register.headline();
    show(&register, &own).await?;
    println!("It will overwrite the volumes here with the newest copy of {}.", record.epoch.site);
    arguments.acknowledgement.ask(&format!("discard {own} of {name}"))?;
    let approval = json!({"number": own.number, "site": own.site});
    register.patch(&json!({"spec": {"failover": {"approveDiscard": approval}}})).await?;
    follow(async || Ok(step(&register.again().await?, &own))).await
}

async fn show(register: &Register, own: &Epoch) -> Result<(), Failure> {
    let points = register.points().await?;
    let kept = divergence::kept(&register.record);
    let found = kept.and_then(|kept| points.iter().find(|(point, _)| point == kept));
    println!("Only this site holds what it wrote in epoch {own}:");
    let Some((point, object)) = found else {
        println!("  the recovery point that keeps it is not listed here: see kubectl get recoverypoints");
        return Ok(());
    };
    println!("  kept as recovery point {point}, {}", gap::told(object));
    if let Some(difference) = object.status.as_ref().and_then(|status| status.difference.as_ref()) {
        println!("  {}", divergence::in_words(difference));
        for example in &difference.examples {
            println!("    {example}");
        }
        if difference.added + difference.changed + difference.removed > examples(difference.examples.len()) {
            println!("    ...");
        }
    } else {
        let message = register.condition("Stalled").map(|(_, message)| message);
        println!("  {}", message.unwrap_or_default());
    }
    println!("The recovery point stays in the vault; the volumes here do not.");
    Ok(())
}

fn examples(shown: usize) -> i64 {
    i64::try_from(shown).unwrap_or(i64::MAX)
}

fn step(register: &Register, own: &Epoch) -> Step {
    let record = &register.record;
    let doing = register.status().progression.unwrap_or_default();
    if record.role == Role::Diverged && record.diverged.as_ref() == Some(own) {
        return Step::Going(format!("waiting for the operator here; {doing}"));
    }
    if record.role == Role::Standby && !record.reclone {
        return Step::Done("a standby with a complete new copy".to_owned());
    }
    Step::Going(if doing.is_empty() {
        format!("{} in {}", record.role.as_str(), record.epoch)
    } else {
        doing
    })
}
