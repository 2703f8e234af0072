//! What the recovery points that stay need, by their inventories and those that these build on.

use std::collections::BTreeSet;

use crate::trust::envelope::Envelope;
use crate::vault::inventory;
use crate::vault::inventory::{Inventory, KIND};

use super::{
    completeness::Manifest,
    route::{Kind, is_digest},
    store::Store,
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
    store: &'a dyn Store,
    repository: &'a str,
    found: inventory::Needs,
}

impl<'a> Needs<'a> {
    /// Nothing yet.
    #[must_use]
    pub fn of(store: &'a dyn Store, repository: &'a str) -> Self {
        Self { store, repository, found: inventory::Needs::default() }
    }

    /// Objects such as `data/<sha256>`.
    #[must_use]
    pub const fn objects(&self) -> &BTreeSet<String> {
        &self.found.objects
    }

    /// Adds what the point of this manifest needs. Blocking.
    pub fn add(&mut self, manifest: &str) -> Result<(), Unreadable> {
        let failed = |why: &dyn ToString| Unreadable { what: manifest.to_owned(), why: why.to_string() };
        let content = self.store.read(manifest).map_err(|error| failed(&error))?;
        let text = String::from_utf8(content).map_err(|error| failed(&error))?;
        let envelope = Envelope::parse(&text).map_err(|error| failed(&error))?;
        let read: Manifest = serde_json::from_str(&envelope.payload).map_err(|error| failed(&error))?;
        let (store, repository) = (self.store, self.repository);
        self.found.add(read.contents.inventory, |name| inventory_in(store, repository, name).map(Some))
    }
}

fn inventory_in(store: &dyn Store, repository: &str, name: &str) -> Result<Inventory, Unreadable> {
    let failed = |why: &dyn ToString| Unreadable { what: format!("{KIND}/{name}"), why: why.to_string() };
    if !is_digest(name) {
        return Err(failed(&"it is no name of an inventory"));
    }
    let content = store.read(&Kind::Inventories.object(repository, name)).map_err(|error| failed(&error))?;
    if super::repository::sha256(&content) != name {
        return Err(failed(&"its content is not what its name says"));
    }
    Inventory::parse(&content).map_err(|error| failed(&error))
}
