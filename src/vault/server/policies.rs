//! What each foreign site may store here, kept durably.

use std::{
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    sync::{PoisonError, RwLock},
};

use crate::trust::identity::is_site_name;
use crate::vault::protocol::Policy;

use super::disk::{Workshop, make_folders, names_in};

/// All policies, by site.
pub struct Policies {
    folder: PathBuf,
    known: RwLock<BTreeMap<String, Policy>>,
}

impl Policies {
    /// Reads what is stored.
    pub fn load(folder: PathBuf) -> io::Result<Self> {
        make_folders(&folder)?;
        let mut known = BTreeMap::new();
        for name in names_in(&folder)? {
            if let Some(site) = name.strip_suffix(".json").filter(|site| is_site_name(site)) {
                let text = fs::read(folder.join(&name))?;
                known.insert(site.to_owned(), serde_json::from_slice(&text)?);
            }
        }
        Ok(Self { folder, known: RwLock::new(known) })
    }

    /// The site's policy.
    #[must_use]
    pub fn get(&self, site: &str) -> Option<Policy> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(site).cloned()
    }

    /// Sites that may have embassies in the namespace.
    #[must_use]
    pub fn hosted_in(&self, namespace: &str) -> Vec<String> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let hosted = known.iter().filter(|(_, policy)| policy.namespaces.iter().any(|n| n == namespace));
        hosted.map(|(site, _)| site.clone()).collect()
    }

    /// Replaces the site's policy. Blocking; an equal one is not written again.
    pub fn set(&self, site: &str, policy: Policy, workshop: &Workshop) -> io::Result<()> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.get(site) != Some(&policy) {
            workshop.replace(&self.folder.join(format!("{site}.json")), &serde_json::to_vec(&policy)?)?;
            known.insert(site.to_owned(), policy);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_survive_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let workshop = Workshop::open(root.path().join("tmp")).unwrap();
        let policy =
            |quota_bytes| Policy { namespaces: vec!["ns".to_owned()], quota_bytes, public_key: None };
        let policies = Policies::load(root.path().join("policies")).unwrap();
        policies.set("tallinn", policy(1), &workshop).unwrap();
        policies.set("tallinn", policy(2), &workshop).unwrap();
        let policies = Policies::load(root.path().join("policies")).unwrap();
        assert_eq!(policies.get("tallinn"), Some(policy(2)));
        assert_eq!(policies.get("riga"), None);
        assert_eq!(policies.hosted_in("ns"), ["tallinn"]);
        assert!(policies.hosted_in("other").is_empty());
    }
}
