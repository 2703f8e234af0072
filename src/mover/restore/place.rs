//! One entry of a volume, named by its open directory.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{FileType, Mode, OFlags, Stat, mkdirat, mknodat, openat, symlinkat};

use crate::mover::{
    directory,
    engine::{Node, NodeType},
    failure::Failure,
    node,
};

/// Nobody else may look into a file before it has its owner and mode.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// An entry that exists or is to exist.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) directory: Arc<OwnedFd>,
    pub(super) name: OsString,
    /// Within its volume, for messages and for further names.
    pub(super) path: PathBuf,
}

impl Place {
    pub(super) fn new(directory: &Arc<OwnedFd>, name: &OsStr, above: &Path) -> Self {
        Self { directory: directory.clone(), name: name.to_owned(), path: above.join(name) }
    }

    pub(super) fn failure(&self, source: impl Into<io::Error>) -> Failure {
        Failure::writing(&self.path, source)
    }

    pub(super) fn stat(&self) -> Result<Option<Stat>, Failure> {
        directory::stat(&*self.directory, &self.name).map_err(|error| self.failure(error))
    }

    pub(super) fn remove(&self) -> Result<(), Failure> {
        directory::remove(&*self.directory, &self.name).map_err(|error| self.failure(error))
    }

    /// A path for calls that take no descriptor and do not follow a link at the end.
    pub(super) fn pinned(&self) -> PathBuf {
        node::pinned(&*self.directory, &self.name)
    }

    /// Enters this directory.
    pub(super) fn enter(&self) -> Result<Arc<OwnedFd>, Failure> {
        let entered = directory::enter(&*self.directory, &self.name);
        Ok(Arc::new(entered.map_err(|error| self.failure(error))?))
    }

    /// Creates this directory where it is missing.
    pub(super) fn make_directory(&self) -> Result<(), Failure> {
        match mkdirat(&*self.directory, &self.name, Mode::RWXU) {
            Err(error) if error != rustix::io::Errno::EXIST => Err(self.failure(error)),
            _ => Ok(()),
        }
    }

    /// Opens this file for reading and writing; creates it where it is missing.
    pub(super) fn open_file(&self) -> Result<File, Failure> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = openat(&*self.directory, &self.name, flags, PRIVATE);
        Ok(opened.map_err(|error| self.failure(error))?.into())
    }

    /// Whether what is there can stay as this node; contents and metadata aside.
    pub(super) fn fits(&self, wanted: &Node, found: &Stat) -> bool {
        let kind = match wanted.node_type {
            NodeType::File => FileType::RegularFile,
            NodeType::Dir => FileType::Directory,
            NodeType::Symlink { .. } => FileType::Symlink,
            NodeType::Dev { .. } => FileType::BlockDevice,
            NodeType::Chardev { .. } => FileType::CharacterDevice,
            NodeType::Fifo => FileType::Fifo,
            NodeType::Socket => FileType::Socket,
        };
        if !directory::is(found, kind) {
            return false;
        }
        match &wanted.node_type {
            NodeType::File | NodeType::Dir => true,
            // Neither a target nor a device number can be changed, and a further name would change with this one.
            NodeType::Symlink { .. } => found.st_nlink == 1 && self.points_to(wanted),
            NodeType::Dev { device } | NodeType::Chardev { device } => {
                found.st_nlink == 1 && found.st_rdev == *device
            }
            NodeType::Fifo | NodeType::Socket => found.st_nlink == 1,
        }
    }

    fn points_to(&self, wanted: &Node) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let target = rustix::fs::readlinkat(&*self.directory, &self.name, Vec::new());
        target.is_ok_and(|target| target.as_bytes() == wanted.node_type.to_link().as_os_str().as_bytes())
    }

    /// Creates what is neither a file nor a directory.
    pub(super) fn make_special(&self, wanted: &Node) -> Result<(), Failure> {
        let directory = self.directory.as_fd();
        let node = |kind, device| mknodat(directory, &self.name, kind, PRIVATE, device);
        let made = match &wanted.node_type {
            NodeType::File | NodeType::Dir => return Ok(()),
            NodeType::Symlink { .. } => symlinkat(wanted.node_type.to_link(), directory, &self.name),
            NodeType::Dev { device } => node(FileType::BlockDevice, *device),
            NodeType::Chardev { device } => node(FileType::CharacterDevice, *device),
            NodeType::Fifo => node(FileType::Fifo, 0),
            NodeType::Socket => node(FileType::Socket, 0),
        };
        made.map_err(|error| self.failure(error))
    }
}
