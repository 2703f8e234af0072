//! Second pass: further names of files that have several.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{AtFlags, linkat};

use super::{Volume, place::Place};
use crate::mover::{directory, failure::Failure};

/// First names, and the names still to be made.
#[derive(Debug, Default)]
pub(super) struct Links {
    first: HashMap<(usize, u64, u64), PathBuf>,
    further: Vec<(usize, PathBuf, PathBuf)>,
}

impl Links {
    /// Whether the file already has a name in this volume; this one is then made later.
    pub(super) fn is_further_name(&mut self, file: (u64, u64), volume: usize, path: &Path) -> bool {
        let (device, inode) = file;
        let first = self.first.entry((volume, device, inode)).or_insert_with(|| path.to_owned());
        if first == path {
            return false;
        }
        self.further.push((volume, first.clone(), path.to_owned()));
        true
    }

    /// Makes them.
    pub(super) fn make(&self, volumes: &[Volume]) -> Result<(), Failure> {
        for (volume, first, further) in &self.further {
            link(&volumes[*volume], first, further)?;
        }
        Ok(())
    }
}

fn link(volume: &Volume, first: &Path, further: &Path) -> Result<(), Failure> {
    let (first, further) = (find(volume, first)?, find(volume, further)?);
    let wanted = first.stat()?.map(|stat| (stat.st_dev, stat.st_ino));
    let found = further.stat()?.map(|stat| (stat.st_dev, stat.st_ino));
    if wanted.is_some() && wanted == found {
        return Ok(());
    }
    further.remove()?;
    linkat(&*first.directory, &first.name, &*further.directory, &further.name, AtFlags::empty())
        .map_err(|error| further.failure(error))
}

fn find(volume: &Volume, path: &Path) -> Result<Place, Failure> {
    let (above, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
    let opened = directory::descend(&volume.root, above).map_err(|error| Failure::writing(path, error))?;
    Ok(Place::new(&Arc::new(opened), name, above))
}
