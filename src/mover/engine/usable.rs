//! What a new copy may build on: exactly the packs that are stored and not about to be freed. The index says so before anything is
//! copied; what an interrupted copy left is in it, and what is gone or condemned is not, so that its blobs are stored again.

use std::collections::{BTreeSet, HashSet};

use rustic_core::{
    FileType, Id, IndexedFullStatus, OpenStatus, ReadBackend, RepairIndexOptions, Repository, RusticResult, repofile::IndexFile,
};

use super::backend::Backend;

/// How the index differs from what may be used.
struct Difference {
    /// Packs without an entry.
    unnamed: HashSet<Id>,
    /// Entries without a pack.
    unusable: HashSet<Id>,
}

/// Brings the index in line with the packs that may be used. `base` are the objects that the point before needs, if that is known:
/// its index files say all that the older ones do.
pub(super) fn settle(
    repository: &Repository<OpenStatus>,
    backend: &Backend,
    base: Option<&BTreeSet<String>>,
) -> RusticResult<()> {
    backend.leave(backend.condemned()?);
    let mut found = difference(repository, backend)?;
    if !found.unusable.is_empty()
        && let Some(base) = base
    {
        backend.hide_indexes(|id| !base.contains(&format!("index/{}", id.to_hex().as_str())))?;
        found = difference(repository, backend)?;
    }
    if found.unnamed.is_empty() && found.unusable.is_empty() {
        return Ok(());
    }
    tracing::info!(
        unnamed = found.unnamed.len(),
        unusable = found.unusable.len(),
        "writing the index anew: packs that an interrupted copy left are used, packs that are gone or about to go are not"
    );
    // Index files that it replaces are hidden by the backend, not removed.
    repository.repair_index(&RepairIndexOptions::default(), false)
}

/// Loads the index for reading. Where it names packs that were freed, a blob may be in one of those and in another one.
pub(super) fn load(
    repository: Repository<OpenStatus>,
    backend: &Backend,
) -> RusticResult<Repository<IndexedFullStatus>> {
    let found = difference(&repository, backend)?;
    if found.unusable.is_empty() {
        return repository.to_indexed();
    }
    // Otherwise it would read all of them, and fail with the first that anybody spoiled.
    backend.leave(found.unnamed);
    repository.to_indexed_checked()
}

fn difference(repository: &Repository<OpenStatus>, backend: &Backend) -> RusticResult<Difference> {
    let packs = backend.list_with_size(FileType::Pack)?;
    let usable: HashSet<Id> = packs.into_iter().map(|(id, _)| id).collect();
    let mut named = HashSet::new();
    for index in repository.stream_files::<IndexFile>()? {
        named.extend(index?.1.packs.iter().map(|pack| *pack.id));
    }
    let without = |all: &HashSet<Id>, some: &HashSet<Id>| all.difference(some).copied().collect();
    Ok(Difference { unnamed: without(&usable, &named), unusable: without(&named, &usable) })
}
