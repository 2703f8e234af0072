//! Reads a snapshot's directories once: counts, and a digest that exact copies share.
//!
//! The digest covers what a restore must reproduce (names, types, modes, owners, times of change, sizes, link targets,
//! attributes, hard links, contents) and nothing that differs between copies (inode and device numbers, ctime, atime).

use std::{
    collections::HashMap,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    engine::{Node, NodeType, Reader, TreeId, jiff::Timestamp},
    failure::Failure,
    node,
};

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Survey {
    /// Digest over the volumes.
    pub(super) digest: String,
    /// Bytes of the volumes' files; one with several hard links counts once.
    pub(super) bytes: u64,
    /// Names of regular files in the volumes.
    pub(super) files: u64,
    /// All nodes, the objects' included.
    pub(super) entries: u64,
    /// Volumes and their trees.
    pub(super) volumes: Vec<(String, Node)>,
}

impl Survey {
    /// Names of the volumes.
    pub(super) fn claims(&self) -> Vec<String> {
        self.volumes.iter().map(|(claim, _)| claim.clone()).collect()
    }
}

/// Surveys a snapshot's tree.
pub(super) fn survey(reader: &Reader, root: TreeId) -> Result<Survey, Failure> {
    let mut surveyor =
        Surveyor { reader, hash: Sha256::new(), linked: HashMap::new(), found: Survey::default() };
    for node in reader.tree(root)? {
        surveyor.found.entries += 1;
        if *node.name() == *"volumes" {
            surveyor.volumes(&node)?;
        } else if let Some(tree) = node.subtree {
            surveyor.count(tree)?;
        }
    }
    surveyor.found.digest = hex::encode(surveyor.hash.finalize());
    Ok(surveyor.found)
}

/// Trees of a snapshot's volumes by claim.
pub(super) fn volumes(reader: &Reader, root: TreeId) -> Result<HashMap<String, TreeId>, Failure> {
    let root = reader.tree(root)?;
    let folder = root.iter().find(|node| *node.name() == *"volumes").and_then(|node| node.subtree);
    let volumes = folder.map_or(Ok(vec![]), |tree| reader.tree(tree))?;
    Ok(volumes.into_iter().filter_map(|volume| Some((volume.name, volume.subtree?))).collect())
}

struct Surveyor<'a> {
    reader: &'a Reader,
    hash: Sha256,
    /// Ordinal of the first name of each file with several.
    linked: HashMap<(u64, u64), u64>,
    found: Survey,
}

impl Surveyor<'_> {
    fn volumes(&mut self, node: &Node) -> Result<(), Failure> {
        let Some(tree) = node.subtree else { return Ok(()) };
        for volume in self.reader.tree(tree)? {
            let name = volume.name().into_owned();
            // No file has names in two volumes.
            self.linked.clear();
            self.visit(Path::new(&name), &volume)?;
            let name = name.into_string().map_err(|_| damaged("/volumes", "a claim has no valid name"))?;
            self.found.volumes.push((name, volume));
        }
        Ok(())
    }

    fn count(&mut self, tree: TreeId) -> Result<(), Failure> {
        for node in self.reader.tree(tree)? {
            self.found.entries += 1;
            for chunk in node.content.as_deref().unwrap_or_default() {
                self.reader.length(*chunk)?;
            }
            if let Some(tree) = node.subtree {
                self.count(tree)?;
            }
        }
        Ok(())
    }

    fn visit(&mut self, path: &Path, node: &Node) -> Result<(), Failure> {
        self.found.entries += 1;
        let again = self.again(node);
        self.describe(path, node, again);
        if node.is_file() {
            self.found.files += 1;
            self.content(path, node, again.is_some())?;
        }
        let Some(tree) = node.subtree else { return Ok(()) };
        let mut last: Option<PathBuf> = None;
        for inner in self.reader.tree(tree)? {
            let path = path.join(checked_name(path, &inner)?);
            if last.is_some_and(|last| last >= path) {
                return Err(damaged(path, "its directory is not sorted"));
            }
            self.visit(&path, &inner)?;
            last = Some(path);
        }
        Ok(())
    }

    /// For a further name of a file: which entry had its first name.
    fn again(&mut self, node: &Node) -> Option<u64> {
        let key = link_key(node)?;
        let entry = self.found.entries;
        let first = *self.linked.entry(key).or_insert(entry);
        (first != entry).then_some(first)
    }

    fn describe(&mut self, path: &Path, node: &Node, again: Option<u64>) {
        let meta = &node.meta;
        self.part(path.as_os_str().as_bytes());
        let kind = match &node.node_type {
            NodeType::File => "file".to_owned(),
            NodeType::Dir => "directory".to_owned(),
            NodeType::Symlink { .. } => "symlink".to_owned(),
            NodeType::Dev { device } => format!("block {device}"),
            NodeType::Chardev { device } => format!("character {device}"),
            NodeType::Fifo => "fifo".to_owned(),
            NodeType::Socket => "socket".to_owned(),
        };
        self.part(kind.as_bytes());
        if node.is_symlink() {
            self.part(node.node_type.to_link().as_os_str().as_bytes());
        }
        let mtime = meta.mtime.map(Timestamp::as_nanosecond);
        let facts = (node::permissions(meta), meta.uid, meta.gid, mtime, meta.size, again);
        self.part(format!("{facts:?}").as_bytes());
        let mut attributes: Vec<_> = meta.extended_attributes.iter().collect();
        attributes.sort();
        self.part(attributes.len().to_string().as_bytes());
        for attribute in attributes {
            self.part(attribute.name.as_bytes());
            self.part(attribute.value.as_deref().unwrap_or_default());
        }
    }

    fn content(&mut self, path: &Path, node: &Node, again: bool) -> Result<(), Failure> {
        let chunks = node.content.as_deref().unwrap_or_default();
        self.part(chunks.len().to_string().as_bytes());
        let mut size = 0;
        for chunk in chunks {
            size += self.reader.length(*chunk)?;
            self.hash.update(chunk.to_hex().as_str());
        }
        if size != node.meta.size {
            return Err(damaged(path, "its content has not its size"));
        }
        self.found.bytes += if again { 0 } else { size };
        Ok(())
    }

    /// Lengths first, so that no two sequences of parts look alike.
    fn part(&mut self, part: &[u8]) {
        self.hash.update((part.len() as u64).to_le_bytes());
        self.hash.update(part);
    }
}

/// What the names of one file have in common.
pub(super) fn link_key(node: &Node) -> Option<(u64, u64)> {
    (node.meta.links > 1).then_some((node.meta.device_id, node.meta.inode))
}

fn checked_name(path: &Path, node: &Node) -> Result<PathBuf, Failure> {
    let name = node.name().into_owned();
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') || bytes.contains(&0) {
        return Err(damaged(path, "it has an entry without a valid name"));
    }
    Ok(name.into())
}

fn damaged(path: impl AsRef<Path>, what: &str) -> Failure {
    Failure::Damaged(format!("{}: {what}", path.as_ref().display()))
}
