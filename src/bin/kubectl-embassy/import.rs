//! `kubectl embassy import`: what was carried by hand goes into a vault.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use data_embassy::carry::{
    failure::Failure as CarryFailure,
    folder::{Folder, Shelf},
    import::{Trust, import},
};
use kube::Client;

use super::{
    Failure,
    carry::{Sites, bytes, shown, told},
    register::Name,
};

/// What to take from where.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    register: Name,
    /// The folder on the disk.
    #[arg(long)]
    from: PathBuf,
    /// Read back what the vault has already, and send again what its disk damaged: the vault keeps the damaged file aside.
    #[arg(long)]
    mend: bool,
    /// The site whose vault takes it; default: this site's own, else the only other one.
    #[arg(long)]
    vault: Option<String>,
    /// Namespace of the operator.
    #[arg(long, default_value = "data-embassy-system")]
    operator_namespace: String,
}

/// Sends what the vault lacks. Broken off, it goes on where it was.
pub async fn run(client: &Client, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let sites = Sites::read(client, &arguments.operator_namespace).await?;
    let vault = sites.vault(arguments.vault.as_deref()).await?;
    for shelf in shelves(&arguments.from, &arguments.register)? {
        let way = sites.way(&vault, Some(&shelf.epoch.site)).await?;
        let (keys, from) = (sites.keys.clone(), arguments.from.clone());
        let trust = if arguments.mend { Trust::ReadBack } else { Trust::Listed };
        let (list, moved) = shown("import", move |progress| {
            let list =
                import(&Folder::new(&from), &shelf, &|site| keys.get(site).cloned(), &way, trust, progress)?;
            Ok((list, progress.bytes_moved()))
        })
        .await?;
        println!("the vault of {vault} holds {}; {} were sent now", told(&list), bytes(moved));
        if list.point.is_none() {
            println!(
                "The next copy from {} finds it there, and sends only what has changed since.",
                list.epoch.site
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the folder holds of that embassy, epoch by epoch.
fn shelves(from: &std::path::Path, wanted: &Name) -> Result<Vec<Shelf>, Failure> {
    let held = Folder::new(from).shelves()?;
    let is_wanted = |shelf: &&Shelf| (&shelf.namespace, &shelf.embassy) == (&wanted.namespace, &wanted.name);
    let found: Vec<Shelf> = held.iter().filter(is_wanted).cloned().collect();
    if found.is_empty() {
        let mut held: Vec<String> = held.iter().map(Shelf::whose).collect();
        held.dedup();
        let wanted = format!("{}/{}", wanted.namespace, wanted.name);
        return Err(CarryFailure::NoList { folder: from.to_owned(), wanted, held }.into());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_of_another_embassy_is_refused_in_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = Name { name: "land".to_owned(), namespace: "ns".to_owned() };
        let error = shelves(folder.path(), &wanted).unwrap_err().to_string();
        assert!(
            error.contains("holds no export of ns/land") && error.contains("no finished export"),
            "{error}"
        );
        fs::create_dir_all(folder.path().join("embassies/ns/business")).unwrap();
        fs::write(folder.path().join("embassies/ns/business/carried-1-tallinn.json"), "").unwrap();
        let error = shelves(folder.path(), &wanted).unwrap_err().to_string();
        assert!(error.contains("it holds those of ns/business"), "{error}");
    }
}
