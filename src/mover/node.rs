//! Between what the kernel says of a file and what the repository keeps of it.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, Stat, readlinkat};

use super::engine::{Metadata, Node, NodeType, jiff::Timestamp};

/// Set by the node's kubelet for the Pod that uses the volume; another cluster's labels mean nothing.
const SELINUX: &str = "security.selinux";

/// Mode bits as Go's `os.FileMode` has them, which is what the format keeps.
mod go {
    pub(super) const SETUID: u32 = 1 << 23;
    pub(super) const SETGID: u32 = 1 << 22;
    pub(super) const STICKY: u32 = 1 << 20;
    pub(super) const DIRECTORY: u32 = 1 << 31;
    pub(super) const SYMLINK: u32 = 1 << 27;
    pub(super) const DEVICE: u32 = 1 << 26;
    pub(super) const FIFO: u32 = 1 << 25;
    pub(super) const SOCKET: u32 = 1 << 24;
    pub(super) const CHARACTER: u32 = 1 << 21;
}

/// A path that names an entry of an open directory, whatever happens to the path above it. Calls that do not follow
/// a symbolic link at its end stay within the directory.
pub(super) fn pinned(directory: impl AsFd, name: &OsStr) -> PathBuf {
    itself(directory).join(name)
}

/// A path that leads to what a descriptor has open.
pub(super) fn itself(opened: impl AsFd) -> PathBuf {
    Path::new("/proc/self/fd").join(opened.as_fd().as_raw_fd().to_string())
}

/// The node of a directory entry.
pub(super) fn of_entry(directory: BorrowedFd, name: &OsStr, stat: &Stat) -> io::Result<Node> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => NodeType::File,
        FileType::Directory => NodeType::Dir,
        FileType::Symlink => {
            let target = readlinkat(directory, name, Vec::new())?;
            NodeType::from_link(Path::new(OsStr::from_bytes(target.as_bytes())))
        }
        FileType::BlockDevice => NodeType::Dev { device: stat.st_rdev },
        FileType::CharacterDevice => NodeType::Chardev { device: stat.st_rdev },
        FileType::Fifo => NodeType::Fifo,
        FileType::Socket => NodeType::Socket,
        FileType::Unknown => return Err(io::Error::other("its type is unknown")),
    };
    Ok(Node::new_node(name, kind, metadata(stat, &pinned(directory, name))?))
}

/// The node of an open directory, under a name of its own.
pub(super) fn of_directory(directory: BorrowedFd, name: &str, stat: &Stat) -> io::Result<Node> {
    let path = pinned(directory, OsStr::new("."));
    Ok(Node::new_node(OsStr::new(name), NodeType::Dir, metadata(stat, &path)?))
}

/// A directory that exists in the snapshot only. Its times are constant, so that equal content gives equal trees.
pub(super) fn made_up(name: &str) -> Node {
    let epoch = Some(Timestamp::UNIX_EPOCH);
    let meta = Metadata {
        mode: Some(go::DIRECTORY | 0o755),
        mtime: epoch,
        atime: epoch,
        ctime: epoch,
        uid: Some(0),
        gid: Some(0),
        ..Metadata::default()
    };
    Node::new_node(OsStr::new(name), NodeType::Dir, meta)
}

// The number of links is narrower on other processors.
#[allow(clippy::useless_conversion)]
fn metadata(stat: &Stat, path: &Path) -> io::Result<Metadata> {
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let is_linked = !is_directory && stat.st_nlink > 1;
    let mtime = timestamp(stat.st_mtime, stat.st_mtime_nsec)?;
    Ok(Metadata {
        mode: Some(to_go(stat.st_mode)),
        mtime: Some(mtime),
        // Reading must not make a difference to the next backup.
        atime: Some(mtime),
        ctime: Some(timestamp(stat.st_ctime, stat.st_ctime_nsec)?),
        uid: Some(stat.st_uid),
        gid: Some(stat.st_gid),
        user: None,
        group: None,
        inode: stat.st_ino,
        device_id: if is_linked { stat.st_dev } else { 0 },
        size: if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile { size(stat) } else { 0 },
        links: if is_directory { 0 } else { stat.st_nlink.into() },
        extended_attributes: attributes(path)?
            .iter()
            .map(|(name, value)| attribute(name, value))
            .collect::<io::Result<_>>()?,
    })
}

/// Size of a file.
pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

fn timestamp(seconds: i64, nanoseconds: impl Into<i128>) -> io::Result<Timestamp> {
    let total = i128::from(seconds) * 1_000_000_000 + nanoseconds.into();
    Timestamp::from_nanosecond(total).map_err(io::Error::other)
}

/// Seconds and nanoseconds as the kernel takes them, also before 1970.
pub(super) fn to_kernel_time(time: Timestamp) -> (i64, i64) {
    let total = time.as_nanosecond();
    let seconds = i64::try_from(total.div_euclid(1_000_000_000)).unwrap_or_default();
    let nanoseconds = i64::try_from(total.rem_euclid(1_000_000_000)).unwrap_or_default();
    (seconds, nanoseconds)
}

/// Attributes that belong to the file and not to the node it is on, sorted by name.
pub(super) fn attributes(path: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let names = match xattr::list(path) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(vec![]),
        names => names?,
    };
    let mut found = vec![];
    for name in names {
        let Some(text) = name.to_str() else {
            return Err(io::Error::other("the name of an extended attribute is not UTF-8"));
        };
        if text == SELINUX {
            continue;
        }
        // An attribute may go between the two calls, as any change to the file.
        if let Some(value) = xattr::get(path, &name)? {
            found.push((text.to_owned(), value));
        }
    }
    found.sort();
    Ok(found)
}

fn attribute<T: serde::de::DeserializeOwned>(name: &str, value: &[u8]) -> io::Result<T> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    // The type has no name outside of the engine.
    let made = serde_json::json!({"name": name, "value": STANDARD.encode(value)});
    serde_json::from_value(made).map_err(io::Error::other)
}

fn to_go(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => go::DIRECTORY,
        FileType::Symlink => go::SYMLINK,
        FileType::BlockDevice => go::DEVICE,
        FileType::CharacterDevice => go::DEVICE | go::CHARACTER,
        FileType::Fifo => go::FIFO,
        FileType::Socket => go::SOCKET,
        FileType::RegularFile | FileType::Unknown => 0,
    };
    let special = [(0o4000, go::SETUID), (0o2000, go::SETGID), (0o1000, go::STICKY)];
    let special: u32 = special.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, bit)| bit).sum();
    (mode & 0o777) | kind | special
}

/// Permission bits as the kernel takes them.
pub(super) fn permissions(meta: &Metadata) -> u32 {
    let mode = meta.mode.unwrap_or(0o600);
    let special = [(0o4000, go::SETUID), (0o2000, go::SETGID), (0o1000, go::STICKY)];
    let special: u32 = special.iter().filter(|(_, bit)| mode & bit != 0).map(|(bit, _)| bit).sum();
    (mode & 0o777) | special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_survive_the_format() {
        for bits in 0..0o10000 {
            let meta = Metadata { mode: Some(to_go(0o100_000 | bits)), ..Metadata::default() };
            assert_eq!(permissions(&meta), bits);
        }
    }

    #[test]
    fn times_before_1970_survive() {
        for (seconds, nanoseconds) in [(-1, 999_999_999), (-2, 1), (0, 0), (1_700_000_000, 123_456_789)] {
            let time = timestamp(seconds, nanoseconds).unwrap();
            assert_eq!(to_kernel_time(time), (seconds, nanoseconds));
        }
    }
}
