//! Contents of files: only chunks that differ are fetched and written.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{PoisonError, atomic::Ordering},
};

use rayon::prelude::*;
use rustix::fs::{FallocateFlags, Stat, fallocate};

use super::{Restoration, THREADS, attributes, place::Place};
use crate::mover::{
    engine::{DataId, Node, Stored, is_chunk, runs},
    failure::Failure,
    node,
};

/// Chunks that are compared and fetched together: bounds the memory of the list.
const ROUND: usize = 16 * 1024;

/// A regular file to be brought to its node.
#[derive(Debug)]
pub(super) struct FileJob {
    pub(super) place: Place,
    pub(super) node: Node,
    /// What was restored last has the same content here.
    pub(super) is_held: bool,
}

/// A file whose content is brought to its node's.
struct Target<'a> {
    place: &'a Place,
    node: &'a Node,
    /// What may already hold equal chunks: the file itself, or the one that it replaces.
    old: Old,
}

/// The file that is there before.
enum Old {
    /// It is written to. Beyond this size nothing can be equal, and a file that was extended reads as zeros.
    InPlace(u64),
    /// Writing through one of several names would change the others.
    Replaced(File),
}

/// Where a chunk belongs.
struct Chunk<'a> {
    target: &'a Target<'a>,
    offset: u64,
    id: DataId,
    stored: Stored,
}

impl Restoration {
    /// Restores some files, several at a time: first it is found out what differs, then that is fetched, in the order of the packs.
    pub(super) fn files(&self, jobs: &[FileJob]) -> Result<(), Failure> {
        self.pool.install(|| {
            let begun = jobs.par_iter().with_max_len(1).map(|job| self.begin(job));
            let begun = begun.collect::<Result<Vec<_>, _>>()?;
            self.fill(&begun.into_iter().flatten().collect::<Vec<_>>())?;
            jobs.par_iter().try_for_each(|job| self.finish_file(job))
        })
    }

    /// Makes a file ready for its content, unless it has that.
    fn begin<'a>(&self, job: &'a FileJob) -> Result<Option<Target<'a>>, Failure> {
        let found = job.place.stat()?;
        if found.is_some_and(|found| self.is_untouched(job, &found))
            || self.is_linked_and_equal(job, found)?
        {
            return Ok(None);
        }
        target(job, found.as_ref()).map(Some)
    }

    fn finish_file(&self, job: &FileJob) -> Result<(), Failure> {
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
        for chunk in self.chunks(&job.node) {
            let (offset, id, stored) = chunk?;
            if held(&job.place, &old, offset, id, stored.length)?.is_none() {
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

    fn fill(&self, targets: &[Target]) -> Result<(), Failure> {
        let mut chunks = targets.iter().flat_map(|target| {
            self.chunks(target.node)
                .map(move |chunk| chunk.map(|(offset, id, stored)| Chunk { target, offset, id, stored }))
        });
        loop {
            let round = chunks.by_ref().take(ROUND).collect::<Result<Vec<_>, _>>()?;
            if round.is_empty() {
                return Ok(());
            }
            let round = round.into_par_iter().with_max_len(4);
            let missing = round.filter_map(|chunk| self.unless_held(chunk).transpose());
            self.fetch(missing.collect::<Result<Vec<_>, _>>()?)?;
        }
    }

    /// The chunks of a file, with their offsets in it.
    fn chunks(&self, node: &Node) -> impl Iterator<Item = Result<(u64, DataId, Stored), Failure>> {
        let mut offset = 0;
        node.content.as_deref().unwrap_or_default().iter().map(move |id| {
            let stored = self.reader.locate(id)?;
            let chunk = (offset, *id, stored);
            offset += stored.length;
            Ok(chunk)
        })
    }

    /// The chunk again, unless the file before has it.
    fn unless_held<'a>(&self, chunk: Chunk<'a>) -> Result<Option<Chunk<'a>>, Failure> {
        let Chunk { target, offset, id, stored } = &chunk;
        let held = |file: &File| held(target.place, file, *offset, *id, stored.length);
        match &target.old {
            Old::InPlace(size) if offset >= size => Ok(Some(chunk)),
            Old::InPlace(_) => {
                let equal = held(&target.place.open_file()?)?;
                Ok(equal.is_none().then_some(chunk))
            }
            Old::Replaced(old) => {
                let Some(equal) = held(old)? else { return Ok(Some(chunk)) };
                self.write(&chunk, &equal, is_zero(&equal)).map(|()| None)
            }
        }
    }

    fn fetch(&self, missing: Vec<Chunk>) -> Result<(), Failure> {
        runs(missing, |chunk| &chunk.stored, THREADS).into_par_iter().with_max_len(1).try_for_each(|run| {
            self.reader.ahead(&run.pack, run.from, run.to)?;
            // One chunk may be in many places, such as one of zeros: they follow each other.
            run.chunks.chunk_by(|one, next| one.id == next.id).try_for_each(|places| {
                let content = self.reader.chunk(places[0].id)?;
                let is_zero = is_zero(&content);
                places.iter().try_for_each(|chunk| self.write(chunk, &content, is_zero))
            })
        })
    }

    fn write(&self, chunk: &Chunk, content: &[u8], is_zero: bool) -> Result<(), Failure> {
        let Chunk { target, offset, stored, .. } = chunk;
        let fail = |error: io::Error| target.place.failure(error);
        let is_fresh = match &target.old {
            Old::InPlace(size) => offset >= size,
            Old::Replaced(_) => true,
        };
        if is_zero {
            // What was never written reads as zeros; what was must become a hole, not be skipped.
            return if is_fresh {
                Ok(())
            } else {
                punch(&target.place.open_file()?, *offset, content).map_err(fail)
            };
        }
        target.place.open_file()?.write_all_at(content, *offset).map_err(fail)?;
        self.written.fetch_add(stored.length, Ordering::Relaxed);
        Ok(())
    }
}

fn target<'a>(job: &'a FileJob, found: Option<&Stat>) -> Result<Target<'a>, Failure> {
    let FileJob { place, node, .. } = job;
    let old = if found.is_none_or(|found| found.st_nlink == 1) {
        Old::InPlace(found.map_or(0, node::size))
    } else {
        let old = place.open_file()?;
        place.remove()?;
        Old::Replaced(old)
    };
    let file = place.open_file()?;
    if file.metadata().map_err(|error| place.failure(error))?.len() != node.meta.size {
        file.set_len(node.meta.size).map_err(|error| place.failure(error))?;
    }
    Ok(Target { place, node, old })
}

/// The chunk's content, if the file has it at that offset.
fn held(
    place: &Place,
    file: &File,
    offset: u64,
    id: DataId,
    length: u64,
) -> Result<Option<Vec<u8>>, Failure> {
    let Ok(length) = usize::try_from(length) else { return Ok(None) };
    let mut content = vec![0; length];
    match file.read_exact_at(&mut content, offset) {
        Ok(()) => Ok(is_chunk(&id, &content).then_some(content)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(place.failure(error)),
    }
}

fn is_zero(content: &[u8]) -> bool {
    content.iter().all(|byte| *byte == 0)
}

/// Makes a hole; where the file system has none, zeros.
fn punch(file: &File, offset: u64, zeros: &[u8]) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match fallocate(file, flags, offset, zeros.len() as u64) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.write_all_at(zeros, offset),
        result => Ok(result?),
    }
}
