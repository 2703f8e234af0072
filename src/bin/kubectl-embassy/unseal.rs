//! `kubectl embassy unseal`: brings the key to a takeover at a sealed site. Each mover that needs it gets it sealed to itself alone, as
//! long as this runs; nothing keeps it.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use clap::Args;
use data_embassy::{
    api::{MOVER_LABEL, data_embassy::Standby, failover_record::Role},
    carry::keys::KeyFile,
    plan::desired::jobs::{UNSEAL, UNSEAL_ANNOTATION},
    trust::sealing::seal,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{AttachParams, ListParams},
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::{
    Failure,
    follow::{Step, follow},
    keys::Identity,
    register::{self, Register},
};

/// What to open.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    register: register::Name,
    /// The file that kubectl embassy keys export wrote at home.
    #[arg(long)]
    file: PathBuf,
    #[command(flatten)]
    identity: Identity,
}

/// Follows the takeover and brings the key whenever a mover waits for it, until the register runs here.
pub async fn run(client: &Client, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let file = arguments.identity.open(&arguments.file, &arguments.register)?;
    let register = Register::read(client, &arguments.register).await?;
    if register.embassy.spec.standby != Standby::Sealed {
        return Err("nothing is sealed here: spec.standby is not Sealed, and this site has the keys".into());
    }
    register.headline();
    let mut served = BTreeSet::new();
    follow(async || {
        let register = register.again().await?;
        let pods = register.api::<Pod>();
        for pod in waiting(&pods, &register.name).await? {
            let uid = pod.uid().unwrap_or_default();
            if served.contains(&uid) {
                continue;
            }
            match bring(&pods, &pod, &file).await {
                Ok(()) => drop(served.insert(uid)),
                Err(error) => return Ok(Step::Failed(error.to_string())),
            }
        }
        Ok(step(&register))
    })
    .await
}

/// Running movers that have no key.
async fn waiting(pods: &Api<Pod>, name: &str) -> Result<Vec<Pod>, Failure> {
    let movers =
        ListParams::default().labels(&format!("{MOVER_LABEL}={name}")).fields("status.phase=Running");
    let listed = pods.list(&movers).await?.items;
    Ok(listed.into_iter().filter(|pod| pod.annotations().contains_key(UNSEAL_ANNOTATION)).collect())
}

async fn bring(pods: &Api<Pod>, pod: &Pod, file: &KeyFile) -> Result<(), Failure> {
    let (name, epoch) = (pod.name_any(), &pod.annotations()[UNSEAL_ANNOTATION]);
    let key = epoch.parse().ok().and_then(|epoch| file.keys.get(&epoch)).ok_or_else(|| {
        let known: Vec<String> = file.keys.keys().map(ToString::to_string).collect();
        format!(
            "the key of {epoch} is needed, and the file has only {}: export the keys at home again, or take a newer file",
            known.join(", ")
        )
    })?;
    let parameters = AttachParams::default().container("mover").stdin(true).stdout(true).stderr(true);
    let command = ["/data-embassy", "unseal", "--folder", UNSEAL];
    let mut process = pods.exec(&name, command, &parameters).await?;
    let streams = (process.stdin(), process.stdout(), process.stderr());
    let (Some(mut stdin), Some(stdout), Some(mut stderr)) = streams else {
        return Err("the API server gives no stream".into());
    };
    let mut said = BufReader::new(stdout).lines();
    if let Some(recipient) = said.next_line().await? {
        let sealed = seal(key.as_bytes(), &[recipient.trim()])?;
        stdin.write_all(sealed.as_bytes()).await?;
        stdin.write_all(b"\n").await?;
        stdin.flush().await?;
        if let Some(answer) = said.next_line().await? {
            println!("{name}: {answer}");
            return Ok(());
        }
    }
    let mut why = String::new();
    stderr.read_to_string(&mut why).await?;
    let why = why.trim().trim_start_matches("data-embassy: ").to_owned();
    Err(format!("{name} did not take the key of {epoch}: {why}").into())
}

fn step(register: &Register) -> Step {
    let record = &register.record;
    if record.role == Role::Active && !record.held() {
        return Step::Done(format!("the register runs here in epoch {}", record.epoch));
    }
    match register.status().progression {
        Some(doing) => Step::Going(doing),
        None => Step::Going(format!("{} in {}", record.role.as_str(), record.epoch)),
    }
}
