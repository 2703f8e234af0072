//! What a backup reads. Unlike the engine's own source, it lets nothing unreadable pass as absent.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    vec,
};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat};

use super::{
    directory,
    engine::{ErrorKind, RusticResult, Source, SourceEntry, SourceError, SourceOpen},
    failure::Failure,
    node,
};

/// What the walk and the readers share.
#[derive(Debug, Default)]
pub(super) struct Watch {
    fault: Mutex<Option<Failure>>,
    /// Entries handed to the engine.
    pub(super) entries: AtomicU64,
    /// Bytes read.
    pub(super) bytes: AtomicU64,
}

impl Watch {
    /// The first fault, once.
    pub(super) fn take(&self) -> Option<Failure> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Text of the first fault.
    pub(super) fn text(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(ToString::to_string)
    }

    /// Keeps the first fault. The engine ignores errors of its sources, so they must not only be returned.
    fn fail(&self, failure: Failure) -> Box<SourceError> {
        let text = failure.to_string();
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        SourceError::new(ErrorKind::InputOutput, text)
    }
}

/// A directory and where it appears in the snapshot.
#[derive(Debug, Clone)]
pub(super) struct Root {
    /// Name in `/volumes`, or `None` for the captured objects.
    pub(super) claim: Option<String>,
    /// Where it is.
    pub(super) path: PathBuf,
}

/// The volumes and the captured objects as one tree.
#[derive(Debug)]
pub(super) struct Volumes {
    roots: Vec<Root>,
    watch: Arc<Watch>,
}

impl Volumes {
    /// Roots in any order.
    pub(super) fn new(mut roots: Vec<Root>, watch: Arc<Watch>) -> Self {
        // `/objects` comes before `/volumes`, and the engine wants everything sorted.
        roots.sort_by(|a, b| {
            a.claim.as_deref().map(str::as_bytes).cmp(&b.claim.as_deref().map(str::as_bytes))
        });
        Self { roots, watch }
    }
}

impl Source for Volumes {
    type Open = Opener;
    type Iter = Walk;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Walk {
        Walk {
            roots: self.roots.clone().into_iter(),
            entered_volumes: false,
            stack: vec![],
            watch: self.watch.clone(),
        }
    }
}

/// A directory being listed.
#[derive(Debug)]
struct Level {
    directory: Arc<OwnedFd>,
    /// Path in the snapshot.
    path: PathBuf,
    names: vec::IntoIter<OsString>,
}

/// Walks the roots depth first. Ends at the first fault.
#[derive(Debug)]
pub(super) struct Walk {
    roots: vec::IntoIter<Root>,
    entered_volumes: bool,
    stack: Vec<Level>,
    watch: Arc<Watch>,
}

impl Iterator for Walk {
    type Item = RusticResult<SourceEntry<Opener>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.watch.text().is_some() {
            return None;
        }
        let made = loop {
            let Some(level) = self.stack.last_mut() else { break self.next_root()? };
            let Some(name) = level.names.next() else {
                self.stack.pop();
                continue;
            };
            match self.entry(&name) {
                Ok(None) => {}
                Ok(Some(entry)) => break Ok(entry),
                Err(failure) => break Err(failure),
            }
        };
        self.watch.entries.fetch_add(u64::from(made.is_ok()), Ordering::Relaxed);
        Some(made.map_err(|failure| self.watch.fail(failure)))
    }
}

impl Walk {
    fn next_root(&mut self) -> Option<Result<SourceEntry<Opener>, Failure>> {
        let is_volume = self.roots.as_slice().first().is_none_or(|root| root.claim.is_some());
        if is_volume && !self.entered_volumes {
            self.entered_volumes = true;
            let node = node::made_up("volumes");
            return Some(Ok(SourceEntry { path: PathBuf::from("/volumes"), node, open: None }));
        }
        let root = self.roots.next()?;
        Some(self.enter_root(&root))
    }

    fn enter_root(&mut self, root: &Root) -> Result<SourceEntry<Opener>, Failure> {
        let unreadable = |source: io::Error| Failure::reading(&root.path, source);
        let opened = directory::open_root(&root.path).map_err(unreadable)?;
        let stat = fstat(&opened).map_err(|error| unreadable(error.into()))?;
        let name = root.claim.as_deref().unwrap_or("objects");
        let path =
            root.claim.as_ref().map_or_else(|| PathBuf::from("/"), |_| PathBuf::from("/volumes")).join(name);
        let node = node::of_directory(opened.as_fd(), name, &stat).map_err(unreadable)?;
        self.push(opened, path.clone()).map_err(unreadable)?;
        Ok(SourceEntry { path, node, open: None })
    }

    fn push(&mut self, opened: OwnedFd, path: PathBuf) -> io::Result<()> {
        let names = directory::names(&opened)?.into_iter();
        self.stack.push(Level { directory: Arc::new(opened), path, names });
        Ok(())
    }

    /// An entry of the directory on top; `None` for one that is not backed up.
    fn entry(&mut self, name: &OsStr) -> Result<Option<SourceEntry<Opener>>, Failure> {
        let Some(level) = self.stack.last() else { return Ok(None) };
        let (directory, path) = (level.directory.clone(), level.path.join(name));
        let unreadable = |source: io::Error| Failure::reading(&path, source);
        let stat = directory::stat(&*directory, name).map_err(unreadable)?;
        let stat = stat.ok_or_else(|| Failure::Changed { path: path.clone(), what: "it vanished" })?;
        if self.stack.len() == 1 && directory::is_lost_and_found(name, &stat) {
            return Ok(None);
        }
        let node = node::of_entry(directory.as_fd(), name, &stat).map_err(unreadable)?;
        let open = if directory::is(&stat, FileType::Directory) {
            let inner = directory::enter(&*directory, name).map_err(unreadable)?;
            same(&inner, &stat, &path)?;
            self.push(inner, path.clone()).map_err(unreadable)?;
            None
        } else {
            Some(Opener {
                directory,
                name: name.to_owned(),
                path: path.clone(),
                stat,
                watch: self.watch.clone(),
            })
        };
        Ok(Some(SourceEntry { path, node, open }))
    }
}

/// What was opened must be what was looked at.
fn same(opened: impl AsFd, expected: &Stat, path: &Path) -> Result<(), Failure> {
    let found = fstat(opened).map_err(|error| Failure::reading(path, error))?;
    if (found.st_dev, found.st_ino) == (expected.st_dev, expected.st_ino) {
        Ok(())
    } else {
        Err(Failure::Changed { path: path.to_owned(), what: "it was replaced" })
    }
}

/// A file still to be read.
#[derive(Debug)]
pub(super) struct Opener {
    directory: Arc<OwnedFd>,
    name: OsString,
    path: PathBuf,
    stat: Stat,
    watch: Arc<Watch>,
}

impl Opener {
    fn file(&self) -> Result<File, Failure> {
        // Not blocking: a fifo may have taken the file's place.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = openat(&*self.directory, &self.name, flags, Mode::empty())
            .map_err(|error| Failure::reading(&self.path, error))?;
        same(&opened, &self.stat, &self.path)?;
        Ok(opened.into())
    }
}

impl SourceOpen for Opener {
    type Reader = Exact;

    fn open(self) -> RusticResult<Exact> {
        let file = self.file().map_err(|failure| self.watch.fail(failure))?;
        Ok(Exact { file, left: node::size(&self.stat), path: self.path, watch: self.watch })
    }
}

/// Reads as many bytes as the file had when it was looked at: a file that grows is cut, one that shrank is a fault.
#[derive(Debug)]
pub(super) struct Exact {
    file: File,
    left: u64,
    path: PathBuf,
    watch: Arc<Watch>,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        match self.file.read(&mut buffer[..most]) {
            Ok(0) => self.fail(Failure::Changed { path: self.path.clone(), what: "it shrank" }),
            Ok(read) => {
                self.left -= read as u64;
                self.watch.bytes.fetch_add(read as u64, Ordering::Relaxed);
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => self.fail(Failure::reading(&self.path, error)),
        }
    }
}

impl Exact {
    fn fail(&self, failure: Failure) -> io::Result<usize> {
        Err(io::Error::other(self.watch.fail(failure)))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// Lists a folder with one file, lets `change` happen to it, and reads it.
    fn read_after(change: impl FnOnce(&Path)) -> Result<Vec<u8>, Option<Failure>> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, vec![7; 3000]).unwrap();
        let watch = Arc::new(Watch::default());
        let root = Root { claim: Some("data".to_owned()), path: folder.path().to_owned() };
        let entries: Vec<_> = Volumes::new(vec![root], watch.clone()).entries().map(Result::unwrap).collect();
        change(&file);
        let mut content = vec![];
        let opener = entries.into_iter().find_map(|entry| entry.open).unwrap();
        let read = opener
            .open()
            .map_err(|_| watch.take())
            .and_then(|mut reader| reader.read_to_end(&mut content).map_err(|_| watch.take()));
        read.map(|_| content)
    }

    fn changed(result: Result<Vec<u8>, Option<Failure>>) -> &'static str {
        match result {
            Err(Some(Failure::Changed { what, .. })) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_is_read_as_it_was_listed() {
        assert_eq!(read_after(|_| {}).unwrap().len(), 3000);
        let grown = read_after(|file| fs::write(file, vec![8; 4000]).unwrap());
        assert_eq!(grown.unwrap().len(), 3000);
    }

    #[test]
    fn a_file_that_changes_too_much_fails_the_backup() {
        assert_eq!(changed(read_after(|file| fs::write(file, "short").unwrap())), "it shrank");
        assert_eq!(changed(read_after(|file| fs::remove_file(file).unwrap())), "it vanished");
        let replaced = read_after(|file| {
            fs::write(file.with_extension("new"), vec![0; 5000]).unwrap();
            fs::rename(file.with_extension("new"), file).unwrap();
        });
        assert_eq!(changed(replaced), "it was replaced");
    }

    #[test]
    fn a_symbolic_link_that_takes_a_files_place_is_not_followed() {
        let result = read_after(|file| {
            fs::remove_file(file).unwrap();
            symlink("/etc/passwd", file).unwrap();
        });
        assert!(matches!(result, Err(Some(Failure::Unreadable { .. }))), "{result:?}");
    }

    #[test]
    fn an_unreadable_folder_ends_the_walk() {
        let watch = Arc::new(Watch::default());
        let root = Root { claim: Some("data".to_owned()), path: "/nowhere".into() };
        let entries: Vec<_> = Volumes::new(vec![root], watch.clone()).entries().collect();
        assert!(entries.last().unwrap().is_err());
        assert!(watch.text().is_some());
    }
}
