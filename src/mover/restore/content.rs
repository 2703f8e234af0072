//! Contents of files: only chunks that differ are fetched and written.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{PoisonError, atomic::Ordering},
};

use rayon::prelude::*;
use rustix::fs::{FallocateFlags, Stat, fallocate};

use super::{Restoration, attributes, place::Place};
use crate::mover::{
    engine::{DataId, Node, is_chunk},
    failure::Failure,
    node,
};

/// A regular file to be brought to its node.
#[derive(Debug)]
pub(super) struct FileJob {
    pub(super) place: Place,
    pub(super) node: Node,
    /// What was restored last has the same content here.
    pub(super) is_held: bool,
}

/// Where a chunk belongs.
struct Chunk {
    id: DataId,
    offset: u64,
    length: u64,
}

/// An open destination.
struct Target<'a> {
    place: &'a Place,
    file: File,
    /// What may already hold equal chunks: the file itself, or the one that it replaces.
    old: File,
    /// Size of `old`; beyond it nothing can be equal, and a file that was extended reads as zeros.
    old_size: u64,
    in_place: bool,
}

impl Restoration {
    /// Restores some files, several at a time.
    pub(super) fn files(&self, jobs: &[FileJob]) -> Result<(), Failure> {
        self.pool.install(|| jobs.par_iter().with_max_len(1).try_for_each(|job| self.file(job)))
    }

    fn file(&self, job: &FileJob) -> Result<(), Failure> {
        let found = job.place.stat()?;
        if !found.is_some_and(|found| self.is_untouched(job, &found))
            && !self.is_linked_and_equal(job, found)?
        {
            self.fill(&target(&job.place, found.as_ref())?, &job.node)?;
        }
        attributes::apply(&job.place, &job.node)?;
        self.done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the content need not be compared: it was restored last, and size and time say that nobody wrote since.
    /// Size and time alone say too little: files made in the same moment share them.
    fn is_untouched(&self, job: &FileJob, found: &Stat) -> bool {
        job.is_held
            && node::size(found) == job.node.meta.size
            && attributes::has_time_of(found, &job.node.meta)
            && self.may_keep_links(&job.node, found)
    }

    /// Whether a file with several names has the right content already: it is not written to, so it need not be
    /// separated from its names.
    fn is_linked_and_equal(&self, job: &FileJob, found: Option<Stat>) -> Result<bool, Failure> {
        let Some(found) = found.filter(|found| found.st_nlink > 1) else { return Ok(false) };
        if node::size(&found) != job.node.meta.size || !self.may_keep_links(&job.node, &found) {
            return Ok(false);
        }
        let old = job.place.open_file()?;
        let old_size = node::size(&found);
        for chunk in self.chunks(&job.node)? {
            if held(&job.place, &old, old_size, &chunk)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a file of the destination may keep its other names: the snapshot's file has several, and no other file
    /// of the snapshot took this one over.
    fn may_keep_links(&self, wanted: &Node, found: &Stat) -> bool {
        if found.st_nlink == 1 {
            return true;
        }
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.meta.links > 1 && claimed.insert((found.st_dev, found.st_ino))
    }

    fn fill(&self, target: &Target, node: &Node) -> Result<(), Failure> {
        let fail = |error: io::Error| target.place.failure(error);
        let size = node.meta.size;
        if target.file.metadata().map_err(fail)?.len() != size {
            target.file.set_len(size).map_err(fail)?;
        }
        let chunks = self.chunks(node)?;
        chunks.par_iter().with_max_len(4).try_for_each(|chunk| self.chunk(target, chunk))
    }

    fn chunks(&self, node: &Node) -> Result<Vec<Chunk>, Failure> {
        let mut offset = 0;
        let place = |id: &DataId| {
            let length = self.reader.length(*id)?;
            let chunk = Chunk { id: *id, offset, length };
            offset += length;
            Ok(chunk)
        };
        node.content.as_deref().unwrap_or_default().iter().map(place).collect()
    }

    fn chunk(&self, target: &Target, chunk: &Chunk) -> Result<(), Failure> {
        if let Some(equal) = held(target.place, &target.old, target.old_size, chunk)? {
            return if target.in_place { Ok(()) } else { self.write(target, chunk, &equal) };
        }
        self.write(target, chunk, &self.reader.chunk(chunk.id)?)
    }

    fn write(&self, target: &Target, chunk: &Chunk, content: &[u8]) -> Result<(), Failure> {
        let fail = |error: io::Error| target.place.failure(error);
        let is_fresh = !target.in_place || chunk.offset >= target.old_size;
        if content.iter().all(|byte| *byte == 0) {
            // What was never written reads as zeros; what was must become a hole, not be skipped.
            return if is_fresh { Ok(()) } else { punch(&target.file, chunk, content).map_err(fail) };
        }
        target.file.write_all_at(content, chunk.offset).map_err(fail)?;
        self.written.fetch_add(chunk.length, Ordering::Relaxed);
        Ok(())
    }
}

fn target<'a>(place: &'a Place, found: Option<&Stat>) -> Result<Target<'a>, Failure> {
    let old_size = found.map_or(0, node::size);
    if found.is_none_or(|found| found.st_nlink == 1) {
        let file = place.open_file()?;
        let old = file.try_clone().map_err(|error| place.failure(error))?;
        return Ok(Target { place, file, old, old_size, in_place: true });
    }
    // Writing through one of several names would change the others.
    let old = place.open_file()?;
    place.remove()?;
    Ok(Target { place, file: place.open_file()?, old, old_size, in_place: false })
}

/// The chunk's content, if the old file has it at the same offset.
fn held(place: &Place, old: &File, old_size: u64, chunk: &Chunk) -> Result<Option<Vec<u8>>, Failure> {
    let Ok(length) = usize::try_from(chunk.length) else { return Ok(None) };
    if chunk.offset >= old_size {
        return Ok(None);
    }
    let mut content = vec![0; length];
    match old.read_exact_at(&mut content, chunk.offset) {
        Ok(()) => Ok(is_chunk(&chunk.id, &content).then_some(content)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(place.failure(error)),
    }
}

/// Makes a hole; where the file system has none, zeros.
fn punch(file: &File, chunk: &Chunk, zeros: &[u8]) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match fallocate(file, flags, chunk.offset, chunk.length) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            file.write_all_at(zeros, chunk.offset)
        }
        result => Ok(result?),
    }
}
