//! `kubectl embassy check`: reads a folder back that is carried by hand, wherever it is.

use std::{path::PathBuf, process::ExitCode, str::FromStr};

use clap::Args;
use data_embassy::{
    carry::{Keys, check::check, failure::Failure as CarryFailure, folder::Folder},
    trust::signing::PublicKey,
};

use super::{
    Failure,
    carry::{shown, told},
};

/// Which folder, and whose word counts.
#[derive(Args)]
pub struct Arguments {
    /// The folder on the disk.
    #[arg(long)]
    from: PathBuf,
    /// Public key of a site, SITE=ed25519:..., as the export printed it or 'kubectl get site SITE -o yaml' shows it; once for each
    /// site that signed. Without one, accidents are found, and forgeries are not.
    #[arg(long = "key")]
    keys: Vec<SiteKey>,
}

/// A site and its public key.
#[derive(Clone)]
struct SiteKey(String, PublicKey);

impl FromStr for SiteKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (site, key) =
            text.split_once('=').ok_or("write SITE=ed25519:..., such as tallinn=ed25519:...")?;
        Ok(Self(site.to_owned(), key.parse().map_err(|error| format!("{error}"))?))
    }
}

/// One sentence for each damaged file. Ends with failure if there is any.
pub async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let shelves = Folder::new(&arguments.from).shelves()?;
    if shelves.is_empty() {
        let (folder, wanted) = (arguments.from.clone(), "any embassy".to_owned());
        return Err(CarryFailure::NoList { folder, wanted, held: vec![] }.into());
    }
    let mut sound = true;
    for shelf in shelves {
        let (from, given) = (arguments.from.clone(), arguments.keys.clone());
        let checked = shown("check", move |progress| {
            let keys = |site: &str| given.iter().find(|key| key.0 == site).map(|key| key.1.clone());
            let believed: Option<Keys<'_>> = if given.is_empty() { None } else { Some(&keys) };
            check(&Folder::new(&from), &shelf, believed, progress)
        })
        .await?;
        for sentence in &checked.damage {
            println!("DAMAGED: {sentence}");
        }
        let signed = if arguments.keys.is_empty() {
            format!("says that {} signed it, which was not checked: give --key", checked.author)
        } else {
            format!("signed by {}", checked.author)
        };
        if checked.damage.is_empty() {
            println!("sound: {}; {signed}", told(&checked.list));
        } else {
            sound = false;
            println!("{} of its files are damaged: {}; {signed}", checked.damage.len(), told(&checked.list));
        }
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_none_is_refused_in_a_sentence() {
        let of = |text: &str| SiteKey::from_str(text).map(|key| key.0).unwrap_err();
        assert!(of("tallinn").contains("SITE=ed25519"));
        assert!(!of("tallinn=rsa").is_empty());
    }
}
