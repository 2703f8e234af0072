//! Resuming: what an interrupted backup left in the vault gets an index, so that none of it is sent again.

use std::collections::HashSet;

use rustic_core::{
    FileType, Id, OpenStatus, ReadBackend, RepairIndexOptions, Repository, RusticResult, repofile::IndexFile,
};

use super::backend::Backend;

/// Writes an index of the packs that no index names, from the list of contents at each one's end.
pub(super) fn adopt_leftovers(repository: &Repository<OpenStatus>, backend: &Backend) -> RusticResult<()> {
    let packs = backend.list_with_size(FileType::Pack)?;
    let mut unnamed: HashSet<Id> = packs.into_iter().map(|(id, _)| id).collect();
    for index in repository.stream_files::<IndexFile>()? {
        for pack in index?.1.packs {
            if !unnamed.remove(&*pack.id) {
                // To write the index anew without it, the old one would have to be removed.
                tracing::warn!(
                    pack = pack.id.to_hex().as_str(),
                    "the vault lacks a pack that an index names: what an interrupted backup left is not used"
                );
                return Ok(());
            }
        }
    }
    if unnamed.is_empty() {
        return Ok(());
    }
    tracing::info!(packs = unnamed.len(), "using what an interrupted backup left in the vault");
    repository.repair_index(&RepairIndexOptions::default(), false)
}
