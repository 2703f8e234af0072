//! What recovery points need of their repository, by their inventories and all that these build on.

use std::collections::BTreeSet;

use super::{failure::Failure, folder::sha256};
use crate::plan::manifest::Manifest;
use crate::vault::inventory;
use crate::vault::inventory::{Inventory, KIND};

/// What some points need.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Objects such as `data/<sha256>`.
    pub(super) objects: BTreeSet<String>,
    /// SHA-256 of the repository's configuration; one, unless something is wrong.
    pub(super) configs: BTreeSet<String>,
}

/// All that the points need, in their sequence. Of an inventory that `read` does not give, or gives wrong, only the name is known.
pub(super) fn of<'a>(
    points: impl IntoIterator<Item = &'a Manifest>,
    mut read: impl FnMut(&str) -> Result<Option<Vec<u8>>, Failure>,
) -> Result<Needs, Failure> {
    let (mut needs, mut names, mut configs) = (inventory::Needs::default(), BTreeSet::new(), BTreeSet::new());
    for point in points {
        needs.add(point.contents.inventory.clone(), |name| {
            names.insert(format!("{KIND}/{name}"));
            let content = read(name)?.filter(|content| sha256(content) == name);
            let inventory = content.and_then(|content| Inventory::parse(&content).ok());
            configs.extend(inventory.iter().map(|inventory| inventory.config.clone()));
            Ok::<_, Failure>(inventory)
        })?;
    }
    names.append(&mut needs.objects);
    Ok(Needs { objects: names, configs })
}
