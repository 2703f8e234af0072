//! From a vault, or from a mover beside the volumes, into a folder.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};

use super::{
    Progress,
    check::{carried, path, read_back},
    failure::Failure,
    folder::{Folder, Shelf, sha256},
    list::{Carried, List, VERSION},
    needs,
    order::{self, Order, kept},
    points::{Keys, genuine},
    pool,
    way::Way,
};
use crate::api::epoch::PointRef;
use crate::plan::manifest::Manifest;
use crate::trust::signing::SiteKey;
use crate::vault::client::{ClientError, RepositoryClient};
use crate::vault::inventory::KIND;

/// Whoever vouches for the list.
#[derive(Debug)]
pub struct Signer<'a> {
    /// The site that exports.
    pub site: &'a str,
    /// Its signing key.
    pub key: &'a SiteKey,
}

/// How often what a vault holds is looked at anew when it freed some of it meanwhile.
const TRIES: usize = 5;

/// An export from a vault.
pub struct Export<'a> {
    /// The vault.
    pub way: &'a Way,
    /// Whose word is believed.
    pub keys: Keys<'a>,
    /// Where everything goes.
    pub folder: &'a Folder,
    /// Who vouches for the list.
    pub signer: &'a Signer<'a>,
    /// What is told meanwhile.
    pub progress: &'a Progress,
}

impl Export<'_> {
    /// Carries one epoch up to a point, or to its newest: all points up to it, since they are one chain, and the repository that
    /// they lie in with all its packs, since an index names also packs that no point needs any more. What the vault is about to free
    /// stays, and the order by which it may comes along.
    pub fn points(
        &self,
        (namespace, embassy): (&str, &str),
        wanted: Option<&PointRef>,
    ) -> Result<List, Failure> {
        let newest = || self.way.epochs(namespace, embassy).map(|epochs| epochs.into_iter().max());
        let epoch = match wanted {
            Some(point) => Some(point.epoch.clone()),
            None => newest()?,
        };
        let Some(epoch) = epoch else { return Err(Failure::NoPoints(format!("{namespace}/{embassy}"))) };
        let at = Shelf { namespace: namespace.to_owned(), embassy: embassy.to_owned(), epoch };
        let mut tries = 1;
        loop {
            match self.epoch(&at, wanted) {
                // Freed between two looks.
                Err(Failure::Vault(ClientError::NotFound { .. })) if tries < TRIES => tries += 1,
                result => return result,
            }
        }
    }

    fn epoch(&self, at: &Shelf, wanted: Option<&PointRef>) -> Result<List, Failure> {
        let Self { way, keys, folder, signer, progress } = *self;
        let mut texts = way.points(at)?;
        let last = texts.keys().last().copied();
        if let Some(point) = wanted {
            if !texts.contains_key(&point.sequence) {
                return Err(Failure::NoPoint(point.clone()));
            }
            texts.retain(|sequence, _| *sequence <= point.sequence);
        }
        let manifests = genuine(at, &texts, Some(keys))?;
        let repository = way.repository(at)?;
        let condemned = repository.condemned()?;
        let mut files = listed(&repository)?;
        // After the objects: what was freed before them was ordered before.
        let order = way.order(at)?.map(|text| Order::open(text, at, Some(keys)));
        let order = order.transpose().map_err(Failure::Order)?;
        if let Some(point) = wanted
            && Some(point.sequence) != last
            && order.as_ref().is_some_and(|order| order.thinning.gives_up(point))
        {
            return Err(Failure::GivenUp(point.clone()));
        }
        let config = repository.read("config", "config")?;
        files.push(carried("config".to_owned(), &config));
        let needed = needed(&repository, &kept(&manifests, order.as_ref()), &files)?;
        let condemned: BTreeSet<String> = condemned.into_iter().map(|name| format!("data/{name}")).collect();
        files.retain(|file| needed.contains(&file.name) || !condemned.contains(&file.name));
        folder.write(&path(at, &carried("config".to_owned(), &config))?, &config)?;
        let documents = texts.iter().map(|(sequence, text)| (format!("points/{sequence}"), text));
        for (name, text) in documents.chain(order.iter().map(|order| (order::NAME.to_owned(), &order.text))) {
            let file = carried(name, text.as_bytes());
            folder.write(&path(at, &file)?, text.as_bytes())?;
            files.push(file);
        }
        fetch(&repository, folder, at, &files, progress)?;
        let point = manifests.last().map(|manifest| manifest.point.clone());
        signed(folder, list(at, point, files), signer, progress, |damaged| {
            fetch(&repository, folder, at, damaged, progress)
        })
    }
}

/// Makes ready for a mover that goes on with a first copy: of what is there only whole packs stay. The list of their contents
/// is made anew from them, so that it never names one that is not there.
pub fn prepare_first_copy(folder: &Folder, shelf: &Shelf, progress: &Progress) -> Result<(), Failure> {
    let packs = folder.objects(shelf, "data")?;
    let packs = packs.into_iter().map(|(name, size)| named("data", name, size)).collect();
    drop_damaged(folder, &list(shelf, None, packs), progress)?;
    for kind in ["index", "snapshots", KIND] {
        for (name, size) in folder.objects(shelf, kind)? {
            folder.remove(&path(shelf, &named(kind, name, size))?)?;
        }
    }
    folder.remove(&shelf.list())
}

/// Vouches for what a mover wrote into the folder: pieces that no recovery point names yet. The list of their contents goes
/// with them; a snapshot and a configuration do not, since the vault has or makes its own.
pub fn first_copy(
    folder: &Folder,
    shelf: &Shelf,
    signer: &Signer<'_>,
    progress: &Progress,
) -> Result<List, Failure> {
    let mut files = vec![];
    for kind in ["data", "index"] {
        let found = folder.objects(shelf, kind)?;
        files.extend(found.into_iter().map(|(name, size)| named(kind, name, size)));
    }
    signed(folder, list(shelf, None, files), signer, progress, |_| Ok(()))
}

fn list(shelf: &Shelf, point: Option<PointRef>, mut files: Vec<Carried>) -> List {
    files.sort();
    List {
        version: VERSION,
        namespace: shelf.namespace.clone(),
        embassy: shelf.embassy.clone(),
        epoch: shelf.epoch.clone(),
        point,
        files,
    }
}

fn named(kind: &str, name: String, size: u64) -> Carried {
    Carried { name: format!("{kind}/{name}"), size, sha256: name }
}

/// All objects of the repository. The indexes first: what one names was stored before it.
fn listed(repository: &RepositoryClient) -> Result<Vec<Carried>, Failure> {
    let mut files = vec![];
    for kind in ["index", "snapshots", KIND, "data"] {
        files.extend(repository.list(kind)?.into_iter().map(|(name, size)| named(kind, name, size)));
    }
    Ok(files)
}

/// What the points need; refuses to carry points with holes.
fn needed(
    repository: &RepositoryClient,
    kept: &[&Manifest],
    files: &[Carried],
) -> Result<BTreeSet<String>, Failure> {
    let there: BTreeMap<&str, &str> =
        files.iter().map(|file| (file.name.as_str(), file.sha256.as_str())).collect();
    let needs = needs::of(kept.iter().copied(), |name| {
        let listed = there.contains_key(format!("{KIND}/{name}").as_str());
        listed.then(|| Ok(repository.read(KIND, name)?.to_vec())).transpose()
    })?;
    let mut missing: Vec<String> =
        needs.objects.iter().filter(|name| !there.contains_key(name.as_str())).cloned().collect();
    if needs.configs.iter().any(|wanted| there.get("config") != Some(&wanted.as_str())) {
        missing.push("config".to_owned());
    }
    if missing.is_empty() { Ok(needs.objects) } else { Err(Failure::VaultDamaged(missing)) }
}

/// Fetches the objects that are not there with their right length.
fn fetch(
    repository: &RepositoryClient,
    folder: &Folder,
    shelf: &Shelf,
    files: &[Carried],
    progress: &Progress,
) -> Result<(), Failure> {
    progress.begin(files.len() as u64, files.iter().map(|file| file.size).sum());
    let damaged: Vec<String> = pool()?.install(|| {
        let all = files.par_iter().map(|file| {
            let damaged = fetch_one(repository, folder, shelf, file, progress)?;
            progress.done(file.size);
            Ok(damaged)
        });
        let found: Result<Vec<Option<String>>, Failure> = all.collect();
        found.map(|found| found.into_iter().flatten().collect())
    })?;
    if damaged.is_empty() { Ok(()) } else { Err(Failure::VaultDamaged(damaged)) }
}

fn fetch_one(
    repository: &RepositoryClient,
    folder: &Folder,
    shelf: &Shelf,
    file: &Carried,
    progress: &Progress,
) -> Result<Option<String>, Failure> {
    let (path, Some((kind, name))) = (path(shelf, file)?, file.object()) else { return Ok(None) };
    if folder.size(&path)? == Some(file.size) {
        return Ok(None);
    }
    let content = repository.read(kind, name)?;
    progress.moved(content.len() as u64);
    if sha256(&content) != file.sha256 {
        return Ok(Some(format!("{} was altered", file.name)));
    }
    folder.write(&path, &content)?;
    Ok(None)
}

/// Reads all of it back, has what is wrong brought once more, and signs the list last: a folder without one is not finished.
fn signed(
    folder: &Folder,
    list: List,
    signer: &Signer<'_>,
    progress: &Progress,
    again: impl FnOnce(&[Carried]) -> Result<(), Failure>,
) -> Result<List, Failure> {
    let damaged = drop_damaged(folder, &list, progress)?;
    if !damaged.is_empty() {
        again(&damaged)?;
        let damage = read_back(folder, &list, &damaged, progress)?;
        if !damage.is_empty() {
            return Err(Failure::Damaged(damage.into_iter().map(|(_, sentence)| sentence).collect()));
        }
    }
    let text = list.sign(signer.site, signer.key).map_err(|error| Failure::Internal(error.to_string()))?;
    folder.write(&list.shelf().list(), text.as_bytes())?;
    folder.finish()?;
    Ok(list)
}

/// Reads all of it back, and removes what is wrong: a damaged file is none.
fn drop_damaged(folder: &Folder, list: &List, progress: &Progress) -> Result<Vec<Carried>, Failure> {
    let damage = read_back(folder, list, &list.files, progress)?;
    for (file, _) in &damage {
        folder.remove(&path(&list.shelf(), file)?)?;
    }
    Ok(damage.into_iter().map(|(file, _)| file).collect())
}
