//! First pass: the entries of each directory, what is too many removed, files in batches of bounded size.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Restoration, Volume, attributes, content::FileJob, links::Links, place::Place};
use crate::mover::{
    directory,
    engine::{Node, TreeId},
    failure::Failure,
    survey,
};

/// Files of a batch, which are fetched together; each holds its directory open.
const BATCH: usize = 1024;
/// Chunks of a batch: bounds the memory of the list.
const BATCH_CHUNKS: usize = 64 * 1024;

/// Writes the entries of a volume.
pub(super) struct TreeWriter<'a> {
    restoration: &'a Restoration,
    links: &'a mut Links,
    volume: usize,
    batch: Vec<FileJob>,
    batch_chunks: usize,
}

impl<'a> TreeWriter<'a> {
    pub(super) const fn new(restoration: &'a Restoration, links: &'a mut Links, volume: usize) -> Self {
        Self { restoration, links, volume, batch: vec![], batch_chunks: 0 }
    }

    /// All entries and contents of a volume. `held` is what is known to be there.
    pub(super) fn volume(
        &mut self,
        root: &Arc<OwnedFd>,
        node: &Node,
        held: Option<TreeId>,
    ) -> Result<(), Failure> {
        if let Some(tree) = node.subtree {
            self.directory(root, tree, held, Path::new(""))?;
        }
        self.flush()
    }

    fn directory(
        &mut self,
        opened: &Arc<OwnedFd>,
        tree: TreeId,
        held: Option<TreeId>,
        path: &Path,
    ) -> Result<(), Failure> {
        let nodes = self.restoration.reader.tree(tree)?;
        let held = held.map_or(Ok(vec![]), |tree| self.restoration.reader.tree(tree))?;
        let held: HashMap<&str, &Node> = held.iter().map(|node| (node.name.as_str(), node)).collect();
        clear(opened, &nodes, path)?;
        for node in nodes {
            let place = Place::new(opened, &node.name(), path);
            let held = held.get(node.name.as_str()).copied();
            self.entry(place, node, held)?;
        }
        Ok(())
    }

    fn entry(&mut self, place: Place, node: Node, held: Option<&Node>) -> Result<(), Failure> {
        if node.is_dir() {
            place.make_directory()?;
            let inner = place.enter()?;
            let held = held.and_then(|held| held.subtree);
            return node.subtree.map_or(Ok(()), |tree| self.directory(&inner, tree, held, &place.path));
        }
        if let Some(key) = survey::link_key(&node)
            && self.links.is_further_name(key, self.volume, &place.path)
        {
            return Ok(());
        }
        if !node.is_file() {
            return special(&place, &node);
        }
        let is_held = held.is_some_and(|held| is_same_content(held, &node));
        self.file(FileJob { place, node, is_held })
    }

    fn file(&mut self, job: FileJob) -> Result<(), Failure> {
        self.batch_chunks += job.node.content.as_ref().map_or(0, Vec::len);
        self.batch.push(job);
        if self.batch.len() >= BATCH || self.batch_chunks >= BATCH_CHUNKS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.batch_chunks = 0;
        self.restoration.files(&std::mem::take(&mut self.batch))
    }
}

/// Removes what the snapshot does not have, or has as something else.
fn clear(opened: &Arc<OwnedFd>, nodes: &[Node], path: &Path) -> Result<(), Failure> {
    let wanted: HashMap<OsString, &Node> =
        nodes.iter().map(|node| (node.name().into_owned(), node)).collect();
    for name in directory::names(&**opened).map_err(|error| Failure::writing(path, error))? {
        let place = Place::new(opened, &name, path);
        let Some(found) = place.stat()? else { continue };
        if is_at_root(path) && directory::is_lost_and_found(&name, &found) {
            continue;
        }
        if !wanted.get(&name).is_some_and(|node| place.fits(node, &found)) {
            place.remove()?;
        }
    }
    Ok(())
}

/// Whether two nodes are of files with the same content, that also look the same.
fn is_same_content(held: &Node, wanted: &Node) -> bool {
    let facts = |node: &Node| (node.meta.size, node.meta.mtime);
    held.is_file() && held.content == wanted.content && facts(held) == facts(wanted)
}

fn is_at_root(path: &Path) -> bool {
    path.as_os_str() == OsStr::new("")
}

fn special(place: &Place, node: &Node) -> Result<(), Failure> {
    if place.stat()?.is_none() {
        place.make_special(node)?;
    }
    attributes::apply(place, node)
}

impl Restoration {
    /// Third pass: directories' own metadata, from the leaves up.
    pub(super) fn finish_directories(&self, volume: &Volume) -> Result<(), Failure> {
        if let Some(tree) = volume.node.subtree {
            self.finish(&volume.root, tree, &PathBuf::new())?;
        }
        let root = Place { directory: volume.root.clone(), name: ".".into(), path: volume.path.clone() };
        attributes::apply(&root, &volume.node)
    }

    fn finish(&self, opened: &Arc<OwnedFd>, tree: TreeId, path: &Path) -> Result<(), Failure> {
        for node in self.reader.tree(tree)?.iter().filter(|node| node.is_dir()) {
            let place = Place::new(opened, &node.name(), path);
            if let Some(tree) = node.subtree {
                self.finish(&place.enter()?, tree, &place.path)?;
            }
            attributes::apply(&place, node)?;
        }
        Ok(())
    }
}
