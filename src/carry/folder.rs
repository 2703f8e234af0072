//! The folder on the disk: files get their names when they are whole and durable, and not before.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use sha2::{Digest, Sha256};

use super::{failure::Failure, order};
use crate::api::epoch::Epoch;

/// Folder for files that are not whole yet.
const UNFINISHED: &str = "unfinished";
/// Kinds of objects of a repository.
const KINDS: [&str; 4] = ["data", "index", "snapshots", crate::vault::inventory::KIND];

/// Whose copies: one epoch of one embassy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shelf {
    /// Namespace of the embassy.
    pub namespace: String,
    /// Name of the embassy.
    pub embassy: String,
    /// The reign that they were written in.
    pub epoch: Epoch,
}

impl Shelf {
    /// The embassy, for people.
    #[must_use]
    pub fn whose(&self) -> String {
        format!("{}/{}", self.namespace, self.embassy)
    }

    /// Path within the folder of a name such as `data/<sha256>`, `config`, `points/7` or `order`; nothing for what is no such name.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        let (root, slug) = (self.embassy_folder(), self.epoch.slug());
        if name == "config" {
            return Some(root.join("repo").join(slug).join(name));
        }
        if name == order::NAME {
            return Some(self.embassy_folder().join(format!("order-{slug}.json")));
        }
        let (kind, rest) = name.split_once('/')?;
        if kind == "points" {
            let number =
                rest.parse::<i64>().ok().filter(|number| *number > 0 && number.to_string() == rest)?;
            return Some(root.join("points").join(slug).join(format!("{number}.json")));
        }
        let folder = root.join("repo").join(slug).join(kind);
        (KINDS.contains(&kind) && is_digest(rest)).then(|| match kind {
            "data" => folder.join(&rest[..2]).join(rest),
            _ => folder.join(rest),
        })
    }

    /// The signed list of its files.
    #[must_use]
    pub fn list(&self) -> PathBuf {
        self.embassy_folder().join(format!("{LIST}{}.json", self.epoch.slug()))
    }

    fn embassy_folder(&self) -> PathBuf {
        Path::new("embassies").join(&self.namespace).join(&self.embassy)
    }
}

/// How the name of a list begins.
const LIST: &str = "carried-";

/// Whether `text` is a SHA-256 in lower-case hex.
fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A folder on a disk.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    next: AtomicU64,
}

impl Folder {
    /// To read what is there.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), next: AtomicU64::new(0) }
    }

    /// To write into, made if it is missing; what a stop left unfinished is removed.
    pub fn prepare(root: &Path) -> Result<Self, Failure> {
        let unfinished = root.join(UNFINISHED);
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::disk(unfinished)(error));
            }
            _ => {}
        }
        fs::create_dir_all(&unfinished).map_err(Failure::disk(&unfinished))?;
        Ok(Self::new(root))
    }

    /// Where it is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Size of a file, if it is there.
    pub fn size(&self, path: &Path) -> Result<Option<u64>, Failure> {
        let path = self.root.join(path);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Err(Failure::disk(path)(io::Error::other("a folder is in the place of a file"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::disk(path)(error)),
        }
    }

    /// A whole file.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, Failure> {
        let path = self.root.join(path);
        fs::read(&path).map_err(Failure::disk(path))
    }

    /// SHA-256 in hex of a file, which is not held as a whole.
    pub fn digest(&self, path: &Path) -> Result<String, Failure> {
        let path = self.root.join(path);
        digest_of(&path).map_err(Failure::disk(path))
    }

    /// Writes a whole file durably, in place of one that was there.
    pub fn write(&self, path: &Path, content: &[u8]) -> Result<(), Failure> {
        let target = self.root.join(path);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.root.join(UNFINISHED).join(number.to_string());
        let write = || {
            let folder = target.parent().unwrap_or(&self.root);
            make_folders(folder)?;
            let mut file = File::create(&unfinished)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&unfinished, &target)?;
            File::open(folder)?.sync_all()
        };
        write().map_err(Failure::disk(&target))
    }

    /// Removes a file that is damaged, so that it is brought again.
    pub(super) fn remove(&self, path: &Path) -> Result<(), Failure> {
        let path = self.root.join(path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::disk(path)(error)),
            _ => Ok(()),
        }
    }

    /// Removes the folder for unfinished files once all are finished.
    pub fn finish(&self) -> Result<(), Failure> {
        let unfinished = self.root.join(UNFINISHED);
        fs::remove_dir_all(&unfinished).map_err(Failure::disk(unfinished))
    }

    /// Names and sizes of a kind of objects of an epoch's repository.
    pub fn objects(&self, at: &Shelf, kind: &str) -> Result<Vec<(String, u64)>, Failure> {
        let folder = self.root.join(at.embassy_folder()).join("repo").join(at.epoch.slug()).join(kind);
        let mut found = vec![];
        for entry in walkdir::WalkDir::new(&folder) {
            match entry {
                Ok(entry) if entry.file_type().is_file() => {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    let metadata =
                        entry.metadata().map_err(io::Error::from).map_err(Failure::disk(entry.path()))?;
                    found.push((name, metadata.len()));
                }
                Ok(_) => {}
                Err(error) => {
                    let error = io::Error::from(error);
                    if error.kind() != io::ErrorKind::NotFound {
                        return Err(Failure::disk(&folder)(error));
                    }
                }
            }
        }
        found.retain(|(name, _)| is_digest(name));
        Ok(found)
    }

    /// The shelves whose list is there, by the names of the folders that it lies in.
    pub fn shelves(&self) -> Result<Vec<Shelf>, Failure> {
        let mut found = vec![];
        let root = self.root.join("embassies");
        for namespace in names(&root)? {
            for embassy in names(&root.join(&namespace))? {
                for file in names(&root.join(&namespace).join(&embassy))? {
                    let epoch = file
                        .strip_prefix(LIST)
                        .and_then(|rest| rest.strip_suffix(".json"))
                        .and_then(|slug| slug.split_once('-'))
                        .and_then(|(number, site)| format!("{number}/{site}").parse().ok());
                    found.extend(epoch.map(|epoch| Shelf {
                        namespace: namespace.clone(),
                        embassy: embassy.clone(),
                        epoch,
                    }));
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Names in a folder; none where there is no folder.
fn names(folder: &Path) -> Result<Vec<String>, Failure> {
    let list = || -> io::Result<Vec<String>> {
        let entries: io::Result<Vec<_>> = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect();
        Ok(entries?.into_iter().filter_map(|name| name.into_string().ok()).collect())
    };
    match list() {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(vec![])
        }
        listed => listed.map_err(Failure::disk(folder)),
    }
}

fn digest_of(path: &Path) -> io::Result<String> {
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    let mut part = vec![0; 256 << 10];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(hex::encode(hash.finalize())),
            length => hash.update(&part[..length]),
        }
    }
}

/// Makes `folder` and what is missing above it, each durably.
fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new("/"));
    make_folders(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => File::open(parent)?.sync_all(),
    }
}

/// SHA-256 in hex.
#[must_use]
pub fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf() -> Shelf {
        Shelf { namespace: "ns".to_owned(), embassy: "land".to_owned(), epoch: "1/tallinn".parse().unwrap() }
    }

    #[test]
    fn files_lie_as_in_a_vault() {
        let name = "ab".repeat(32);
        let path = |name: &str| shelf().path(name).map(|path| path.display().to_string());
        assert_eq!(
            path(&format!("data/{name}")),
            Some(format!("embassies/ns/land/repo/1-tallinn/data/ab/{name}"))
        );
        assert_eq!(
            path(&format!("index/{name}")),
            Some(format!("embassies/ns/land/repo/1-tallinn/index/{name}"))
        );
        assert_eq!(path("config").unwrap(), "embassies/ns/land/repo/1-tallinn/config");
        assert_eq!(path("points/7").unwrap(), "embassies/ns/land/points/1-tallinn/7.json");
    }

    #[test]
    fn no_name_leaves_its_folder() {
        for name in
            ["../x", "data/../../x", "points/0", "points/07", "points/../x", "keys/ab", "data/AB", "x", ""]
        {
            assert_eq!(shelf().path(name), None, "{name}");
        }
    }

    #[test]
    fn a_file_has_no_name_before_it_is_whole_and_leftovers_go() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::prepare(root.path()).unwrap();
        fs::write(root.path().join(UNFINISHED).join("7"), "half").unwrap();
        let folder_again = Folder::prepare(root.path()).unwrap();
        assert_eq!(fs::read_dir(root.path().join(UNFINISHED)).unwrap().count(), 0);
        folder.write(Path::new("a/b"), b"one").unwrap();
        folder_again.write(Path::new("a/b"), b"two").unwrap();
        assert_eq!(folder.read(Path::new("a/b")).unwrap(), b"two");
        assert_eq!(folder.digest(Path::new("a/b")).unwrap(), sha256(b"two"));
        assert_eq!(folder.size(Path::new("a/c")).unwrap(), None);
    }
}
