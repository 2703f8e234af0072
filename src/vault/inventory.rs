//! Which objects of its repository a recovery point needs: the format, known to who writes it with the key and to who reads it
//! without. It is stored as what differs from the one before it, since most of it stays the same from copy to copy.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Kind of object in the repository.
pub const KIND: &str = "inventories";
/// Version of the format.
pub const VERSION: i64 = 1;
/// So many may build on each other; then one stands alone again.
pub const DEPTH: i64 = 64;

/// One inventory as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// `VERSION` of the author.
    pub version: i64,
    /// The inventory that this one changes; it stands alone without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// How many it builds on.
    pub depth: i64,
    /// SHA-256 of the repository's configuration.
    pub config: String,
    /// Objects it needs beside those of its base, such as `data/<sha256>`.
    pub added: Vec<String>,
    /// Objects of its base that it does not need.
    pub dropped: Vec<String>,
}

impl Inventory {
    /// Reads what was stored.
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        let read: Self = serde_json::from_slice(content).map_err(|error| error.to_string())?;
        if read.version == VERSION {
            Ok(read)
        } else {
            Err(format!("it has version {}, and this program reads version {VERSION}", read.version))
        }
    }

    /// Turns what the base needs into what this one needs.
    pub fn apply(&self, needed: &mut BTreeSet<String>) {
        for object in &self.dropped {
            needed.remove(object);
        }
        needed.extend(self.added.iter().cloned());
    }
}

/// What the points of one repository need, one point after the other: most inventories build on the one before.
#[derive(Debug, Default)]
pub struct Needs {
    /// The inventory added last, and what it alone says.
    at: Option<String>,
    needed: BTreeSet<String>,
    /// Objects that any of the points needs, such as `data/<sha256>`.
    pub objects: BTreeSet<String>,
}

impl Needs {
    /// Adds what a point with that inventory needs. Where `read` gives none, what lies below it counts for nothing.
    pub fn add<E>(
        &mut self,
        top: String,
        mut read: impl FnMut(&str) -> Result<Option<Inventory>, E>,
    ) -> Result<(), E> {
        let (mut line, mut next) = (vec![], Some(top.clone()));
        while let Some(name) = next.take().filter(|name| self.at.as_ref() != Some(name)) {
            let Some(inventory) = read(&name)? else { break };
            if inventory.base.is_none() {
                self.needed.clear();
            }
            next.clone_from(&inventory.base);
            line.push(inventory);
        }
        let mut added = BTreeSet::new();
        for inventory in line.into_iter().rev() {
            inventory.apply(&mut self.needed);
            added.extend(inventory.added);
        }
        // The others were counted with the point before.
        self.objects.extend(added.into_iter().filter(|object| self.needed.contains(object)));
        self.at = Some(top);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_refused() {
        let text = r#"{"version":2,"depth":0,"config":"","added":[],"dropped":[]}"#;
        assert!(Inventory::parse(text.as_bytes()).unwrap_err().contains("version 2"));
    }
}
