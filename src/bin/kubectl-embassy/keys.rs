//! `kubectl embassy keys`: takes the keys of a register's copies out of the cluster, and proves that what was taken out opens.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use data_embassy::{
    api::epoch::Epoch,
    carry::keys::{KeyFile, identities},
    plan::desired::Owner,
    run::{keeper::Keeper, repository_keys},
    trust::sealing::SiteIdentity,
};
use kube::Client;

use super::{Failure, carry::Sites, register};

/// Take the keys out, and prove it.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Write the keys of all copies of a register into a file, sealed to people.
    Export(Export),
    /// Open such a file and compare it with the cluster's keys: then they no longer are in one place only.
    Check(Check),
}

#[derive(Args)]
struct Whose {
    #[command(flatten)]
    register: register::Name,
    /// Namespace of the operator.
    #[arg(long, default_value = "data-embassy-system")]
    operator_namespace: String,
}

#[derive(Args)]
struct Export {
    #[command(flatten)]
    whose: Whose,
    /// Whom it is sealed for, an age recipient (age1...); any one of several opens it.
    #[arg(long = "recipient", required = true)]
    recipients: Vec<String>,
    /// The file to write; none is overwritten.
    #[arg(long)]
    file: PathBuf,
}

#[derive(Args)]
struct Check {
    #[command(flatten)]
    whose: Whose,
    /// The file that was written.
    #[arg(long)]
    file: PathBuf,
    #[command(flatten)]
    identity: Identity,
}

/// Who opens a file of keys.
#[derive(Args)]
pub struct Identity {
    /// File with the age identity (AGE-SECRET-KEY-1...) that opens it; - reads it from standard input.
    #[arg(long)]
    identity: PathBuf,
}

impl Identity {
    /// Opens the file of a register's keys.
    pub fn open(&self, file: &Path, register: &register::Name) -> Result<KeyFile, Failure> {
        let text =
            fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        Ok(KeyFile::opened(&text, &self.read()?, &register.namespace, &register.name)?)
    }

    fn read(&self) -> Result<Vec<SiteIdentity>, Failure> {
        let text = if self.identity.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        } else {
            let path = self.identity.display();
            fs::read_to_string(&self.identity).map_err(|error| format!("cannot read {path}: {error}"))?
        };
        Ok(identities(&text)?)
    }
}

/// Runs the verb.
pub async fn run(client: &Client, arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.verb {
        Verb::Export(arguments) => export(client, arguments).await,
        Verb::Check(arguments) => check(client, arguments).await,
    }
}

/// The keys that this cluster has of a register.
async fn here(client: &Client, whose: &Whose) -> Result<(Keeper, Owner, BTreeMap<Epoch, String>), Failure> {
    let keeper = Sites::read(client, &whose.operator_namespace).await?.keeper();
    let register = &whose.register;
    let owner = Owner { namespace: register.namespace.clone(), name: register.name.clone() };
    let keys = repository_keys::all(&keeper, &owner).await?;
    if keys.is_empty() {
        return Err(format!(
            "there is no key of {}/{} in {}: its first copy makes one; --operator-namespace names another namespace",
            owner.namespace, owner.name, whose.operator_namespace
        )
        .into());
    }
    Ok((keeper, owner, keys))
}

async fn export(client: &Client, arguments: &Export) -> Result<ExitCode, Failure> {
    let (_, owner, keys) = here(client, &arguments.whose).await?;
    let epochs: Vec<String> = keys.keys().map(ToString::to_string).collect();
    let recipients: Vec<&str> = arguments.recipients.iter().map(String::as_str).collect();
    let sealed = KeyFile::new(&owner.namespace, &owner.name, keys).sealed(&recipients)?;
    let path = arguments.file.display();
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&arguments.file);
    let mut file = file.map_err(|error| format!("cannot write {path}: {error}; none is overwritten"))?;
    file.write_all(sealed.as_bytes())?;
    file.sync_all()?;
    println!("{path} holds the keys of {}, for {} recipients", epochs.join(", "), recipients.len());
    println!(
        "Now prove that it opens: kubectl embassy keys check {} -n {} --file {path} --identity FILE",
        owner.name, owner.namespace
    );
    Ok(ExitCode::SUCCESS)
}

async fn check(client: &Client, arguments: &Check) -> Result<ExitCode, Failure> {
    let file = arguments.identity.open(&arguments.file, &arguments.whose.register)?;
    let (keeper, owner, keys) = here(client, &arguments.whose).await?;
    let mut lacking = vec![];
    for (epoch, key) in &keys {
        if file.keys.get(epoch) == Some(key) {
            repository_keys::mark_kept(&keeper, &owner, epoch).await?;
            println!("{epoch}: the file opens and has this key");
        } else {
            println!("{epoch}: the file does not have this key");
            lacking.push(epoch.to_string());
        }
    }
    if lacking.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(format!("the file lacks the keys of {}: export them again, into a new file", lacking.join(", "))
        .into())
}
