//! The signed list of what a folder carries: with it, whoever has the site's public key knows that nothing is missing.

use serde::{Deserialize, Serialize};

use super::{folder::Shelf, order, points::Keys};
use crate::api::epoch::{Epoch, PointRef};
use crate::trust::{
    envelope::{Envelope, Purpose},
    signing::SiteKey,
};

/// Version of the format.
pub const VERSION: i64 = 1;

/// The list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct List {
    /// `VERSION` of the author.
    pub version: i64,
    /// Namespace of the embassy.
    pub namespace: String,
    /// Name of the embassy.
    pub embassy: String,
    /// The epoch that all of it belongs to.
    pub epoch: Epoch,
    /// The newest recovery point in it; none for a first copy, whose pieces the next copy commits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<PointRef>,
    /// The files.
    pub files: Vec<Carried>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// Such as `data/<sha256>`, `config`, `points/7` or `order`.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// In hex.
    pub sha256: String,
}

impl Carried {
    /// Kind and name of an object of the repository, as a vault knows it; none for a manifest, or the order.
    #[must_use]
    pub fn object(&self) -> Option<(&str, &str)> {
        match self.name.split_once('/') {
            None if self.name == order::NAME => None,
            None => Some((self.name.as_str(), self.name.as_str())),
            Some(("points", _)) => None,
            Some(parts) => Some(parts),
        }
    }

    /// Sequence of a manifest.
    #[must_use]
    pub fn sequence(&self) -> Option<i64> {
        self.name.strip_prefix("points/")?.parse().ok()
    }

    /// Whether a name that is a SHA-256 is that of the content.
    fn is_consistent(&self) -> bool {
        match self.object() {
            Some(("config", _)) | None => true,
            Some((_, name)) => name == self.sha256,
        }
    }
}

impl List {
    /// Whose it is.
    #[must_use]
    pub fn shelf(&self) -> Shelf {
        Shelf { namespace: self.namespace.clone(), embassy: self.embassy.clone(), epoch: self.epoch.clone() }
    }

    /// The text that is stored.
    pub fn sign(&self, site: &str, key: &SiteKey) -> Result<String, serde_json::Error> {
        Ok(Envelope::sign(key, site, Purpose::Carried, serde_json::to_string(self)?).to_text())
    }

    /// What a text says, and which site says so. With `keys` only what one of them signed is believed.
    pub fn open(text: &str, shelf: &Shelf, keys: Option<Keys<'_>>) -> Result<(Self, String), String> {
        let envelope = Envelope::parse(text).map_err(|error| error.to_string())?;
        let author = envelope.author.clone();
        let payload = match keys {
            None => envelope.payload.as_str(),
            Some(keys) => {
                let key = keys(&author).ok_or_else(|| {
                    format!(
                        "it says that site '{author}' signed it, and the key of that site is not known here: apply a Site of \
                         that name and wait until its key is pinned, or give --key"
                    )
                })?;
                envelope.open(&key, &author, Purpose::Carried).map_err(|error| error.to_string())?
            }
        };
        let list: Self = serde_json::from_str(payload).map_err(|error| {
            format!("it cannot be read ({error}): another version of this program wrote it")
        })?;
        if list.version != VERSION {
            return Err(format!("it has version {}, and this program reads version {VERSION}", list.version));
        }
        if list.shelf() != *shelf {
            return Err(format!(
                "it was signed for {} in epoch {}, and lies where that of {} in epoch {} belongs",
                list.shelf().whose(),
                list.epoch,
                shelf.whose(),
                shelf.epoch
            ));
        }
        match list.files.iter().find(|file| !file.is_consistent() || shelf.path(&file.name).is_none()) {
            Some(file) => Err(format!("it names '{}', which is no file of a vault", file.name)),
            None => Ok((list, author)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> List {
        let name = "ab".repeat(32);
        List {
            version: VERSION,
            namespace: "ns".to_owned(),
            embassy: "land".to_owned(),
            epoch: "1/tallinn".parse().unwrap(),
            point: None,
            files: vec![Carried { name: format!("data/{name}"), size: 1, sha256: name }],
        }
    }

    #[test]
    fn only_the_pinned_key_is_believed_and_only_in_its_place() {
        let key = SiteKey::generate().unwrap();
        let text = list().sign("tallinn", &key).unwrap();
        let (pinned, shelf) = (key.public(), list().shelf());
        let keys = |site: &str| (site == "tallinn").then(|| pinned.clone());
        assert_eq!(List::open(&text, &shelf, Some(&keys)), Ok((list(), "tallinn".to_owned())));
        let other = SiteKey::generate().unwrap().public();
        let error = List::open(&text, &shelf, Some(&|_: &str| Some(other.clone()))).unwrap_err();
        assert!(error.contains("not signed by the pinned key"), "{error}");
        let error = List::open(&text, &shelf, Some(&|_: &str| None)).unwrap_err();
        assert!(error.contains("--key"), "{error}");
        let moved = Shelf { embassy: "business".to_owned(), ..shelf.clone() };
        let error = List::open(&text, &moved, Some(&keys)).unwrap_err();
        assert!(error.contains("signed for ns/land"), "{error}");
        assert!(List::open(&text, &shelf, None).is_ok(), "without keys its words are taken");
    }

    #[test]
    fn a_list_of_other_files_is_refused() {
        let key = SiteKey::generate().unwrap();
        for name in ["../../etc/passwd", "keys/ab", "points/../x"] {
            let mut bad = list();
            bad.files[0].name = name.to_owned();
            let error = List::open(&bad.sign("tallinn", &key).unwrap(), &bad.shelf(), None).unwrap_err();
            assert!(error.contains("no file of a vault"), "{error}");
        }
        let mut bad = list();
        bad.files[0].sha256 = "00".repeat(32);
        let error = List::open(&bad.sign("tallinn", &key).unwrap(), &bad.shelf(), None).unwrap_err();
        assert!(error.contains("no file of a vault"), "{error}");
    }
}
