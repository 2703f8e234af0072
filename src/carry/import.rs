//! From a folder into a vault. Packs first and manifests last, as every copy is stored: what is broken off on the way is no
//! recovery point, and no index ever names a pack that is not there.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};

use super::{
    Progress,
    check::{carried_order, contents, open, path, read_back, wrong},
    failure::Failure,
    folder::{Folder, Shelf, sha256},
    list::{Carried, List},
    order::Order,
    points::{Keys, genuine},
    pool,
    way::Way,
};
use crate::vault::client::{ClientError, RepositoryClient};

/// The order in which kinds are sent.
const ORDER: [&str; 5] = ["data", "config", "index", "snapshots", crate::vault::inventory::KIND];

/// How an import takes what the vault lists with its right length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It is what its name says: the vault compared it when it took it.
    Listed,
    /// The vault's disk may have damaged it since: it is read back, and sent again if it is.
    ReadBack,
}

/// Sends what the vault does not hold yet, or holds damaged.
pub fn import(
    folder: &Folder,
    shelf: &Shelf,
    keys: Keys<'_>,
    way: &Way,
    trust: Trust,
    progress: &Progress,
) -> Result<List, Failure> {
    let (list, _) = open(folder, shelf, Some(keys))?;
    let manifests = believable(folder, &list, keys, progress)?;
    let held = way.points(shelf)?;
    fits(shelf, &manifests, &held, keys)?;
    let repository = way.repository(shelf)?;
    repository.create()?;
    same_repository(&repository, &list)?;
    let order = match carried_order(folder, &list, Some(keys))? {
        Some(order) if !manifests.keys().all(|sequence| held.contains_key(sequence)) => {
            missing_order(way, shelf, order)?
        }
        _ => None,
    };
    for kind in ORDER {
        let files: Vec<&Carried> =
            list.files.iter().filter(|file| file.object().is_some_and(|(it, _)| it == kind)).collect();
        send(&repository, folder, &list, &files, (kind, trust), progress)?;
    }
    if let Some(order) = order {
        way.put_order(shelf, order.thinning.sequence, order.text)?;
    }
    for (sequence, text) in manifests {
        if !held.contains_key(&sequence) {
            progress.moved(text.len() as u64);
            way.put_point(shelf, sequence, text)?;
        }
    }
    arrived(&repository, way, &list)?;
    Ok(list)
}

/// The order that the vault must know before it takes points that were given up as links of the chain; none if it knows one as new.
fn missing_order(way: &Way, shelf: &Shelf, order: Order) -> Result<Option<Order>, Failure> {
    let (vault, here) = (order.thinning.vault.clone(), way.site()?);
    if let Some(text) = way.order(shelf)? {
        let held = Order::open(text, shelf, None).map_err(Failure::Order)?.thinning;
        let was_taken_back = held.vault == vault && held.sequence < order.thinning.sequence;
        let (held, carried) = (held.sequence, order.thinning.sequence);
        return if was_taken_back { Err(Failure::OlderOrder { held, carried }) } else { Ok(None) };
    }
    if vault == here { Ok(Some(order)) } else { Err(Failure::OtherVault { vault, here }) }
}

/// The manifests, if nothing is missing and all but the packs is what the list says. These are read when they are sent.
fn believable(
    folder: &Folder,
    list: &List,
    keys: Keys<'_>,
    progress: &Progress,
) -> Result<BTreeMap<i64, String>, Failure> {
    let (packs, small): (Vec<Carried>, Vec<Carried>) =
        list.files.iter().cloned().partition(|file| file.name.starts_with("data/"));
    let mut damage: Vec<String> =
        read_back(folder, list, &small, progress)?.into_iter().map(|(_, sentence)| sentence).collect();
    for pack in &packs {
        damage.extend(wrong(folder, &list.shelf(), pack, false)?);
    }
    if damage.is_empty() { contents(folder, list, Some(keys)) } else { Err(Failure::Damaged(damage)) }
}

/// Refuses points that do not make one chain with those that the vault holds.
fn fits(
    shelf: &Shelf,
    carried: &BTreeMap<i64, String>,
    held: &BTreeMap<i64, String>,
    keys: Keys<'_>,
) -> Result<(), Failure> {
    let other = |sequence: i64| Failure::OtherPoints { epoch: shelf.epoch.to_string(), sequence };
    if let Some((sequence, _)) =
        carried.iter().find(|(sequence, text)| held.get(sequence).is_some_and(|held| held != *text))
    {
        return Err(other(*sequence));
    }
    if carried.is_empty() {
        return Ok(());
    }
    let mut all = held.clone();
    all.extend(carried.clone());
    match genuine(shelf, &all, Some(keys)) {
        Err(Failure::NotGenuine { point, .. }) => Err(other(point.sequence)),
        result => result.map(drop),
    }
}

/// A first copy fits each repository of its key. Recovery points bring their configuration, and none is ever overwritten.
fn same_repository(repository: &RepositoryClient, list: &List) -> Result<(), Failure> {
    let Some(config) = list.files.iter().find(|file| file.name == "config") else { return Ok(()) };
    match repository.read("config", "config") {
        Err(ClientError::NotFound { .. }) => Ok(()),
        Ok(held) if sha256(&held) == config.sha256 => Ok(()),
        Ok(_) => Err(Failure::OtherRepository(list.epoch.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// Sends those of one kind that are not there with their right length, and none that is damaged. Fails if one is.
fn send(
    repository: &RepositoryClient,
    folder: &Folder,
    list: &List,
    files: &[&Carried],
    (kind, trust): (&str, Trust),
    progress: &Progress,
) -> Result<(), Failure> {
    let held: HashMap<String, u64> = repository.list(kind)?.into_iter().collect();
    progress.begin(files.len() as u64, files.iter().map(|file| file.size).sum());
    let damage: Vec<String> = pool()?.install(|| {
        let all = files.par_iter().map(|file| {
            let Some((_, name)) = file.object() else { return Ok(None) };
            let listed = held.get(name) == Some(&file.size);
            let found = if listed && (trust == Trust::Listed || is_sound(repository, file)?) {
                None
            } else {
                send_one(repository, folder, &list.shelf(), file, progress)?
            };
            progress.done(file.size);
            Ok(found)
        });
        let found: Result<Vec<Option<String>>, Failure> = all.collect();
        found.map(|found| found.into_iter().flatten().collect())
    })?;
    if damage.is_empty() { Ok(()) } else { Err(Failure::Damaged(damage)) }
}

/// Whether the vault gives back what it was given. What it cannot read it does not hold.
fn is_sound(repository: &RepositoryClient, file: &Carried) -> Result<bool, Failure> {
    let Some((kind, name)) = file.object() else { return Ok(true) };
    match repository.digest(kind, name, file.size) {
        Ok(digest) => Ok(digest == file.sha256),
        Err(ClientError::NotFound { .. }) => Ok(false),
        // A vault that is gone fails at the next request, too.
        Err(error) if error.is_transient() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn send_one(
    repository: &RepositoryClient,
    folder: &Folder,
    shelf: &Shelf,
    file: &Carried,
    progress: &Progress,
) -> Result<Option<String>, Failure> {
    let (path, Some((kind, name))) = (path(shelf, file)?, file.object()) else { return Ok(None) };
    let content = match folder.read(&path) {
        Ok(content) if sha256(&content) == file.sha256 => content,
        Ok(_) => return Ok(Some(format!("{} was altered: its SHA-256 is another one", path.display()))),
        Err(Failure::Disk { source, .. }) => {
            return Ok(Some(format!("{} cannot be read ({source})", path.display())));
        }
        Err(failure) => return Err(failure),
    };
    repository.write(kind, name, content.into())?;
    progress.moved(file.size);
    Ok(None)
}

/// Whether the vault now lists all that was carried. It compared each object with its name when it took it.
fn arrived(repository: &RepositoryClient, way: &Way, list: &List) -> Result<(), Failure> {
    let mut missing = vec![];
    let held = way.points(&list.shelf())?;
    let mut objects: HashMap<String, u64> = HashMap::new();
    for kind in ORDER {
        objects
            .extend(repository.list(kind)?.into_iter().map(|(name, size)| (format!("{kind}/{name}"), size)));
    }
    for file in &list.files {
        let there = match (file.sequence(), file.object()) {
            (Some(sequence), _) => {
                held.get(&sequence).is_some_and(|text| sha256(text.as_bytes()) == file.sha256)
            }
            (None, Some((kind, name))) => objects.get(&format!("{kind}/{name}")) == Some(&file.size),
            (None, None) => true,
        };
        if !there {
            missing.push(file.name.clone());
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(Failure::VaultDamaged(missing)) }
}
