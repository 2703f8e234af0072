//! `kubectl embassy export`: into a folder that is carried by hand.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use data_embassy::{
    api::epoch::PointRef,
    carry::{
        export::{Export, Signer},
        folder::Folder,
    },
};
use kube::Client;

use super::{
    Failure,
    carry::{Sites, shown, told},
    first_copy,
    register::Name,
};

/// What to carry, and where to.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    pub register: Name,
    /// The folder on the disk; made if it is missing. An export that was broken off goes on where it was.
    #[arg(long)]
    pub to: PathBuf,
    /// The newest recovery point to carry, such as 1/tallinn/7; default: the newest of all. Those before it in its epoch come with it.
    #[arg(long)]
    point: Option<PointRef>,
    /// Take a first copy straight from the volumes, at the site that runs the register: for a line that is too slow for it.
    #[arg(long, conflicts_with_all = ["point", "vault"])]
    from_volumes: bool,
    /// The site whose vault is read; default: this site's own, else the only other one.
    #[arg(long)]
    vault: Option<String>,
    /// Namespace of the operator.
    #[arg(long, default_value = "data-embassy-system")]
    pub operator_namespace: String,
}

/// Copies, reads all of it back, and signs the list last.
pub async fn run(client: &Client, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let sites = Sites::read(client, &arguments.operator_namespace).await?;
    let key = sites.signing_key().await?;
    let folder = Folder::prepare(&arguments.to)?;
    let own = key.public();
    let list = if arguments.from_volumes {
        first_copy::take(client, arguments, &sites, folder, key).await?
    } else {
        let vault = sites.vault(arguments.vault.as_deref()).await?;
        let way = sites.way(&vault, None).await?;
        let (namespace, name) = (arguments.register.namespace.clone(), arguments.register.name.clone());
        let (wanted, keys, site) = (arguments.point.clone(), sites.keys.clone(), sites.local.clone());
        shown("export", move |progress| {
            let signer = Signer { site: &site, key: &key };
            let keys = |site: &str| keys.get(site).cloned();
            Export { way: &way, keys: &keys, folder: &folder, signer: &signer, progress }
                .points((&namespace, &name), wanted.as_ref())
        })
        .await?
    };
    println!("{} carries {}; all of it was read back", arguments.to.display(), told(&list));
    println!("Before the disk leaves, and when it has arrived, anywhere and without a cluster:");
    let mut keys: Vec<String> = vec![format!("--key {}={own}", sites.local)];
    let home = &list.epoch.site;
    keys.extend(
        sites.keys.get(home).filter(|_| *home != sites.local).map(|key| format!("--key {home}={key}")),
    );
    println!("  kubectl embassy check --from FOLDER {}", keys.join(" "));
    Ok(ExitCode::SUCCESS)
}
