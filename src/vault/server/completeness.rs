//! A manifest is taken only if all that its recovery point needs is stored: a point with holes would be noticed when it is needed.

use std::{collections::BTreeSet, io};

use serde::Deserialize;

use crate::trust::envelope::Envelope;
use crate::vault::inventory::{DEPTH, Inventory, KIND};

use super::{
    refusal::Refusal,
    route::{Kind, is_digest},
    store::{Store, exists},
};

/// Longest inventory, with all that it builds on, that is judged: about 400,000 packs. Memory must not depend on who uploads.
const LONGEST: u64 = 32 << 20;
/// In a bucket, more objects than these are looked for in lists: one by one each would be a request.
const FEW: usize = 64;

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

/// Refuses a manifest whose point needs what `repository` does not hold, or what is in `going`. A text that names no inventory is not
/// the vault's to judge: its readers do not count it.
pub fn check(
    text: &str,
    store: &dyn Store,
    repository: &str,
    going: &BTreeSet<String>,
) -> Result<(), Refusal> {
    let Some(name) = inventory_of(text) else { return Ok(()) };
    let Some(mut needed) = needed(&name, store, repository)? else { return Ok(()) };
    needed.insert("config".to_owned());
    let missing = absent(&needed, store, repository)?;
    if let Some(first) = missing.first() {
        return Err(Refusal::Incomplete { first: first.clone(), count: missing.len() });
    }
    match needed.intersection(going).next() {
        None => Ok(()),
        Some(first) => Err(Refusal::AboutToGo(first.clone())),
    }
}

/// The inventory that a manifest names.
pub fn inventory_of(text: &str) -> Option<String> {
    let payload = Envelope::parse(text).ok()?.payload;
    let manifest: Manifest = serde_json::from_str(&payload).ok()?;
    Some(manifest.contents.inventory).filter(|name| is_digest(name))
}

/// What an inventory and all that it builds on name; nothing if that is too long to judge.
fn needed(name: &str, store: &dyn Store, repository: &str) -> Result<Option<BTreeSet<String>>, Refusal> {
    let (mut line, mut length) = (vec![], 0);
    let mut next = Some(name.to_owned());
    while let Some(name) = next.take() {
        let object = format!("{KIND}/{name}");
        let incomplete = || Refusal::Incomplete { first: object.clone(), count: 1 };
        let stored = stored_at(repository, &object).ok_or_else(incomplete)?;
        length += store.size(&stored)?.ok_or_else(incomplete)?;
        if length > LONGEST {
            return Ok(None);
        }
        let read = Inventory::parse(&store.read(&stored)?).map_err(|_| incomplete())?;
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

/// Those of the objects that are not stored.
fn absent(needed: &BTreeSet<String>, store: &dyn Store, repository: &str) -> io::Result<BTreeSet<String>> {
    let listed: Option<BTreeSet<String>> = if store.is_shared() && needed.len() > FEW {
        let listed = store.list(repository)?;
        Some(listed.into_iter().map(|entry| format!("{repository}/{}", entry.name)).collect())
    } else {
        None
    };
    let mut absent = BTreeSet::new();
    for object in needed {
        let is_stored = match (stored_at(repository, object), &listed) {
            (None, _) => false,
            (Some(stored), Some(listed)) => listed.contains(&stored),
            (Some(stored), None) => exists(store, &stored)?,
        };
        if !is_stored {
            absent.insert(object.clone());
        }
    }
    Ok(absent)
}

/// Where an object such as `data/<sha256>` lies; nothing for what is no name of one.
fn stored_at(repository: &str, object: &str) -> Option<String> {
    if object == "config" {
        return Some(format!("{repository}/config"));
    }
    let (kind, name) = object.split_once('/')?;
    let kind = Kind::parse(kind).ok().filter(|_| is_digest(name))?;
    Some(kind.object(repository, name))
}
