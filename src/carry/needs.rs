//! What recovery points need of their repository, by their inventories and all that these build on.

use std::collections::BTreeSet;

use super::{failure::Failure, folder::sha256};
use crate::plan::manifest::Manifest;
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
    let mut needs = Needs::default();
    // What the point before needed, by the name of its inventory: most of them build on that one.
    let (mut at, mut needed) = (None, BTreeSet::new());
    for point in points {
        let top = point.contents.inventory.clone();
        let (mut line, mut next) = (vec![], Some(top.clone()));
        while let Some(name) = next.take().filter(|name| at.as_ref() != Some(name)) {
            needs.objects.insert(format!("{KIND}/{name}"));
            let content = read(&name)?.filter(|content| sha256(content) == name);
            let Some(inventory) = content.and_then(|content| Inventory::parse(&content).ok()) else { break };
            next.clone_from(&inventory.base);
            if inventory.base.is_none() {
                needed.clear();
            }
            line.push(inventory);
        }
        let mut added = vec![];
        for inventory in line.into_iter().rev() {
            inventory.apply(&mut needed);
            needs.configs.insert(inventory.config);
            added.extend(inventory.added);
        }
        // The others were counted with the point before.
        needs.objects.extend(added.into_iter().filter(|object| needed.contains(object)));
        at = Some(top);
    }
    Ok(needs)
}
