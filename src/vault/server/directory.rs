//! The store in a directory: one vault at a time, each object a file.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use tokio_util::io::ReaderStream;

use super::{
    VaultError,
    disk::{Published, Unfinished, Workshop, make_folders, names_in, sync_parent},
    store::{Listed, Parts, Store, read_if_any},
};

/// Bytes per read from disk.
const CHUNK: usize = 256 << 10;

/// A directory, held by this vault alone for as long as it is open.
pub struct Directory {
    root: PathBuf,
    workshop: Workshop,
    _lock: File,
}

impl Directory {
    /// Takes the directory, and removes what uploads left there that a stop cut off.
    pub fn open(root: &Path) -> Result<Self, VaultError> {
        let failed = |source| VaultError::Store { root: root.to_owned(), source };
        let lock = lock(root)?;
        let workshop = Workshop::open(root.join("tmp")).map_err(failed)?;
        Ok(Self { root: root.to_owned(), workshop, _lock: lock })
    }

    fn path(&self, object: &str) -> PathBuf {
        self.root.join(object)
    }
}

impl Store for Directory {
    fn read(&self, object: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(object))
    }

    fn size(&self, object: &str) -> io::Result<Option<u64>> {
        match fs::metadata(self.path(object)) {
            // A file system that was repaired may have anything in the place of a file.
            Ok(metadata) if !metadata.is_file() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn stream(&self, object: &str, from: u64, count: u64) -> BoxFuture<'static, io::Result<Parts>> {
        let path = self.path(object);
        async move {
            let mut file = tokio::fs::File::open(path).await?;
            if from > 0 {
                file.seek(SeekFrom::Start(from)).await?;
            }
            Ok(ReaderStream::with_capacity(file.take(count), CHUNK).boxed())
        }
        .boxed()
    }

    fn list(&self, folder: &str) -> io::Result<Vec<Listed>> {
        let folder = self.path(folder);
        let mut listed = vec![];
        for entry in walkdir::WalkDir::new(&folder).min_depth(1) {
            match entry.and_then(|entry| Ok((entry.metadata()?, entry))) {
                Ok((metadata, entry)) => {
                    let size = metadata.is_file().then_some(metadata.len());
                    // An empty folder may lie where a file was: a disk that was repaired is not one that lost something.
                    let size = size.or_else(|| is_empty(entry.path()).then_some(0));
                    let name = entry.path().strip_prefix(&folder).ok().and_then(Path::to_str);
                    listed.extend(name.zip(size).map(|(name, size)| Listed { name: name.to_owned(), size }));
                }
                Err(error) => {
                    let error = io::Error::from(error);
                    if error.kind() != io::ErrorKind::NotFound {
                        return Err(error);
                    }
                }
            }
        }
        Ok(listed)
    }

    fn folders(&self, folder: &str) -> io::Result<Vec<String>> {
        let folder = self.path(folder);
        let names = names_in(&folder)?;
        Ok(names.into_iter().filter(|name| folder.join(name).is_dir()).collect())
    }

    fn make(&self, folder: &str) -> io::Result<()> {
        make_folders(&self.path(folder))
    }

    fn is_made(&self, folder: &str) -> io::Result<bool> {
        fs::exists(self.path(folder))
    }

    fn create(&self, object: &str, content: &[u8]) -> io::Result<Published> {
        self.workshop.create(&self.path(object), content)
    }

    fn replace(&self, object: &str, content: &[u8]) -> io::Result<()> {
        self.workshop.replace(&self.path(object), content)
    }

    fn exchange(&self, object: &str, before: Option<&[u8]>, content: &[u8]) -> io::Result<bool> {
        if read_if_any(self, object)?.as_deref() != before {
            return Ok(false);
        }
        self.replace(object, content).map(|()| true)
    }

    fn begin(&self) -> io::Result<(Unfinished, File)> {
        self.workshop.begin()
    }

    fn publish(&self, upload: Unfinished, object: &str) -> io::Result<Published> {
        upload.publish(&self.path(object))
    }

    fn replace_damaged(&self, upload: Unfinished, object: &str, aside: &str) -> io::Result<()> {
        upload.replace_damaged(&self.path(object), &self.path(aside))
    }

    fn settle(&self, object: &str) -> io::Result<()> {
        sync_parent(&self.path(object))
    }

    fn remove(&self, object: &str) -> io::Result<u64> {
        let size = self.size(object)?.unwrap_or(0);
        match fs::remove_file(self.path(object)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            removed => removed?,
        }
        sync_parent(&self.path(object))?;
        Ok(size)
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn keeps_its_promise(&self) -> Result<(), String> {
        Ok(())
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

fn lock(root: &Path) -> Result<File, VaultError> {
    let failed = |source| VaultError::Store { root: root.to_owned(), source };
    fs::create_dir_all(root).map_err(failed)?;
    let file = File::create(root.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(VaultError::InUse(root.to_owned())),
        Err(fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_has_its_size_and_its_name_below_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::open(root.path()).unwrap();
        store.create("a/b/x", &[0; 10]).unwrap();
        store.create("a/y", &[0; 5]).unwrap();
        let mut listed = store.list("a").unwrap();
        listed.sort_by(|one, other| one.name.cmp(&other.name));
        let entry = |name: &str, size| Listed { name: name.to_owned(), size };
        assert_eq!(listed, [entry("b/x", 10), entry("y", 5)]);
        assert_eq!(store.list("none").unwrap(), []);
        assert_eq!(store.folders("a").unwrap(), ["b"]);
        assert_eq!(store.remove("a/y").unwrap(), 5);
        assert_eq!((store.remove("a/y").unwrap(), store.size("a/y").unwrap()), (0, None));
    }

    #[test]
    fn an_exchange_needs_what_was_there() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::open(root.path()).unwrap();
        assert!(!store.exchange("clock", Some(b"1"), b"2").unwrap());
        assert!(store.exchange("clock", None, b"1").unwrap());
        assert!(!store.exchange("clock", None, b"2").unwrap());
        assert!(store.exchange("clock", Some(b"1"), b"2").unwrap());
        assert_eq!(store.read("clock").unwrap(), b"2");
    }

    #[test]
    fn one_vault_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let first = Directory::open(root.path()).unwrap();
        assert!(matches!(Directory::open(root.path()), Err(VaultError::InUse(_))));
        drop(first);
        Directory::open(root.path()).unwrap();
    }
}
