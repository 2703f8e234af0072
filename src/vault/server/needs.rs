//! What the recovery points that stay need, by their inventories and those that these build on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use crate::trust::envelope::Envelope;
use crate::vault::inventory;
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
    needs: inventory::Needs,
}

impl<'a> Needs<'a> {
    /// Nothing yet.
    #[must_use]
    pub fn of(repository: &'a Path) -> Self {
        Self { repository, needs: inventory::Needs::default() }
    }

    /// Objects such as `data/<sha256>`.
    #[must_use]
    pub const fn objects(&self) -> &BTreeSet<String> {
        &self.needs.objects
    }

    /// Adds what the point of this manifest needs. Blocking.
    pub fn add(&mut self, manifest: &Path) -> Result<(), Unreadable> {
        let failed =
            |why: &dyn ToString| Unreadable { what: manifest.display().to_string(), why: why.to_string() };
        let text = fs::read_to_string(manifest).map_err(|error| failed(&error))?;
        let envelope = Envelope::parse(&text).map_err(|error| failed(&error))?;
        let read: Manifest = serde_json::from_str(&envelope.payload).map_err(|error| failed(&error))?;
        let repository = self.repository;
        self.needs.add(read.contents.inventory, |name| inventory_in(repository, name).map(Some))
    }
}

fn inventory_in(repository: &Path, name: &str) -> Result<Inventory, Unreadable> {
    let failed = |why: &dyn ToString| Unreadable { what: format!("{KIND}/{name}"), why: why.to_string() };
    if !is_digest(name) {
        return Err(failed(&"it is no name of an inventory"));
    }
    let content = fs::read(Kind::Inventories.file(repository, name)).map_err(|error| failed(&error))?;
    if super::repository::sha256(&content) != name {
        return Err(failed(&"its content is not what its name says"));
    }
    Inventory::parse(&content).map_err(|error| failed(&error))
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
