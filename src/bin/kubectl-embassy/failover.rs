//! `kubectl embassy failover`: says what will happen and what it costs, asks in words, writes the order, follows it.

use std::{
    io::{BufRead, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use data_embassy::api::{
    DataEmbassy, Failover, FailoverRecord,
    failover::{Attestation, FailoverKind, FailoverPhase, FailoverSpec, PeerState},
};
use kube::{Api, Client, ResourceExt, api::PostParams};

use super::{Failure, status::age};

/// What to move where.
#[derive(Args)]
pub struct Arguments {
    /// Name of the DataEmbassy.
    name: String,
    /// Its namespace.
    #[arg(long, short)]
    namespace: String,
    /// The site that shall run the register.
    #[arg(long)]
    to: String,
    /// Take over without the other site: run this at the site that takes over.
    #[arg(long, requires_all = ["by", "reason"])]
    forced: bool,
    /// Forced: what is known of the other site.
    #[arg(long, value_enum, default_value_t = Peer::PoweredOff)]
    peer: Peer,
    /// Forced: who says so.
    #[arg(long)]
    by: Option<String>,
    /// Forced: why it is so.
    #[arg(long)]
    reason: Option<String>,
    /// Forced: the newest copy may be this old, such as 2h.
    #[arg(long)]
    max_data_loss: Option<String>,
    /// The sentence that would be asked for, for scripts.
    #[arg(long)]
    acknowledge: Option<String>,
}

#[derive(ValueEnum, Clone, Copy)]
enum Peer {
    /// It is off, and stays off until it can reach the vault.
    PoweredOff,
    /// A person fenced it, and its fence is complete.
    Fenced,
}

/// Orders and follows. Ends with failure if the order is rejected or superseded.
pub async fn run(client: &Client, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let embassies: Api<DataEmbassy> = Api::namespaced(client.clone(), &arguments.namespace);
    let embassy = embassies.get(&arguments.name).await?;
    let records: Api<FailoverRecord> = Api::namespaced(client.clone(), &arguments.namespace);
    let record = records.get(&arguments.name).await.map_err(|error| {
        format!(
            "this site has no FailoverRecord for {} yet, so it can take no order: {error}",
            arguments.name
        )
    })?;
    let order = order(arguments, &record)?;
    explain(arguments, &embassy, &record);
    let sentence = if arguments.forced {
        format!("take over {} and lose what was not copied", arguments.name)
    } else {
        format!("move {} to {}", arguments.name, arguments.to)
    };
    if !acknowledged(arguments, &sentence)? {
        return Err("not acknowledged: nothing was done".into());
    }
    let orders: Api<Failover> = Api::namespaced(client.clone(), &arguments.namespace);
    orders.create(&PostParams::default(), &order).await?;
    println!("order {} written", order.name_any());
    follow(&orders, &order.name_any()).await
}

fn order(arguments: &Arguments, record: &FailoverRecord) -> Result<Failover, Failure> {
    let spec = &record.spec;
    // A forced order leaves a number free, so that a planned one that nobody knows of here cannot tie with it.
    let number = spec.top().number + if arguments.forced { 2 } else { 1 };
    let kind = if arguments.forced { FailoverKind::Forced } else { FailoverKind::Planned };
    if arguments.forced && spec.site != arguments.to {
        return Err(format!(
            "a forced order is given at the site that takes over: use the cluster of {}",
            arguments.to
        )
        .into());
    }
    let attestation = arguments.forced.then(|| Attestation {
        peer: match arguments.peer {
            Peer::PoweredOff => PeerState::PoweredOff,
            Peer::Fenced => PeerState::Fenced,
        },
        by: arguments.by.clone().unwrap_or_default(),
        reason: arguments.reason.clone().unwrap_or_default(),
    });
    let word = if arguments.forced { "forced" } else { "planned" };
    let mut order = Failover::new(
        &format!("{}-{word}-{number}", arguments.name),
        FailoverSpec {
            embassy: arguments.name.clone(),
            to: arguments.to.clone(),
            epoch: number,
            mode: kind,
            acknowledge_data_loss: arguments.forced.then_some(true),
            attestation,
            ticket: arguments.forced.then(|| spec.ticket()),
            max_data_loss: arguments.max_data_loss.clone(),
        },
    );
    order.metadata.namespace = Some(arguments.namespace.clone());
    Ok(order)
}

fn explain(arguments: &Arguments, embassy: &DataEmbassy, record: &FailoverRecord) {
    let status = embassy.status.clone().unwrap_or_default();
    let spec = &record.spec;
    println!(
        "{}/{} here in {}: {} in epoch {}",
        arguments.namespace,
        arguments.name,
        spec.site,
        spec.role.as_str(),
        spec.epoch
    );
    if arguments.forced {
        println!("A forced takeover: {} is not asked. It will:", spec.others());
        println!("  1. bring the volumes here to the newest recovery point, if they are not there already");
        println!("  2. start the register here; its own copies begin at once");
        println!(
            "  3. fence {} as soon as it can read its mail; what only it has is kept there",
            spec.others()
        );
        match &status.last_recovery_point {
            Some(point) => println!(
                "Lost or left behind: all that was written after recovery point {}/{}, which is {} old.",
                point.epoch,
                point.sequence,
                age(point.time.0)
            ),
            None => println!("There is NO recovery point: nothing can be taken over."),
        }
        println!(
            "You attest that {} does not run and stays off until it can reach the vault.",
            spec.others()
        );
    } else {
        println!("A planned switch loses nothing. It will:");
        println!("  1. stop the register where it runs, and copy it to the last byte");
        println!("  2. hand it over to {}, which starts it", arguments.to);
    }
}

fn acknowledged(arguments: &Arguments, sentence: &str) -> Result<bool, Failure> {
    if let Some(given) = &arguments.acknowledge {
        if given != sentence {
            return Err(format!("--acknowledge must be exactly: {sentence}").into());
        }
        return Ok(true);
    }
    print!("Type '{sentence}' to go on: ");
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim() == sentence)
}

async fn follow(orders: &Api<Failover>, name: &str) -> Result<ExitCode, Failure> {
    let start = Instant::now();
    let mut said = String::new();
    loop {
        let status = orders.get(name).await?.status.unwrap_or_default();
        let phase = status.phase;
        let message = status.message.clone().unwrap_or_default();
        if let Some(phase) = phase
            && said != message
        {
            println!("{:>6.1} s  {phase:?}: {message}", start.elapsed().as_secs_f64());
            said = message;
        }
        match phase {
            Some(FailoverPhase::Completed) => {
                println!("data lost: {}", status.data_loss.as_deref().unwrap_or("none"));
                return Ok(ExitCode::SUCCESS);
            }
            Some(FailoverPhase::Rejected | FailoverPhase::Superseded) => return Ok(ExitCode::FAILURE),
            _ => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    }
}
