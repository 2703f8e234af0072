//! Directories by descriptor: entered without following a symbolic link, so that no path leads out of a volume.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, statat, unlinkat};
use rustix::{
    fd::AsFd,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

const ENTER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens the directory at a path that the operator gave.
pub(super) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens a directory within a directory.
pub(super) fn enter(directory: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(openat(directory, name, ENTER, Mode::empty())?)
}

/// Opens the directory at a path below another, component by component.
pub(super) fn descend(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut at = root.try_clone()?;
    for name in path {
        at = enter(&at, name)?;
    }
    Ok(at)
}

/// Names in a directory, sorted by their bytes, as the format has them.
pub(super) fn names(directory: impl AsFd) -> io::Result<Vec<OsString>> {
    let mut names = vec![];
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// What an entry is; `None` where there is none.
pub(super) fn stat(directory: impl AsFd, name: &OsStr) -> io::Result<Option<Stat>> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether an entry is of a type.
pub(super) fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

/// Whether an entry of a volume's root is the file system's own.
pub(super) fn is_lost_and_found(name: &OsStr, stat: &Stat) -> bool {
    name == "lost+found" && is(stat, FileType::Directory)
}

/// Removes an entry and all below it.
pub(super) fn remove(directory: impl AsFd, name: &OsStr) -> io::Result<()> {
    let Some(found) = stat(&directory, name)? else { return Ok(()) };
    if !is(&found, FileType::Directory) {
        return Ok(unlinkat(directory, name, AtFlags::empty())?);
    }
    let inner = enter(&directory, name)?;
    for name in names(&inner)? {
        remove(&inner, &name)?;
    }
    Ok(unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}

/// Allows as many open files as the node does: every open directory is one.
pub(super) fn allow_many_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it is refused, deep trees fail with a message that says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
