//! Reads a folder back, without any cluster: one sentence for each file that is not what the signed list says.

use std::{collections::BTreeMap, path::PathBuf};

use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};

use super::{
    Progress,
    failure::Failure,
    folder::{Folder, Shelf, sha256},
    list::{Carried, List},
    needs,
    order::{self, Order, kept},
    points::{Keys, genuine},
    pool,
};
use crate::plan::manifest::Manifest;

/// What a folder carries of one epoch.
#[derive(Debug)]
pub struct Checked {
    /// The list.
    pub list: List,
    /// The site that signed it.
    pub author: String,
    /// A sentence for each wrong file.
    pub damage: Vec<String>,
}

/// Reads all of it. Without keys the signatures are not checked: accidents are found, and forgeries are not.
pub fn check(
    folder: &Folder,
    shelf: &Shelf,
    keys: Option<Keys<'_>>,
    progress: &Progress,
) -> Result<Checked, Failure> {
    let (list, author) = open(folder, shelf, keys)?;
    let damage = read_back(folder, &list, &list.files, progress)?;
    let damage: Vec<String> = damage.into_iter().map(|(_, sentence)| sentence).collect();
    if damage.is_empty() {
        contents(folder, &list, keys)?;
    }
    Ok(Checked { list, author, damage })
}

/// The list, if it is to be believed.
pub(super) fn open(
    folder: &Folder,
    shelf: &Shelf,
    keys: Option<Keys<'_>>,
) -> Result<(List, String), Failure> {
    let path = shelf.list();
    let refused = |why: String| Failure::List { path: folder.root().join(&path), why };
    let text = String::from_utf8(folder.read(&path)?).map_err(|_| refused("it is damaged".to_owned()))?;
    let (list, author) = List::open(&text, shelf, keys).map_err(refused)?;
    if list.point.is_none() && author != list.epoch.site {
        let why =
            format!("a first copy of epoch {} is signed by its site, and not by '{author}'", list.epoch);
        return Err(refused(why));
    }
    Ok((list, author))
}

/// Those of `files` that are not what the list says, each with a sentence.
pub(super) fn read_back(
    folder: &Folder,
    list: &List,
    files: &[Carried],
    progress: &Progress,
) -> Result<Vec<(Carried, String)>, Failure> {
    let shelf = list.shelf();
    progress.begin(files.len() as u64, files.iter().map(|file| file.size).sum());
    pool()?.install(|| {
        let all = files.par_iter().map(|file| {
            let found = wrong(folder, &shelf, file, true)?;
            progress.done(file.size);
            Ok(found.map(|sentence| (file.clone(), sentence)))
        });
        let found: Result<Vec<Option<(Carried, String)>>, Failure> = all.collect();
        Ok(found?.into_iter().flatten().collect())
    })
}

/// How a file is wrong, if it is. Its content is read only where that is asked for.
pub(super) fn wrong(
    folder: &Folder,
    shelf: &Shelf,
    file: &Carried,
    whole: bool,
) -> Result<Option<String>, Failure> {
    let path = path(shelf, file)?;
    let shown = path.display();
    let size = match folder.size(&path) {
        Ok(None) => return Ok(Some(format!("{shown} is missing"))),
        Ok(Some(size)) => size,
        Err(Failure::Disk { source, .. }) => return Ok(Some(format!("{shown} cannot be read ({source})"))),
        Err(failure) => return Err(failure),
    };
    if size != file.size {
        return Ok(Some(format!("{shown} has {size} bytes instead of {}", file.size)));
    }
    if !whole {
        return Ok(None);
    }
    match folder.digest(&path) {
        Ok(digest) if digest == file.sha256 => Ok(None),
        Ok(_) => Ok(Some(format!("{shown} was altered: its SHA-256 is another one"))),
        Err(Failure::Disk { source, .. }) => Ok(Some(format!("{shown} cannot be read ({source})"))),
        Err(failure) => Err(failure),
    }
}

/// The manifests, if they are genuine and the list has all that they need.
pub(super) fn contents(
    folder: &Folder,
    list: &List,
    keys: Option<Keys<'_>>,
) -> Result<BTreeMap<i64, String>, Failure> {
    let shelf = list.shelf();
    let mut texts = BTreeMap::new();
    for file in &list.files {
        let Some(sequence) = file.sequence() else { continue };
        let text = String::from_utf8_lossy(&folder.read(&path(&shelf, file)?)?).into_owned();
        texts.insert(sequence, text);
    }
    let manifests = genuine(&shelf, &texts, keys)?;
    let refused = |why: String| Failure::List { path: folder.root().join(shelf.list()), why };
    let order = carried_order(folder, list, keys)?;
    if manifests.last().map(|manifest| &manifest.point) != list.point.as_ref() {
        return Err(refused("it does not name the newest of its recovery points".to_owned()));
    }
    match missing(folder, list, &kept(&manifests, order.as_ref()))? {
        None => Ok(texts),
        Some(name) => Err(refused(format!("its recovery points need {name}, which it does not name"))),
    }
}

/// The order that came with the points, if there is one.
pub(super) fn carried_order(
    folder: &Folder,
    list: &List,
    keys: Option<Keys<'_>>,
) -> Result<Option<Order>, Failure> {
    let shelf = list.shelf();
    let Some(file) = list.files.iter().find(|file| file.name == order::NAME) else { return Ok(None) };
    let path = path(&shelf, file)?;
    let text = String::from_utf8_lossy(&folder.read(&path)?).into_owned();
    let refused = |why| Failure::List { path: folder.root().join(&path), why };
    Order::open(text, &shelf, keys).map(Some).map_err(refused)
}

fn missing(folder: &Folder, list: &List, manifests: &[&Manifest]) -> Result<Option<String>, Failure> {
    let shelf = list.shelf();
    let listed: BTreeMap<&str, &Carried> = list.files.iter().map(|file| (file.name.as_str(), file)).collect();
    let needs = needs::of(manifests.iter().copied(), |name| {
        let name = format!("{}/{name}", crate::vault::inventory::KIND);
        listed.get(name.as_str()).map(|file| folder.read(&path(&shelf, file)?)).transpose()
    })?;
    let config = listed.get("config").map(|config| config.sha256.clone());
    if let Some(wanted) = needs.configs.iter().find(|wanted| config.as_ref() != Some(*wanted)) {
        return Ok(Some(format!("a configuration with SHA-256 {wanted}")));
    }
    Ok(needs.objects.into_iter().find(|name| !listed.contains_key(name.as_str())))
}

/// Where a file of a list lies. A list names no other files: it was not taken otherwise.
pub(super) fn path(shelf: &Shelf, file: &Carried) -> Result<PathBuf, Failure> {
    shelf.path(&file.name).ok_or_else(|| Failure::Internal(format!("'{}' is no file of a vault", file.name)))
}

/// A file with its content, as the list will have it.
pub(super) fn carried(name: String, content: &[u8]) -> Carried {
    Carried { name, size: content.len() as u64, sha256: sha256(content) }
}
