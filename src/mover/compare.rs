//! Compare: what a snapshot holds that an earlier one of the same repository does not, for a person who decides about it.

use std::{collections::BTreeMap, path::Path};

use super::{
    engine::{DataId, Engine, Node, Reader, TreeId, jiff::Timestamp},
    failure::Failure,
    node,
    outcome::CompareDone,
    survey,
};

/// How many names are told.
const EXAMPLES: usize = 8;
/// Longest name that is told, in characters.
const LONGEST_NAME: usize = 100;

/// What to compare.
#[derive(Debug, Clone)]
pub struct CompareParameters {
    /// Id of the snapshot.
    pub snapshot: String,
    /// Id of the earlier one.
    pub base: String,
}

/// Compares two snapshots of one repository; nothing is written anywhere.
pub fn compare(engine: Engine, parameters: &CompareParameters) -> Result<CompareDone, Failure> {
    let reader = engine.reader()?;
    let trees = |id: &str| survey::volumes(&reader, reader.snapshot(id)?);
    let (before, after) = (trees(&parameters.base)?, trees(&parameters.snapshot)?);
    let mut comparison = Comparison { reader: &reader, done: CompareDone::default() };
    let mut claims: Vec<&String> = before.keys().chain(after.keys()).collect();
    claims.sort_unstable();
    claims.dedup();
    for claim in claims {
        comparison.trees(before.get(claim).copied(), after.get(claim).copied(), Path::new(claim))?;
    }
    Ok(comparison.done)
}

struct Comparison<'a> {
    reader: &'a Reader,
    done: CompareDone,
}

impl Comparison<'_> {
    fn trees(&mut self, before: Option<TreeId>, after: Option<TreeId>, path: &Path) -> Result<(), Failure> {
        // Equal directories have equal ids, all below them included.
        if before == after {
            return Ok(());
        }
        let (before, mut after) = (self.nodes(before)?, self.nodes(after)?);
        for (name, old) in before {
            let new = after.remove(&name);
            self.entry(Some(old), new, &path.join(&name))?;
        }
        for (name, new) in after {
            self.entry(None, Some(new), &path.join(&name))?;
        }
        Ok(())
    }

    fn nodes(&self, tree: Option<TreeId>) -> Result<BTreeMap<std::ffi::OsString, Node>, Failure> {
        let nodes = tree.map_or(Ok(vec![]), |tree| self.reader.tree(tree))?;
        Ok(nodes.into_iter().map(|node| (node.name().into_owned(), node)).collect())
    }

    fn entry(&mut self, before: Option<Node>, after: Option<Node>, path: &Path) -> Result<(), Failure> {
        let tree = |node: &Option<Node>| node.as_ref().and_then(|node| node.subtree);
        self.trees(tree(&before), tree(&after), path)?;
        let leaf = |node: Option<Node>| node.filter(|node| !node.is_dir());
        match (leaf(before), leaf(after)) {
            (Some(old), Some(new)) if is_same(&old, &new) => return Ok(()),
            (Some(old), Some(new)) => {
                self.done.changed += 1;
                self.written(&new, old.content.as_deref().unwrap_or_default())?;
            }
            (None, Some(new)) => {
                self.done.added += 1;
                self.written(&new, &[])?;
            }
            (Some(_), None) => self.done.removed += 1,
            (None, None) => return Ok(()),
        }
        self.name(path);
        Ok(())
    }

    /// Counts the chunks that are not where they were, and when the file was written.
    fn written(&mut self, new: &Node, old: &[DataId]) -> Result<(), Failure> {
        for (index, chunk) in new.content.iter().flatten().enumerate() {
            if old.get(index) != Some(chunk) {
                self.done.bytes += self.reader.length(*chunk)?;
            }
        }
        if let Some(second) = new.meta.mtime.map(Timestamp::as_second) {
            self.done.oldest = Some(self.done.oldest.map_or(second, |oldest| oldest.min(second)));
            self.done.newest = Some(self.done.newest.map_or(second, |newest| newest.max(second)));
        }
        Ok(())
    }

    fn name(&mut self, path: &Path) {
        if self.done.examples.len() < EXAMPLES {
            let name = path.to_string_lossy();
            let shown = name.chars().map(|c| if c.is_control() { '?' } else { c });
            self.done.examples.push(shown.take(LONGEST_NAME).collect());
        }
    }
}

/// Whether a restore of one would leave nothing to do for the other.
fn is_same(old: &Node, new: &Node) -> bool {
    let facts = |node: &Node| {
        let meta = &node.meta;
        let mut attributes = meta.extended_attributes.clone();
        attributes.sort();
        (node::permissions(meta), meta.uid, meta.gid, meta.mtime, meta.size, attributes)
    };
    old.node_type == new.node_type && old.content == new.content && facts(old) == facts(new)
}
