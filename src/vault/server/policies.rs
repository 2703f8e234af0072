//! What each foreign site may store here, kept durably.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use crate::trust::identity::is_site_name;
use crate::vault::protocol::Policy;

use super::store::Store;

/// Folder of the policies.
const FOLDER: &str = "policies";
/// Another vault's change of a policy in the same store counts here after so long at most.
const FRESH: Duration = Duration::from_secs(2);

/// All policies, by site.
pub struct Policies {
    store: Arc<dyn Store>,
    known: RwLock<(BTreeMap<String, Policy>, Instant)>,
    /// Held by whoever sets one; nobody else waits for the store.
    setting: Mutex<()>,
}

impl Policies {
    /// Reads what is stored.
    pub fn load(store: Arc<dyn Store>) -> io::Result<Self> {
        let known = read(&*store)?;
        Ok(Self { store, known: RwLock::new((known, Instant::now())), setting: Mutex::default() })
    }

    /// Whether another vault may have changed them meanwhile.
    #[must_use]
    pub fn are_stale(&self) -> bool {
        let read_at = self.known.read().unwrap_or_else(PoisonError::into_inner).1;
        self.store.is_shared() && read_at.elapsed() >= FRESH
    }

    /// Reads them again. Blocking.
    pub fn refresh(&self) -> io::Result<()> {
        let now = Instant::now();
        let known = read(&*self.store)?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = (known, now);
        Ok(())
    }

    /// The site's policy.
    #[must_use]
    pub fn get(&self, site: &str) -> Option<Policy> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).0.get(site).cloned()
    }

    /// Sites that may have embassies in the namespace.
    #[must_use]
    pub fn hosted_in(&self, namespace: &str) -> Vec<String> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let hosted = known.0.iter().filter(|(_, policy)| policy.namespaces.iter().any(|n| n == namespace));
        hosted.map(|(site, _)| site.clone()).collect()
    }

    /// Replaces the site's policy. Blocking; an equal one is not written again.
    pub fn set(&self, site: &str, policy: Policy) -> io::Result<()> {
        let _setting = self.setting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.get(site).as_ref() != Some(&policy) {
            self.store.replace(&format!("{FOLDER}/{site}.json"), &serde_json::to_vec(&policy)?)?;
            self.known.write().unwrap_or_else(PoisonError::into_inner).0.insert(site.to_owned(), policy);
        }
        Ok(())
    }
}

fn read(store: &dyn Store) -> io::Result<BTreeMap<String, Policy>> {
    let mut known = BTreeMap::new();
    for entry in store.list(FOLDER)? {
        if let Some(site) = entry.name.strip_suffix(".json").filter(|site| is_site_name(site)) {
            let text = store.read(&format!("{FOLDER}/{}", entry.name))?;
            known.insert(site.to_owned(), serde_json::from_slice(&text)?);
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::server::directory::Directory;

    #[test]
    fn policies_survive_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Directory::open(root.path()).unwrap());
        let policy =
            |quota_bytes| Policy { namespaces: vec!["ns".to_owned()], quota_bytes, public_key: None };
        let policies = Policies::load(Arc::clone(&store)).unwrap();
        policies.set("tallinn", policy(1)).unwrap();
        policies.set("tallinn", policy(2)).unwrap();
        let policies = Policies::load(store).unwrap();
        assert_eq!(policies.get("tallinn"), Some(policy(2)));
        assert_eq!(policies.get("riga"), None);
        assert_eq!(policies.hosted_in("ns"), ["tallinn"]);
        assert!(policies.hosted_in("other").is_empty());
    }
}
