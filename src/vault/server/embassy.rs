//! One embassy's folder in the store: its owner, how full it is, how far its mail goes.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Mutex, watch};

use crate::trust::identity::is_site_name;
use crate::vault::protocol::StoredEmbassy;

use super::{
    disk::{Workshop, make_folders, names_in, size_of},
    metrics::Metrics,
    refusal::Refusal,
    route::{Place, Slug, is_label},
};

/// File with the owner's name.
const OWNER: &str = "owner";

/// One embassy that is stored here.
pub struct Embassy {
    /// The site it belongs to, for ever.
    pub owner: String,
    folder: PathBuf,
    used: AtomicU64,
    /// Sequence of the last letter by author; readers wait on it.
    pub letters: watch::Sender<BTreeMap<String, i64>>,
    /// Held by whoever appends a letter.
    pub posting: Mutex<()>,
    /// Held while a point is committed, and while bytes are freed: nothing may begin to need what goes.
    pub committing: std::sync::Mutex<()>,
    /// Held by whoever replaces a damaged object.
    pub mending: Mutex<()>,
}

impl Embassy {
    fn load(folder: PathBuf) -> io::Result<Self> {
        let owner = fs::read_to_string(folder.join(OWNER))?;
        if !is_site_name(&owner) {
            let text = format!("{} names no site", folder.join(OWNER).display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let used = ["repo", "points", "mail", "thinnings"]
            .iter()
            .try_fold(0, |sum, area| Ok::<u64, io::Error>(sum + size_of(&folder.join(area))?))?;
        let letters = watch::Sender::new(last_letters(&folder.join("mail"))?);
        Ok(Self {
            owner,
            folder,
            used: AtomicU64::new(used),
            letters,
            posting: Mutex::new(()),
            committing: std::sync::Mutex::default(),
            mending: Mutex::new(()),
        })
    }

    /// Bytes stored and being stored.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Folder of a repository.
    #[must_use]
    pub fn repository(&self, slug: &Slug) -> PathBuf {
        self.folder.join("repo").join(slug.text())
    }

    /// Where a damaged object is kept that another one took the place of. Not counted as used: it is the vault's own affair.
    #[must_use]
    pub fn aside(&self, slug: &Slug, object: &str) -> PathBuf {
        self.folder.join("damaged").join(format!("{}-{object}", slug.text()))
    }

    /// Folder of all manifests.
    #[must_use]
    pub fn points(&self) -> PathBuf {
        self.folder.join("points")
    }

    /// File of one manifest.
    #[must_use]
    pub fn point(&self, slug: &Slug, sequence: i64) -> PathBuf {
        self.points().join(slug.text()).join(format!("{sequence}.json"))
    }

    /// File of one letter.
    #[must_use]
    pub fn letter(&self, author: &str, sequence: i64) -> PathBuf {
        self.folder.join("mail").join(author).join(format!("{sequence}.json"))
    }

    /// Folder of all repositories.
    #[must_use]
    pub fn repositories(&self) -> PathBuf {
        self.folder.join("repo")
    }

    /// Folder of the orders to give points up.
    #[must_use]
    pub fn thinnings(&self) -> PathBuf {
        self.folder.join("thinnings")
    }

    /// Folder of the lists of what was seen when for the first time.
    #[must_use]
    pub fn seen(&self) -> PathBuf {
        self.folder.join("seen")
    }

    /// File of what a repository is about to lose.
    #[must_use]
    pub fn condemned(&self, slug: &str) -> PathBuf {
        self.folder.join("condemned").join(format!("{slug}.json"))
    }

    /// Folder of the lists of what was freed.
    #[must_use]
    pub fn freed(&self) -> PathBuf {
        self.folder.join("freed")
    }

    /// Gives back the space of what was freed.
    pub fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Sequence of the author's last letter; 0 if there is none.
    #[must_use]
    pub fn last_letter(&self, author: &str) -> i64 {
        self.letters.borrow().get(author).copied().unwrap_or(0)
    }
}

/// Space in an embassy, given back unless it is kept.
pub struct Reservation {
    embassy: Arc<Embassy>,
    limit: Option<u64>,
    bytes: u64,
}

impl Reservation {
    /// Nothing yet, within `limit` bytes for the whole embassy.
    #[must_use]
    pub fn new(embassy: &Arc<Embassy>, limit: Option<u64>) -> Self {
        Self { embassy: Arc::clone(embassy), limit, bytes: 0 }
    }

    /// Takes that much more.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Refusal> {
        let before = self.embassy.used.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        match self.limit {
            Some(limit) if before.saturating_add(bytes) > limit => Err(Refusal::QuotaExceeded(limit)),
            _ => Ok(()),
        }
    }

    /// The bytes are on disk.
    pub fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.embassy.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// All embassies that are stored here.
pub struct Embassies {
    folder: PathBuf,
    known: RwLock<HashMap<Place, Arc<Embassy>>>,
}

impl Embassies {
    /// Reads and counts what is stored.
    pub fn load(folder: PathBuf, metrics: &Metrics) -> io::Result<Self> {
        make_folders(&folder)?;
        let mut known = HashMap::new();
        for namespace in labels_in(&folder)? {
            for name in labels_in(&folder.join(&namespace))? {
                let path = folder.join(&namespace).join(&name);
                let place = Place { namespace: namespace.clone(), name };
                // A stop between making the folder and writing its owner leaves an empty one.
                if path.join(OWNER).exists() {
                    let embassy = Arc::new(Embassy::load(path)?);
                    metrics.stored(&place, embassy.used());
                    known.insert(place, embassy);
                }
            }
        }
        Ok(Self { folder, known: RwLock::new(known) })
    }

    /// The embassy, if anything was ever stored for it.
    #[must_use]
    pub fn get(&self, place: &Place) -> Option<Arc<Embassy>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(place).cloned()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<(Place, Arc<Embassy>)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(place, embassy)| (place.clone(), Arc::clone(embassy))).collect()
    }

    /// All of them, as their operators see them.
    #[must_use]
    pub fn list(&self) -> Vec<StoredEmbassy> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let stored = |(place, embassy): (&Place, &Arc<Embassy>)| StoredEmbassy {
            namespace: place.namespace.clone(),
            name: place.name.clone(),
            owner: embassy.owner.clone(),
        };
        known.iter().map(stored).collect()
    }

    /// The embassy; `owner` owns it if it is new. Blocking.
    pub fn get_or_create(&self, place: &Place, owner: &str, workshop: &Workshop) -> io::Result<Arc<Embassy>> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(embassy) = known.get(place) {
            return Ok(Arc::clone(embassy));
        }
        let folder = self.folder.join(&place.namespace).join(&place.name);
        workshop.create(&folder.join(OWNER), owner.as_bytes())?;
        let embassy = Arc::new(Embassy::load(folder)?);
        known.insert(place.clone(), Arc::clone(&embassy));
        Ok(embassy)
    }
}

fn labels_in(folder: &Path) -> io::Result<Vec<String>> {
    let names = names_in(folder)?;
    Ok(names.into_iter().filter(|name| is_label(name) && folder.join(name).is_dir()).collect())
}

fn last_letters(folder: &Path) -> io::Result<BTreeMap<String, i64>> {
    let mut letters = BTreeMap::new();
    for author in names_in(folder)?.into_iter().filter(|name| is_site_name(name)) {
        let names = names_in(&folder.join(&author))?;
        let last = names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).max();
        letters.insert(author, last.unwrap_or(0));
    }
    Ok(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embassies(root: &Path) -> (Embassies, Workshop) {
        let workshop = Workshop::open(root.join("tmp")).unwrap();
        (Embassies::load(root.join("embassies"), &Metrics::default()).unwrap(), workshop)
    }

    fn place() -> Place {
        Place { namespace: "ns".to_owned(), name: "register".to_owned() }
    }

    #[test]
    fn the_first_owner_stays() {
        let root = tempfile::tempdir().unwrap();
        let (store, workshop) = embassies(root.path());
        assert!(store.get(&place()).is_none());
        store.get_or_create(&place(), "tallinn", &workshop).unwrap();
        assert_eq!(store.get_or_create(&place(), "riga", &workshop).unwrap().owner, "tallinn");
        let (store, _) = embassies(root.path());
        assert_eq!(store.get(&place()).unwrap().owner, "tallinn");
    }

    #[test]
    fn space_is_given_back_unless_kept() {
        let root = tempfile::tempdir().unwrap();
        let (store, workshop) = embassies(root.path());
        let embassy = store.get_or_create(&place(), "tallinn", &workshop).unwrap();
        let mut kept = Reservation::new(&embassy, Some(10));
        kept.grow(6).unwrap();
        let mut refused = Reservation::new(&embassy, Some(10));
        refused.grow(4).unwrap();
        assert_eq!(refused.grow(1).unwrap_err().reason(), "QuotaExceeded");
        drop(refused);
        kept.keep();
        assert_eq!(embassy.used(), 6);
    }

    #[test]
    fn mail_and_bytes_are_counted_at_start() {
        let root = tempfile::tempdir().unwrap();
        let (store, workshop) = embassies(root.path());
        let embassy = store.get_or_create(&place(), "tallinn", &workshop).unwrap();
        for sequence in [1, 2, 10] {
            workshop.create(&embassy.letter("tallinn", sequence), b"letter").unwrap();
        }
        let (store, _) = embassies(root.path());
        let embassy = store.get(&place()).unwrap();
        assert_eq!((embassy.last_letter("tallinn"), embassy.last_letter("riga")), (10, 0));
        assert_eq!(embassy.used(), 18);
    }
}
