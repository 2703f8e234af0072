//! Which objects of its repository a recovery point needs. Written by who holds the key, for who does not: it tells what is
//! missing, and what nobody needs any more.

use std::collections::BTreeSet;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::vault::inventory::{DEPTH, Inventory, KIND, VERSION};

use super::{
    engine::{Engine, Reader, Store},
    failure::Failure,
};

/// What is needed, as a change of the base.
fn inventory(config: String, needed: BTreeSet<String>, base: Option<Resolved>) -> Inventory {
    let base = base.filter(|base| base.depth < DEPTH);
    let (before, name, depth) =
        base.map_or((BTreeSet::new(), None, 0), |base| (base.needed, Some(base.name), base.depth + 1));
    let dropped = before.difference(&needed).cloned().collect();
    let added = needed.into_iter().filter(|object| !before.contains(object)).collect();
    Inventory { version: VERSION, base: name, depth, config, added, dropped }
}

/// An inventory with all that it builds on.
pub(super) struct Resolved {
    name: String,
    depth: i64,
    /// Objects such as `data/<sha256>`.
    pub(super) needed: BTreeSet<String>,
}

/// The inventory of that name, with all that it builds on; nothing if that cannot be read.
pub(super) fn read(engine: &Engine, name: &str) -> Option<Resolved> {
    engine.ask(|store| Ok(resolve(store, name))).ok().flatten()
}

/// Stores what the snapshot needs that was just surveyed through `reader`; returns the inventory's name. `base` is the one of
/// the point before it: without it, the new one stands alone.
pub(super) fn write(reader: &Reader, snapshot: &str, base: Option<Resolved>) -> Result<String, Failure> {
    let mut needed: BTreeSet<String> = reader.used().iter().map(|pack| format!("data/{pack}")).collect();
    // Blobs are found through any of them, so all count.
    needed.extend(reader.visible("index")?.iter().map(|(name, _)| format!("index/{name}")));
    needed.insert(format!("snapshots/{snapshot}"));
    let config = sha256(&reader.ask(|store| store.read("config", "config"))?);
    let inventory = inventory(config, needed, base);
    let content = serde_json::to_vec(&inventory).map_err(|error| Failure::Internal(error.to_string()))?;
    let (name, content) = (sha256(&content), Bytes::from(content));
    reader.ask(|store| store.write(KIND, &name, content.clone()))?;
    Ok(name)
}

/// Makes ready for a copy that does not build on damaged objects, such as `data/<sha256>`. What it may build on is what the point
/// before it needs: damage that an earlier copy went around is in no inventory since, and perhaps told no more.
pub fn around(engine: Engine, base: Option<&str>, damaged: &[String]) -> Result<Engine, Failure> {
    if damaged.is_empty() {
        return Ok(engine);
    }
    let base: Vec<String> = base.map(str::to_owned).into_iter().collect();
    Ok(only(engine, &base)?.without(damaged.iter().cloned()))
}

/// Reads through what these inventories name and nothing else, so that no index leads to a pack that is damaged. Where one of them
/// cannot be read, nothing is left out.
pub fn only(engine: Engine, inventories: &[String]) -> Result<Engine, Failure> {
    if inventories.is_empty() {
        return Ok(engine);
    }
    let mut needed = BTreeSet::new();
    for name in inventories {
        let Some(resolved) = engine.ask(|store| Ok(resolve(store, name)))? else {
            tracing::warn!(name, "an inventory cannot be read: nothing is left out");
            return Ok(engine);
        };
        needed.extend(resolved.needed);
    }
    let mut hidden = vec![];
    for kind in ["data", "index"] {
        let held = engine.ask(|store| store.list(kind))?;
        hidden.extend(held.into_iter().map(|(name, _)| format!("{kind}/{name}")));
    }
    hidden.retain(|object| !needed.contains(object));
    Ok(engine.without(hidden))
}

/// The inventory of that name and what it builds on; nothing if any of it is missing or damaged.
fn resolve(store: &dyn Store, name: &str) -> Option<Resolved> {
    let mut line = vec![];
    let mut next = Some(name.to_owned());
    while let Some(name) = next.take() {
        let content = store.read(KIND, &name).ok()?;
        let read = Inventory::parse(&content).ok().filter(|_| sha256(&content) == name)?;
        next.clone_from(&read.base);
        line.push(read);
    }
    let depth = line.first()?.depth;
    let mut needed = BTreeSet::new();
    line.iter().rev().for_each(|inventory| inventory.apply(&mut needed));
    Some(Resolved { name: name.to_owned(), depth, needed })
}

/// In hex.
pub(super) fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(objects: &[&str]) -> BTreeSet<String> {
        objects.iter().map(ToString::to_string).collect()
    }

    fn resolved(depth: i64, objects: &[&str]) -> Resolved {
        Resolved { name: "base".to_owned(), depth, needed: set(objects) }
    }

    #[test]
    fn only_what_differs_is_stored() {
        let made = inventory("c".to_owned(), set(&["a", "c"]), Some(resolved(3, &["a", "b"])));
        assert_eq!(
            (made.added.as_slice(), made.dropped.as_slice()),
            (&["c".to_owned()][..], &["b".to_owned()][..])
        );
        assert_eq!((made.base.as_deref(), made.depth), (Some("base"), 4));
        let mut needed = set(&["a", "b"]);
        Inventory::parse(&serde_json::to_vec(&made).unwrap()).unwrap().apply(&mut needed);
        assert_eq!(needed, set(&["a", "c"]));
    }

    #[test]
    fn a_long_line_begins_anew() {
        let made = inventory("c".to_owned(), set(&["a"]), Some(resolved(DEPTH, &["a"])));
        assert_eq!((made.base, made.depth, made.added), (None, 0, vec!["a".to_owned()]));
    }
}
