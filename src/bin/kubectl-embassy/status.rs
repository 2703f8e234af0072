//! `kubectl embassy status`.

use std::process::ExitCode;

use clap::Args;
use data_embassy::api::{DataEmbassy, Failover, data_embassy::DataEmbassyStatus};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, ResourceExt, api::ListParams};

use super::Failure;

/// What to look at.
#[derive(Args)]
pub struct Arguments {
    /// Name of one DataEmbassy; default: all.
    name: Option<String>,
    /// Its namespace; default: all.
    #[arg(long, short)]
    namespace: Option<String>,
}

/// Prints; fails if any of them is not ready, so that scripts can ask.
pub async fn run(client: &Client, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let api: Api<DataEmbassy> = match &arguments.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let found = api.list(&ListParams::default()).await?.items;
    let wanted =
        |embassy: &&DataEmbassy| arguments.name.as_ref().is_none_or(|name| *name == embassy.name_any());
    let found: Vec<&DataEmbassy> = found.iter().filter(wanted).collect();
    if found.is_empty() {
        return Err(
            "there is no such DataEmbassy here; 'kubectl get dataembassy -A' shows those that are".into()
        );
    }
    let mut ready = true;
    for embassy in found {
        ready &= show(client, embassy).await?;
    }
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

async fn show(client: &Client, embassy: &DataEmbassy) -> Result<bool, Failure> {
    let namespace = embassy.namespace().unwrap_or_default();
    let name = embassy.name_any();
    let Some(status) = &embassy.status else {
        println!(
            "{namespace}/{name}: no status yet; is the operator running? kubectl -n data-embassy-system get pods"
        );
        return Ok(false);
    };
    let is_ready = condition(status, "Ready") == Some("True");
    println!("{namespace}/{name}: {}", if is_ready { "ready" } else { "NOT READY" });
    println!(
        "  active at {}, epoch {}, ticket {}",
        status.active_site.as_deref().unwrap_or("(nobody, as far as is known here)"),
        status.epoch.as_deref().unwrap_or("-"),
        status.ticket.as_deref().unwrap_or("-")
    );
    for site in &status.sites {
        println!(
            "  {:<14} {:<10} at {:<22} {}",
            site.name,
            site.role.as_deref().unwrap_or("unknown"),
            site.data_point.as_deref().unwrap_or("-"),
            if site.reachable { "" } else { "silent" }
        );
    }
    if let Some(point) = &status.last_recovery_point {
        println!("  newest copy {}/{}, {} old", point.epoch, point.sequence, age(point.time.0));
    }
    if let Some(point) = &status.last_verified {
        println!("  last verified {}/{}", point.epoch, point.sequence);
    }
    for condition in status.conditions.iter().filter(|c| wrong(&c.type_, &c.status)) {
        println!("  {} is {}: {}", condition.type_, condition.status, condition.message);
    }
    orders(client, &namespace, &name).await?;
    Ok(is_ready)
}

async fn orders(client: &Client, namespace: &str, name: &str) -> Result<(), Failure> {
    let api: Api<Failover> = Api::namespaced(client.clone(), namespace);
    let mut orders = api.list(&ListParams::default()).await?.items;
    orders.retain(|order| order.spec.embassy == name);
    orders.sort_by_key(|order| order.spec.epoch());
    for order in orders.iter().rev().take(3) {
        let status = order.status.clone().unwrap_or_default();
        println!(
            "  order {}: {:?} to {} in epoch {}: {} {}",
            order.name_any(),
            order.spec.mode,
            order.spec.to,
            order.spec.epoch,
            status
                .phase
                .map_or_else(|| "not seen by the operator yet".to_owned(), |phase| format!("{phase:?}")),
            status.message.unwrap_or_default()
        );
    }
    Ok(())
}

fn condition<'a>(status: &'a DataEmbassyStatus, name: &str) -> Option<&'a str> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == name)
        .map(|condition| condition.status.as_str())
}

/// Conditions whose state a person should know of.
fn wrong(name: &str, status: &str) -> bool {
    match name {
        "Stalled" => status == "True",
        "Reconciling" | "Fenced" => false,
        _ => status != "True",
    }
}

/// In words, of a moment in the past.
pub fn age(time: Timestamp) -> String {
    let seconds = Timestamp::now().duration_since(time).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
