//! Owner, extended attributes, mode, time of change: in this order, since each may change those after it.

use std::{fs, io, os::unix::fs::PermissionsExt};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, chownat, openat,
    utimensat,
};

use super::place::Place;
use crate::mover::{
    directory,
    engine::{Metadata, Node},
    failure::Failure,
    node,
};

/// Gives an entry the metadata of a node; only what differs is written.
pub(super) fn apply(place: &Place, wanted: &Node) -> Result<(), Failure> {
    let Some(found) = place.stat()? else {
        return Err(place.failure(io::Error::from(io::ErrorKind::NotFound)));
    };
    let is_link = directory::is(&found, FileType::Symlink);
    owner(place, &wanted.meta, &found)?;
    extended(place, &wanted.meta).map_err(|error| place.failure(error))?;
    if !is_link {
        mode(place, &wanted.meta)?;
    }
    time(place, &wanted.meta)
}

/// Whether an entry has the time of change of a node.
pub(super) fn has_time_of(found: &Stat, wanted: &Metadata) -> bool {
    let time = wanted.mtime.map(node::to_kernel_time);
    time.is_some_and(|(seconds, nanoseconds)| {
        (found.st_mtime, i128::from(found.st_mtime_nsec)) == (seconds, i128::from(nanoseconds))
    })
}

fn owner(place: &Place, wanted: &Metadata, found: &Stat) -> Result<(), Failure> {
    let (uid, gid) = (wanted.uid.unwrap_or(found.st_uid), wanted.gid.unwrap_or(found.st_gid));
    if (uid, gid) == (found.st_uid, found.st_gid) {
        return Ok(());
    }
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    let changed = chownat(&*place.directory, &place.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
    changed.map_err(|error| place.failure(error))
}

fn extended(place: &Place, wanted: &Metadata) -> io::Result<()> {
    let path = place.pinned();
    let held = node::attributes(&path)?;
    let wanted = &wanted.extended_attributes;
    for (name, _) in &held {
        if !wanted.iter().any(|w| w.name == *name) {
            xattr::remove(&path, name)?;
        }
    }
    for wanted in wanted {
        let value = wanted.value.as_deref().unwrap_or_default();
        if !held.iter().any(|(name, held)| *name == wanted.name && held == value) {
            xattr::set(&path, &wanted.name, value)?;
        }
    }
    Ok(())
}

fn mode(place: &Place, wanted: &Metadata) -> Result<(), Failure> {
    let bits = node::permissions(wanted);
    // Looked at again: changing the owner drops setuid, and an access control list brings its own bits.
    let found = place.stat()?;
    if found.is_some_and(|found| found.st_mode & 0o7777 == bits) {
        return Ok(());
    }
    // `chmod` would follow a symbolic link; a descriptor that is only a path does not.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let pinned =
        openat(&*place.directory, &place.name, flags, Mode::empty()).map_err(|e| place.failure(e))?;
    let stat = rustix::fs::fstat(&pinned).map_err(|error| place.failure(error))?;
    if directory::is(&stat, FileType::Symlink) {
        return Err(place.failure(io::Error::other("it became a symbolic link")));
    }
    let path = node::itself(&pinned);
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).map_err(|error| place.failure(error))
}

fn time(place: &Place, wanted: &Metadata) -> Result<(), Failure> {
    let Some(mtime) = wanted.mtime else { return Ok(()) };
    if place.stat()?.is_some_and(|found| has_time_of(&found, wanted)) {
        return Ok(());
    }
    let (seconds, nanoseconds) = node::to_kernel_time(mtime);
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times = Timestamps {
        last_access: omit,
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
    };
    let changed = utimensat(&*place.directory, &place.name, &times, AtFlags::SYMLINK_NOFOLLOW);
    changed.map_err(|error| place.failure(error))
}
