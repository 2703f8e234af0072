//! What the recovery points that stay need, by their inventories and those that these build on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io, mem,
    path::Path,
};

use crate::trust::envelope::Envelope;
use crate::vault::inventory::{Inventory, KIND};

use super::{
    completeness::Manifest,
    disk::names_in,
    route::{Kind, is_digest},
};

/// Something that must be read before anything is freed, and cannot be.
#[derive(Debug, thiserror::Error)]
#[error(
    "{what} cannot be read: {why}. Nothing of this embassy is freed before it is put back from a copy of the vault's volume"
)]
pub struct Unreadable {
    what: String,
    why: String,
}

/// What the points of one repository need, as far as they were added.
pub struct Needs<'a> {
    repository: &'a Path,
    /// The inventory added last, and what it alone says: most build on the one before.
    at: Option<String>,
    needed: BTreeSet<String>,
    /// Objects such as `data/<sha256>`.
    pub objects: BTreeSet<String>,
}

impl<'a> Needs<'a> {
    /// Nothing yet.
    #[must_use]
    pub fn of(repository: &'a Path) -> Self {
        Self { repository, at: None, needed: BTreeSet::new(), objects: BTreeSet::new() }
    }

    /// Adds what the point of this manifest needs. Blocking.
    pub fn add(&mut self, manifest: &Path) -> Result<(), Unreadable> {
        let failed =
            |why: &dyn ToString| Unreadable { what: manifest.display().to_string(), why: why.to_string() };
        let text = fs::read_to_string(manifest).map_err(|error| failed(&error))?;
        let envelope = Envelope::parse(&text).map_err(|error| failed(&error))?;
        let read: Manifest = serde_json::from_str(&envelope.payload).map_err(|error| failed(&error))?;
        self.inventory(read.contents.inventory)
    }

    fn inventory(&mut self, top: String) -> Result<(), Unreadable> {
        let (mut line, mut name) = (vec![], top.clone());
        while self.at.as_ref() != Some(&name) {
            let inventory = self.read(&name)?;
            let base = inventory.base.clone();
            line.push(inventory);
            let Some(base) = base else {
                self.needed.clear();
                break;
            };
            name = base;
        }
        let mut added = BTreeSet::new();
        for mut inventory in line.into_iter().rev() {
            inventory.apply(&mut self.needed);
            added.extend(mem::take(&mut inventory.added));
        }
        // The others were counted with the point before.
        self.objects.extend(added.into_iter().filter(|object| self.needed.contains(object)));
        self.at = Some(top);
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Inventory, Unreadable> {
        let failed = |why: &dyn ToString| Unreadable { what: format!("{KIND}/{name}"), why: why.to_string() };
        if !is_digest(name) {
            return Err(failed(&"it is no name of an inventory"));
        }
        let content =
            fs::read(Kind::Inventories.file(self.repository, name)).map_err(|error| failed(&error))?;
        if super::repository::sha256(&content) != name {
            return Err(failed(&"its content is not what its name says"));
        }
        Inventory::parse(&content).map_err(|error| failed(&error))
    }
}

/// Sequences of the manifests of each epoch, by its slug. Blocking.
pub fn committed(points: &Path) -> io::Result<BTreeMap<String, BTreeSet<i64>>> {
    let mut found = BTreeMap::new();
    for slug in names_in(points)? {
        let names = names_in(&points.join(&slug))?;
        let sequences = names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect();
        found.insert(slug, sequences);
    }
    Ok(found)
}
