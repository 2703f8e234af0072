//! Durable, create-only files. Blocking: to be called where blocking is allowed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// What became of a file that was to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is there now, durably.
    New,
    /// Another was there before.
    Exists,
}

/// The folder for unfinished files, on the same filesystem as all others.
pub struct Workshop {
    folder: PathBuf,
    next: AtomicU64,
}

impl Workshop {
    /// Empties the folder: what is in it belongs to uploads that a stop cut off.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir(&folder)?;
        Ok(Self { folder, next: AtomicU64::new(0) })
    }

    /// A new unfinished file, opened for writing.
    pub fn begin(&self) -> io::Result<(Unfinished, File)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(number.to_string());
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok((Unfinished { path }, file))
    }

    /// Writes a whole small file at `target`, if there is none.
    pub fn create(&self, target: &Path, content: &[u8]) -> io::Result<Published> {
        self.written(content)?.publish(target)
    }

    /// Writes a whole small file at `target`, whatever was there.
    pub fn replace(&self, target: &Path, content: &[u8]) -> io::Result<()> {
        if let Some(folder) = target.parent() {
            make_folders(folder)?;
        }
        fs::rename(&self.written(content)?.path, target)?;
        sync_parent(target)
    }

    fn written(&self, content: &[u8]) -> io::Result<Unfinished> {
        let (unfinished, mut file) = self.begin()?;
        file.write_all(content)?;
        file.sync_all()?;
        Ok(unfinished)
    }
}

/// A file that vanishes unless it is published.
pub struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    /// Where its bytes are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the synced file its name, if that is free. Durable when it returns.
    pub fn publish(self, target: &Path) -> io::Result<Published> {
        if let Some(folder) = target.parent() {
            make_folders(folder)?;
        }
        // A link fails where a rename would overwrite.
        match fs::hard_link(&self.path, target) {
            Ok(()) => sync_parent(target).map(|()| Published::New),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Whoever was first may not have synced yet; the answer must be true all the same.
                sync_parent(target).map(|()| Published::Exists)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the place of a damaged file, which is kept under a free name that begins with `aside`. The name is never without a
    /// file. Durable when it returns.
    pub fn replace_damaged(self, target: &Path, aside: &Path) -> io::Result<()> {
        let folder = aside.parent().unwrap_or(Path::new("/"));
        make_folders(folder)?;
        let base = aside.file_name().unwrap_or_default().to_string_lossy();
        let mut number = 1_u64;
        while let Err(error) = fs::hard_link(target, folder.join(format!("{base}-{number}"))) {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(error);
            }
            number += 1;
        }
        File::open(folder)?.sync_all()?;
        fs::rename(&self.path, target)?;
        sync_parent(target)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already after a rename; what stays is removed at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes `folder` and what is missing above it, each durably.
pub fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folders(parent)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_parent(folder),
    }
}

/// Names in `folder`; none if it does not exist.
pub fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
            Ok(names?.into_iter().filter_map(|name| name.into_string().ok()).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(error),
    }
}

/// Makes the name of a file durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_overwritten_and_nothing_is_left() {
        let root = tempfile::tempdir().unwrap();
        let workshop = Workshop::open(root.path().join("tmp")).unwrap();
        let target = root.path().join("a/b/c");
        assert_eq!(workshop.create(&target, b"first").unwrap(), Published::New);
        assert_eq!(workshop.create(&target, b"second").unwrap(), Published::Exists);
        assert_eq!(fs::read(&target).unwrap(), b"first");
        assert_eq!(names_in(&root.path().join("tmp")).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_damaged_file_is_kept_beside_the_one_that_takes_its_place() {
        let root = tempfile::tempdir().unwrap();
        let workshop = Workshop::open(root.path().join("tmp")).unwrap();
        let (target, aside) = (root.path().join("a/b"), root.path().join("damaged/b"));
        workshop.create(&target, b"bad").unwrap();
        for content in [b"good", b"more"] {
            workshop.written(content).unwrap().replace_damaged(&target, &aside).unwrap();
            assert_eq!(fs::read(&target).unwrap(), content);
        }
        let kept = |name: &str| fs::read(root.path().join("damaged").join(name)).unwrap();
        assert_eq!((kept("b-1"), kept("b-2")), (b"bad".to_vec(), b"good".to_vec()));
        assert_eq!(names_in(&root.path().join("tmp")).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn replacing_leaves_one_file() {
        let root = tempfile::tempdir().unwrap();
        let workshop = Workshop::open(root.path().join("tmp")).unwrap();
        let target = root.path().join("policy");
        workshop.replace(&target, b"first").unwrap();
        workshop.replace(&target, b"second").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"second");
        assert_eq!(names_in(&root.path().join("tmp")).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn the_workshop_is_emptied_at_start() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("tmp");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("7"), b"left").unwrap();
        Workshop::open(folder.clone()).unwrap();
        assert_eq!(names_in(&folder).unwrap(), Vec::<String>::new());
    }
}
