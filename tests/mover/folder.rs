//! A repository in a folder, laid out as restic's own, so that restic reads what the mover wrote.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use data_embassy::mover::engine::{Store, StoreError};

#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    /// Bytes that may still be written; for faults.
    pub quota: AtomicU64,
    /// How often something was read.
    pub reads: AtomicU64,
    condemned: Mutex<BTreeSet<String>>,
}

impl Folder {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            quota: AtomicU64::new(u64::MAX),
            reads: AtomicU64::new(0),
            condemned: Mutex::default(),
        }
    }

    /// These packs, and no others, are about to be freed.
    pub fn condemn(&self, packs: &BTreeSet<String>) {
        self.condemned.lock().unwrap().clone_from(packs);
    }

    pub fn lose(&self, packs: &BTreeSet<String>) {
        for pack in packs {
            fs::remove_file(self.path("data", pack)).unwrap();
        }
    }

    pub fn path(&self, kind: &str, name: &str) -> PathBuf {
        match kind {
            "config" => self.root.join("config"),
            "data" => self.root.join("data").join(&name[..2]).join(name),
            kind => self.root.join(kind).join(name),
        }
    }
}

fn damaged(error: &io::Error) -> StoreError {
    StoreError::Damaged(error.to_string())
}

impl Store for Folder {
    fn create(&self) -> Result<(), StoreError> {
        for kind in ["data", "index", "snapshots", "keys", "locks"] {
            fs::create_dir_all(self.root.join(kind)).unwrap();
        }
        Ok(())
    }

    fn list(&self, kind: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let entries = walkdir::WalkDir::new(self.root.join(kind)).into_iter().filter_map(Result::ok);
        let files = entries.filter(|entry| entry.file_type().is_file());
        Ok(files.map(|f| (f.file_name().to_str().unwrap().to_owned(), f.metadata().unwrap().len())).collect())
    }

    fn condemned(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.condemned.lock().unwrap().iter().cloned().collect())
    }

    fn read(&self, kind: &str, name: &str) -> Result<Bytes, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        fs::read(self.path(kind, name)).map(Bytes::from).map_err(|error| damaged(&error))
    }

    fn read_range(&self, kind: &str, name: &str, offset: u32, length: u32) -> Result<Bytes, StoreError> {
        use std::os::unix::fs::FileExt;
        self.reads.fetch_add(1, Ordering::Relaxed);
        let mut content = vec![0; length as usize];
        let file = fs::File::open(self.path(kind, name)).map_err(|error| damaged(&error))?;
        file.read_exact_at(&mut content, offset.into()).map_err(|error| damaged(&error))?;
        Ok(content.into())
    }

    fn write(&self, kind: &str, name: &str, content: Bytes) -> Result<(), StoreError> {
        let path = self.path(kind, name);
        if path.exists() && fs::read(&path).unwrap() == content {
            return Ok(());
        }
        if path.exists() {
            return Err(StoreError::Refused { reason: "Exists".to_owned(), message: name.to_owned() });
        }
        let size = content.len() as u64;
        if self.quota.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |q| q.checked_sub(size)).is_err() {
            return Err(StoreError::Refused {
                reason: "QuotaExceeded".to_owned(),
                message: "full".to_owned(),
            });
        }
        // Whole or not at all: a copy that failed has threads that still write while the next one begins.
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = tempfile::NamedTempFile::new_in(&self.root).unwrap();
        file.write_all(&content).unwrap();
        file.persist(path).unwrap();
        Ok(())
    }
}
