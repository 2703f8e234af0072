//! What a backup builds on: what an interrupted one left in the vault gets an index, so that none of it is sent again; what is
//! damaged or gone is stored again.

use std::collections::{HashMap, HashSet};

use rustic_core::{
    FileType, Id, OpenStatus, ReadBackend, RepairIndexOptions, Repository, RusticResult, repofile::IndexFile,
};

use super::backend::Backend;

/// The packs of the vault beside those that its index names.
struct Compared {
    /// No index names them, or one says that they have another length.
    unfit: Vec<Id>,
    /// How many an index names that are hidden, gone or of another length.
    gone: usize,
    /// Whether two index files name the same pack.
    twice: bool,
}

/// Writes an index of the packs that no index names, from the list of contents at each one's end. Where an index names packs that
/// are hidden or gone, only the other packs that an index names are used: to write it anew, the old one would have to be removed.
pub(super) fn settle(repository: &Repository<OpenStatus>, backend: &Backend) -> RusticResult<()> {
    let Compared { unfit, gone, twice } = compare(repository, backend)?;
    if gone > 0 || (twice && !unfit.is_empty()) {
        tracing::warn!(
            gone,
            twice,
            unfit = unfit.len(),
            "the index is not of just the packs that are there: what is gone is stored again, and what no index names is not used"
        );
        backend.hide(unfit.iter().map(object));
        return Ok(());
    }
    if unfit.is_empty() {
        return Ok(());
    }
    tracing::info!(packs = unfit.len(), "using what an interrupted backup left in the vault");
    repository.repair_index(&RepairIndexOptions::default(), false)
}

/// Hides the packs that no index describes, so that none is read for its list of contents: it may be damaged.
pub(super) fn hide_unfit(repository: &Repository<OpenStatus>, backend: &Backend) -> RusticResult<()> {
    let compared = compare(repository, backend)?;
    backend.hide(compared.unfit.iter().map(object));
    Ok(())
}

fn compare(repository: &Repository<OpenStatus>, backend: &Backend) -> RusticResult<Compared> {
    let mut packs: HashMap<Id, u32> = backend.list_with_size(FileType::Pack)?.into_iter().collect();
    let mut named = HashSet::new();
    let (mut unfit, mut gone, mut twice) = (vec![], 0, false);
    for index in repository.stream_files::<IndexFile>()? {
        for pack in index?.1.packs {
            match packs.remove(&*pack.id) {
                Some(size) => {
                    named.insert(pack.id);
                    if size != pack.pack_size() {
                        unfit.push(*pack.id);
                        gone += 1;
                    }
                }
                None if named.contains(&pack.id) => twice = true,
                None => gone += 1,
            }
        }
    }
    unfit.extend(packs.into_keys());
    Ok(Compared { unfit, gone, twice })
}

fn object(pack: &Id) -> String {
    format!("data/{}", pack.to_hex().as_str())
}
