//! One embassy's folder in the store: its owner, how full it is, how far its mail goes.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Mutex, watch};

use crate::trust::identity::is_site_name;
use crate::vault::protocol::StoredEmbassy;

use super::{
    metrics::Metrics,
    refusal::Refusal,
    route::{Place, Slug, is_label},
    store::{Store, exists, numbers_below},
};

/// Folder of all of them.
const FOLDER: &str = "embassies";
/// Object with the owner's name.
const OWNER: &str = "owner";

/// One embassy that is stored here.
pub struct Embassy {
    /// The site it belongs to, for ever.
    pub owner: String,
    store: Arc<dyn Store>,
    folder: String,
    /// Bytes that are stored.
    stored: AtomicU64,
    /// Bytes on their way.
    reserved: AtomicU64,
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
    fn load(store: Arc<dyn Store>, folder: String) -> io::Result<Self> {
        let text = store.read(&format!("{folder}/{OWNER}"))?;
        let owner = String::from_utf8(text).ok().filter(|owner| is_site_name(owner)).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{folder}/{OWNER} names no site"))
        })?;
        let stored = AtomicU64::new(stored_below(&*store, &folder)?);
        let letters = watch::Sender::new(last_letters(&*store, &format!("{folder}/mail"))?);
        Ok(Self {
            owner,
            store,
            folder,
            stored,
            reserved: AtomicU64::new(0),
            letters,
            posting: Mutex::new(()),
            committing: std::sync::Mutex::default(),
            mending: Mutex::new(()),
        })
    }

    /// Bytes stored and being stored.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.stored.load(Ordering::Relaxed).saturating_add(self.reserved.load(Ordering::Relaxed))
    }

    /// Counts what is stored again, since other vaults that share the store do not say what they take. Blocking.
    pub fn recount(&self) -> io::Result<()> {
        self.stored.store(stored_below(&*self.store, &self.folder)?, Ordering::Relaxed);
        Ok(())
    }

    /// Folder of a repository.
    #[must_use]
    pub fn repository(&self, slug: &Slug) -> String {
        format!("{}/{}", self.repositories(), slug.text())
    }

    /// Where a damaged object is kept that another one took the place of. Not counted as used: it is the vault's own affair.
    #[must_use]
    pub fn aside(&self, slug: &Slug, object: &str) -> String {
        format!("{}/damaged/{}-{object}", self.folder, slug.text())
    }

    /// Folder of all manifests.
    #[must_use]
    pub fn points(&self) -> String {
        format!("{}/points", self.folder)
    }

    /// Where one manifest lies.
    #[must_use]
    pub fn point(&self, slug: &Slug, sequence: i64) -> String {
        format!("{}/{}/{sequence}.json", self.points(), slug.text())
    }

    /// Where one letter lies.
    #[must_use]
    pub fn letter(&self, author: &str, sequence: i64) -> String {
        format!("{}/mail/{author}/{sequence}.json", self.folder)
    }

    /// Folder of all repositories.
    #[must_use]
    pub fn repositories(&self) -> String {
        format!("{}/repo", self.folder)
    }

    /// Folder of the orders to give points up.
    #[must_use]
    pub fn thinnings(&self) -> String {
        format!("{}/thinnings", self.folder)
    }

    /// Folder of the lists of what was seen when for the first time.
    #[must_use]
    pub fn seen(&self) -> String {
        format!("{}/seen", self.folder)
    }

    /// Where it says what a repository is about to lose.
    #[must_use]
    pub fn condemned(&self, slug: &str) -> String {
        format!("{}/condemned/{slug}.json", self.folder)
    }

    /// Folder of the lists of what was freed.
    #[must_use]
    pub fn freed(&self) -> String {
        format!("{}/freed", self.folder)
    }

    /// Gives back the space of what was freed.
    pub fn release(&self, bytes: u64) {
        let less = |stored: u64| Some(stored.saturating_sub(bytes));
        let _ = self.stored.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Sequence of the author's last letter; 0 if there is none.
    #[must_use]
    pub fn last_letter(&self, author: &str) -> i64 {
        self.letters.borrow().get(author).copied().unwrap_or(0)
    }

    /// Looks for letters of the author that were stored without this vault's doing. Blocking.
    pub fn look(&self, author: &str) -> io::Result<i64> {
        let known = self.last_letter(author);
        let mut last = known;
        while exists(&*self.store, &self.letter(author, last + 1))? {
            last += 1;
        }
        if last > known {
            self.note_letter(author, last);
        }
        Ok(last)
    }

    /// A letter is stored: whoever waits for it learns it now.
    pub fn note_letter(&self, author: &str, sequence: i64) {
        self.letters.send_modify(|letters| {
            let last = letters.entry(author.to_owned()).or_default();
            *last = sequence.max(*last);
        });
    }
}

/// Space in an embassy for what is on its way; given back at its end, when it counts as stored if it was kept.
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
        self.embassy.reserved.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        match self.limit {
            Some(limit) if self.embassy.used() > limit => Err(Refusal::QuotaExceeded(limit)),
            _ => Ok(()),
        }
    }

    /// The bytes are on disk.
    pub fn keep(self) {
        self.embassy.stored.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.embassy.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// All embassies that are stored here.
pub struct Embassies {
    store: Arc<dyn Store>,
    known: RwLock<HashMap<Place, Arc<Embassy>>>,
}

impl Embassies {
    /// Reads and counts what is stored.
    pub fn load(store: Arc<dyn Store>, metrics: &Metrics) -> io::Result<Self> {
        let embassies = Self { store, known: RwLock::default() };
        embassies.look()?;
        for (place, embassy) in embassies.all() {
            metrics.stored(&place, embassy.used());
        }
        Ok(embassies)
    }

    /// Reads those that were stored without this vault's doing. Blocking.
    pub fn look(&self) -> io::Result<()> {
        for namespace in labels_in(&*self.store, FOLDER)? {
            for name in labels_in(&*self.store, &format!("{FOLDER}/{namespace}"))? {
                self.find(&Place { namespace: namespace.clone(), name })?;
            }
        }
        Ok(())
    }

    /// The embassy, also if it was stored without this vault's doing. Blocking.
    pub fn find(&self, place: &Place) -> io::Result<Option<Arc<Embassy>>> {
        if let Some(embassy) = self.get(place) {
            return Ok(Some(embassy));
        }
        // A stop between making the folder and writing its owner leaves an empty one.
        if !exists(&*self.store, &format!("{}/{OWNER}", folder_of(place)))? {
            return Ok(None);
        }
        let embassy = Arc::new(Embassy::load(Arc::clone(&self.store), folder_of(place))?);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(Arc::clone(known.entry(place.clone()).or_insert(embassy))))
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
    pub fn get_or_create(&self, place: &Place, owner: &str) -> io::Result<Arc<Embassy>> {
        self.store.create(&format!("{}/{OWNER}", folder_of(place)), owner.as_bytes())?;
        self.find(place)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

fn folder_of(place: &Place) -> String {
    format!("{FOLDER}/{}/{}", place.namespace, place.name)
}

fn labels_in(store: &dyn Store, folder: &str) -> io::Result<Vec<String>> {
    Ok(store.folders(folder)?.into_iter().filter(|name| is_label(name)).collect())
}

/// Bytes that count against the quota.
fn stored_below(store: &dyn Store, folder: &str) -> io::Result<u64> {
    ["repo", "points", "mail", "thinnings"].iter().try_fold(0, |sum, area| {
        Ok(sum + store.list(&format!("{folder}/{area}"))?.iter().map(|entry| entry.size).sum::<u64>())
    })
}

fn last_letters(store: &dyn Store, folder: &str) -> io::Result<BTreeMap<String, i64>> {
    let letters = numbers_below(store, folder)?.into_iter().filter(|(author, _)| is_site_name(author));
    Ok(letters.filter_map(|(author, sequences)| Some((author, *sequences.last()?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::server::directory::Directory;

    fn store(root: &tempfile::TempDir) -> Arc<dyn Store> {
        Arc::new(Directory::open(root.path()).unwrap())
    }

    fn embassies(store: &Arc<dyn Store>) -> Embassies {
        Embassies::load(Arc::clone(store), &Metrics::default()).unwrap()
    }

    fn place() -> Place {
        Place { namespace: "ns".to_owned(), name: "register".to_owned() }
    }

    #[test]
    fn the_first_owner_stays() {
        let root = tempfile::tempdir().unwrap();
        let store = store(&root);
        let [one, other] = [embassies(&store), embassies(&store)];
        assert!(one.get(&place()).is_none());
        one.get_or_create(&place(), "tallinn").unwrap();
        for who in [&one, &other] {
            assert_eq!(who.get_or_create(&place(), "riga").unwrap().owner, "tallinn");
        }
        assert_eq!(embassies(&store).get(&place()).unwrap().owner, "tallinn");
    }

    #[test]
    fn space_is_given_back_unless_kept() {
        let root = tempfile::tempdir().unwrap();
        let embassy = embassies(&store(&root)).get_or_create(&place(), "tallinn").unwrap();
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
        let store = store(&root);
        let other = embassies(&store).get_or_create(&place(), "tallinn").unwrap();
        for sequence in [1, 2, 10] {
            store.create(&other.letter("tallinn", sequence), b"letter").unwrap();
        }
        let embassy = embassies(&store).get(&place()).unwrap();
        assert_eq!((embassy.last_letter("tallinn"), embassy.last_letter("riga")), (10, 0));
        assert_eq!(embassy.used(), 18);
        assert_eq!((other.last_letter("tallinn"), other.used()), (0, 0));
        other.recount().unwrap();
        assert_eq!((other.look("tallinn").unwrap(), other.used()), (2, 18), "10 does not follow");
    }
}
