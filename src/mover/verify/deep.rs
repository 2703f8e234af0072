//! With the key: every blob of every sound pack is decrypted and compared with its id, and the newest point with its manifest.

use std::{collections::HashSet, sync::Arc};

use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};

use super::{needs::Objects, objects::pool};
use crate::mover::{
    engine::{Engine, StoreError},
    failure::Failure,
    survey::survey,
};
use crate::plan::manifest::Manifest;
use crate::plan::verification::Wrong;
use crate::vault::client::RepositoryClient;

/// Marks what does not decrypt to what it should be. What is wrong without a key already is not looked at again.
pub(super) fn check(
    client: &RepositoryClient,
    key: &str,
    newest: Option<&Manifest>,
    objects: &mut Objects,
) -> Result<(), Failure> {
    let spoiled = |object: &String, wrong: &Option<Wrong>| !object.starts_with("data/") && wrong.is_some();
    if objects.config.is_none() || objects.found.iter().any(|(object, wrong)| spoiled(object, wrong)) {
        tracing::warn!(
            "no blob is decrypted: without its configuration and its whole index a repository cannot be read"
        );
        return Ok(());
    }
    let open = || Engine::open(Arc::new(client.clone()), key);
    let reader = match open().and_then(Engine::reader) {
        Ok(reader) => reader,
        Err(Failure::Store(error)) => return Err(error.into()),
        Err(failure) => {
            tracing::error!(%failure, "the repository does not open");
            let undecodable = |(object, wrong): (&String, &mut Option<Wrong>)| {
                if object.starts_with("index/") {
                    *wrong = Some(Wrong::Undecodable);
                }
            };
            objects.found.iter_mut().for_each(undecodable);
            return Ok(());
        }
    };
    let packs = reader.packs()?;
    let sound = |name: &str| objects.found.get(&format!("data/{name}")).is_some_and(Option::is_none);
    // A blob may lie in two packs: of a damaged one, in the pack of the copy that went around it, too.
    let reader = if packs.iter().all(|pack| sound(&pack.name)) {
        reader
    } else {
        let named: HashSet<String> = packs.iter().map(|pack| format!("data/{}", pack.name)).collect();
        let unused = |(object, wrong): (&String, &Option<Wrong>)| {
            let is_pack = object.starts_with("data/");
            (is_pack && (wrong.is_some() || !named.contains(object))).then(|| object.clone())
        };
        open()?.without(objects.found.iter().filter_map(unused)).reader()?
    };
    let checked = pool()?.install(|| {
        let all = packs.par_iter().filter(|pack| sound(&pack.name)).map(|pack| match reader.check(pack) {
            // One that is not there was freed since it was read.
            Ok(()) | Err(Failure::Store(StoreError::Damaged(_))) => Ok(None),
            Err(Failure::Store(error)) => Err(Failure::Store(error)),
            Err(failure) => {
                tracing::error!(pack = pack.name, %failure, "a pack does not decrypt");
                Ok(Some(format!("data/{}", pack.name)))
            }
        });
        all.collect::<Result<Vec<Option<String>>, Failure>>()
    })?;
    for object in checked.into_iter().flatten() {
        objects.found.insert(object, Some(Wrong::Undecodable));
    }
    let Some(manifest) = newest else { return Ok(()) };
    let snapshot = format!("snapshots/{}", manifest.contents.snapshot);
    let surveyed = reader.snapshot(&manifest.contents.snapshot).and_then(|tree| survey(&reader, tree));
    let matches = match surveyed {
        Ok(found) => found.digest == manifest.contents.content_digest,
        Err(Failure::Store(error)) => return Err(error.into()),
        Err(_) => false,
    };
    // Where a pack is damaged, that is what is wrong, and it was named.
    let whole = objects.found.values().all(Option::is_none);
    if !matches && whole {
        objects.found.insert(snapshot, Some(Wrong::Undecodable));
    }
    Ok(())
}
