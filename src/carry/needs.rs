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

/// All that the points need. Of an inventory that `read` does not give, or gives wrong, only the name is known.
pub(super) fn of(
    points: &[Manifest],
    mut read: impl FnMut(&str) -> Result<Option<Vec<u8>>, Failure>,
) -> Result<Needs, Failure> {
    let mut needs = Needs::default();
    for point in points {
        let mut next = Some(point.contents.inventory.clone());
        while let Some(name) = next.take() {
            // What one builds on was gone through with the point that it was made for.
            if !needs.objects.insert(format!("{KIND}/{name}")) {
                break;
            }
            let content = read(&name)?.filter(|content| sha256(content) == name);
            let Some(inventory) = content.and_then(|content| Inventory::parse(&content).ok()) else { break };
            needs.objects.extend(inventory.added);
            needs.configs.insert(inventory.config);
            next = inventory.base;
        }
    }
    Ok(needs)
}
