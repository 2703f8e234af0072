//! A manifest is taken only if all that its recovery point needs is stored: a point with holes would be noticed when it is needed.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::trust::envelope::Envelope;
use crate::vault::inventory::{DEPTH, Inventory, KIND};

use super::{
    refusal::Refusal,
    route::{Kind, is_digest},
};

/// Longest inventory, with all that it builds on, that is judged: about 400,000 packs. Memory must not depend on who uploads.
const LONGEST: u64 = 32 << 20;

/// As much of a manifest as the vault understands.
#[derive(Deserialize)]
pub struct Manifest {
    /// What the mover counted.
    pub contents: Contents,
}

/// As much of that.
#[derive(Deserialize)]
pub struct Contents {
    /// SHA-256 of the inventory.
    pub inventory: String,
}

/// Refuses a manifest whose point needs what `repository` does not hold. A text that names no inventory is not the vault's to
/// judge: its readers do not count it.
pub fn check(text: &str, repository: &Path) -> Result<(), Refusal> {
    let payload = Envelope::parse(text).map(|envelope| envelope.payload);
    let manifest = payload.ok().and_then(|payload| serde_json::from_str::<Manifest>(&payload).ok());
    let Some(name) = manifest.map(|manifest| manifest.contents.inventory).filter(|name| is_digest(name))
    else {
        return Ok(());
    };
    let Some(mut missing) = needed(&name, repository)? else { return Ok(()) };
    missing.insert("config".to_owned());
    missing.retain(|object| !path_of(repository, object).is_some_and(|path| path.is_file()));
    match missing.first() {
        None => Ok(()),
        Some(first) => Err(Refusal::Incomplete { first: first.clone(), count: missing.len() }),
    }
}

/// What an inventory and all that it builds on name; nothing if that is too long to judge.
fn needed(name: &str, repository: &Path) -> Result<Option<BTreeSet<String>>, Refusal> {
    let (mut line, mut length) = (vec![], 0);
    let mut next = Some(name.to_owned());
    while let Some(name) = next.take() {
        let object = format!("{KIND}/{name}");
        let incomplete = || Refusal::Incomplete { first: object.clone(), count: 1 };
        let path = path_of(repository, &object).ok_or_else(incomplete)?;
        length += match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(incomplete()),
            metadata => metadata?.len(),
        };
        if length > LONGEST {
            return Ok(None);
        }
        let content = fs::read(path)?;
        let read = Inventory::parse(&content).map_err(|_| incomplete())?;
        next.clone_from(&read.base);
        line.push(read);
        if line.len() > usize::try_from(DEPTH).unwrap_or(usize::MAX) + 1 {
            return Err(incomplete());
        }
    }
    let mut needed = BTreeSet::new();
    line.iter().rev().for_each(|inventory| inventory.apply(&mut needed));
    Ok(Some(needed))
}

/// The file of an object such as `data/<sha256>`; nothing for what is no name of one.
fn path_of(repository: &Path, object: &str) -> Option<PathBuf> {
    if object == "config" {
        return Some(repository.join("config"));
    }
    let (kind, name) = object.split_once('/')?;
    let kind = Kind::parse(kind).ok().filter(|_| is_digest(name))?;
    Some(kind.file(repository, name))
}
