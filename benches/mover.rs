//! The mover's backup and restore as one process each, without an API server, and the certificates that they need: the
//! hands of `tests/bench/data.py`, which measures them from outside.

use std::{error::Error, fs, path::Path, sync::Arc};

use clap::{Parser, Subcommand};
use data_embassy::{
    mover::{
        backup::{BackupParameters, backup},
        engine::{Engine, Store, new_key},
        outcome::Outcome,
        restore::{Expected, RestoreParameters, restore},
    },
    trust::{
        certificates::Authority,
        identity::Role,
        tls::{Material, blocking_client},
    },
    vault::{client::RepositoryClient, protocol::Policy},
};

const CLAIM: &str = "data";

type Failure = Box<dyn Error>;

#[derive(Parser)]
struct Arguments {
    /// Given by `cargo bench`; without a command nothing is done.
    #[arg(long)]
    bench: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Make an authority, the vault's certificate, the clients' and a repository key.
    Prepare { folder: String },
    /// Let tallinn store in that vault.
    Host { folder: String, vault: String },
    /// Copy `home` into the repository; `inventory_base` is the inventory of the copy before, as its outcome names it.
    Backup { folder: String, vault: String, repository: String, home: String, inventory_base: Option<String> },
    /// Bring `abroad` to the snapshot of an outcome that `backup` printed.
    Restore {
        folder: String,
        vault: String,
        repository: String,
        abroad: String,
        outcome: String,
        previous: Option<String>,
    },
}

fn main() -> Result<(), Failure> {
    match Arguments::parse().command {
        None => println!("nothing to do: make bench-data runs the benchmark"),
        Some(Command::Prepare { folder }) => prepare(Path::new(&folder))?,
        Some(Command::Host { folder, vault }) => host(Path::new(&folder), &vault)?,
        Some(Command::Backup { folder, vault, repository, home, inventory_base }) => {
            let (store, key) = repository_of(Path::new(&folder), &vault, &repository)?;
            let parameters = BackupParameters {
                volumes: home.into(),
                claims: vec![CLAIM.to_owned()],
                objects: None,
                object_count: 0,
                inventory_base,
            };
            let done = backup(Engine::open_or_create(store, &key)?, &parameters)?;
            println!("{}", serde_json::to_string(&Outcome::Backup(done))?);
        }
        Some(Command::Restore { folder, vault, repository, abroad, outcome, previous }) => {
            let (store, key) = repository_of(Path::new(&folder), &vault, &repository)?;
            let Outcome::Backup(done) = Outcome::parse(&outcome)? else {
                return Err("the outcome is not that of a backup".into());
            };
            let parameters = RestoreParameters {
                volumes: abroad.into(),
                claims: vec![CLAIM.to_owned()],
                snapshot: done.snapshot,
                expected: Expected {
                    content_digest: done.content_digest,
                    bytes: done.bytes,
                    files: done.files,
                },
                previous,
            };
            let done = restore(Engine::open(store, &key)?, &parameters)?;
            println!("{}", serde_json::to_string(&Outcome::Restore(done))?);
        }
    }
    Ok(())
}

fn prepare(folder: &Path) -> Result<(), Failure> {
    let authority = Authority::generate("luxembourg")?;
    let server = authority.issue_server("luxembourg", &["127.0.0.1".to_owned()])?;
    for part in ["vault", "mover", "operator"] {
        fs::create_dir_all(folder.join(part))?;
    }
    let write = |name: &str, text: &str| fs::write(folder.join(name), text);
    write("vault/tls.crt", &server.certificate_pem)?;
    write("vault/tls.key", &server.key_pem)?;
    write("vault/ca.crt", authority.certificate_pem())?;
    write("repository-key", &new_key())?;
    for (name, site, role) in [("mover", "tallinn", Role::Mover), ("operator", "luxembourg", Role::Operator)]
    {
        let issued = authority.issue_client(site, role)?;
        write(&format!("{name}/tls.crt"), &issued.certificate_pem)?;
        write(&format!("{name}/tls.key"), &issued.key_pem)?;
    }
    Ok(())
}

fn material(folder: &Path, client: &str) -> Result<Material, Failure> {
    let read = |name: &str| fs::read_to_string(folder.join(name));
    Ok(Material {
        ca: read("vault/ca.crt")?,
        certificate: read(&format!("{client}/tls.crt"))?,
        key: read(&format!("{client}/tls.key"))?,
    })
}

fn host(folder: &Path, vault: &str) -> Result<(), Failure> {
    let policy = Policy { namespaces: vec!["bench".to_owned()], quota_bytes: 1 << 40, public_key: None };
    let client = blocking_client(&material(folder, "operator")?)?;
    let answer = client.put(format!("{vault}/policy/tallinn")).json(&policy).send()?;
    answer.error_for_status()?;
    Ok(())
}

fn repository_of(folder: &Path, vault: &str, repository: &str) -> Result<(Arc<dyn Store>, String), Failure> {
    let client = RepositoryClient::new(vault, repository, &material(folder, "mover")?)?;
    Ok((Arc::new(client), fs::read_to_string(folder.join("repository-key"))?))
}
