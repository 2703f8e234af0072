//! What a copy builds on, and what a restore reads through: packs that are stored, whole by their length, and neither known to be damaged
//! nor about to be freed. The index is brought in line with them before anything is copied: what an interrupted copy left is in it, and
//! blobs of all other packs are stored again.

use std::collections::{BTreeSet, HashMap, HashSet};

use rustic_core::{
    FileType, Id, IndexedFullStatus, OpenStatus, ReadBackend, RepairIndexOptions, Repository, RusticResult,
    repofile::IndexFile,
};

use super::backend::{Backend, object};

/// How the index differs from what may be used.
struct Difference {
    /// Packs that no index names.
    unnamed: HashSet<Id>,
    /// Packs of another length than an index says.
    misfits: HashSet<Id>,
    /// How many packs an index names that are hidden or gone.
    gone: usize,
}

impl Difference {
    fn is_misleading(&self) -> bool {
        self.gone > 0 || !self.misfits.is_empty()
    }
}

/// Brings the index in line with the packs that may be used. `base` are the objects that the point before needs, if that is known:
/// its index files say all that the older ones do.
pub(super) fn settle(
    repository: &Repository<OpenStatus>,
    backend: &Backend,
    base: Option<&BTreeSet<String>>,
) -> RusticResult<()> {
    backend.hide(backend.condemned()?);
    let mut found = difference(repository, backend)?;
    if found.is_misleading() {
        backend.hide(found.misfits.iter().map(pack));
        if let Some(base) = base {
            let indexes = backend.list_with_size(FileType::Index)?;
            let older = indexes.iter().map(|(id, _)| object(FileType::Index, id));
            backend.hide(older.filter(|index| !base.contains(index)));
        }
        found = difference(repository, backend)?;
    }
    if found.unnamed.is_empty() && !found.is_misleading() {
        return Ok(());
    }
    tracing::info!(
        unnamed = found.unnamed.len(),
        gone = found.gone,
        "writing the index anew: what an interrupted copy left is used, what is damaged, gone or about to go is stored again"
    );
    // Index files that it replaces are hidden by the backend, not removed.
    repository.repair_index(&RepairIndexOptions::default(), false)
}

/// Loads the index for reading. Where it names packs that are gone, a blob may be in one of those and in another one.
pub(super) fn load(
    repository: Repository<OpenStatus>,
    backend: &Backend,
) -> RusticResult<Repository<IndexedFullStatus>> {
    let found = difference(&repository, backend)?;
    if !found.is_misleading() {
        return repository.to_indexed();
    }
    // Otherwise all of these would be read, and the first that anybody spoiled would end it.
    backend.hide(found.unnamed.iter().chain(&found.misfits).map(pack));
    repository.to_indexed_checked()
}

fn difference(repository: &Repository<OpenStatus>, backend: &Backend) -> RusticResult<Difference> {
    let usable: HashMap<Id, u32> = backend.list_with_size(FileType::Pack)?.into_iter().collect();
    let (mut named, mut misfits, mut gone) = (HashSet::new(), HashSet::new(), HashSet::new());
    for index in repository.stream_files::<IndexFile>()? {
        for pack in index?.1.packs {
            match usable.get(&*pack.id) {
                Some(size) if *size == pack.pack_size() => named.insert(*pack.id),
                Some(_) => misfits.insert(*pack.id),
                None => gone.insert(*pack.id),
            };
        }
    }
    let unnamed = usable.into_keys().filter(|id| !named.contains(id) && !misfits.contains(id)).collect();
    Ok(Difference { unnamed, misfits, gone: gone.len() })
}

fn pack(id: &Id) -> String {
    object(FileType::Pack, id)
}
