//! The keys of an embassy's repositories, in a file that people keep: sealed to whom they choose, useless to anybody else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::epoch::Epoch;
use crate::trust::sealing::{SealingError, SiteIdentity, open, seal};

/// Version of the file; a reader that does not know it says so.
const VERSION: i64 = 1;

/// The keys.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyFile {
    version: i64,
    /// Namespace of the embassy.
    pub namespace: String,
    /// Its name.
    pub embassy: String,
    /// By epoch, each as its Secret holds it.
    pub keys: BTreeMap<Epoch, String>,
}

/// Why a file of keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// It was not sealed, or does not open.
    #[error(transparent)]
    Seal(#[from] SealingError),
    /// What is in it is no such file.
    #[error(
        "what the seal holds is no file of keys ({0}): take the one that kubectl embassy keys export wrote"
    )]
    Content(String),
    /// A later version wrote it.
    #[error(
        "the file of keys has version {0}, which this program does not know: take a newer kubectl-embassy"
    )]
    Version(i64),
    /// It belongs to something else.
    #[error("the file holds keys of {0}/{1}: take the file of this embassy")]
    OtherEmbassy(String, String),
    /// No identity is there.
    #[error("the identity file has no line that begins with AGE-SECRET-KEY-1: age-keygen makes one")]
    NoIdentity,
}

impl KeyFile {
    /// The keys of an embassy.
    #[must_use]
    pub fn new(namespace: &str, embassy: &str, keys: BTreeMap<Epoch, String>) -> Self {
        Self { version: VERSION, namespace: namespace.to_owned(), embassy: embassy.to_owned(), keys }
    }

    /// An armored text that each of the recipients alone can open.
    pub fn sealed(&self, recipients: &[&str]) -> Result<String, KeyFileError> {
        let text = serde_json::to_vec(self).map_err(|error| KeyFileError::Content(error.to_string()))?;
        Ok(seal(&text, recipients)?)
    }

    /// Opens the file of that embassy with the first of these identities that fits.
    pub fn opened(
        armored: &str,
        identities: &[SiteIdentity],
        namespace: &str,
        embassy: &str,
    ) -> Result<Self, KeyFileError> {
        let mut opened = Err(KeyFileError::NoIdentity);
        for identity in identities {
            opened = open(identity, armored).map_err(KeyFileError::from);
            if opened.is_ok() {
                break;
            }
        }
        let text = opened?;
        let content = |error: serde_json::Error| KeyFileError::Content(error.to_string());
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(content)?;
        match value.get("version").and_then(serde_json::Value::as_i64) {
            Some(version) if version > VERSION => return Err(KeyFileError::Version(version)),
            _ => {}
        }
        let file: Self = serde_json::from_value(value).map_err(content)?;
        if (file.namespace.as_str(), file.embassy.as_str()) != (namespace, embassy) {
            return Err(KeyFileError::OtherEmbassy(file.namespace, file.embassy));
        }
        Ok(file)
    }
}

/// The identities in a file of `age-keygen`: its comments do not matter.
pub fn identities(text: &str) -> Result<Vec<SiteIdentity>, KeyFileError> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("AGE-SECRET-KEY-1"));
    let found = lines.map(str::parse).collect::<Result<Vec<SiteIdentity>, SealingError>>()?;
    if found.is_empty() { Err(KeyFileError::NoIdentity) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> KeyFile {
        KeyFile::new("registers", "land", BTreeMap::from([(Epoch::new(1, "tallinn"), "secret".to_owned())]))
    }

    #[test]
    fn whoever_it_is_sealed_for_opens_it_and_finds_all_keys() {
        let (person, stranger) = (SiteIdentity::generate(), SiteIdentity::generate());
        let sealed = file().sealed(&[&person.recipient()]).unwrap();
        assert!(!sealed.contains("secret"));
        let both = [stranger.clone(), person];
        assert!(KeyFile::opened(&sealed, &both, "registers", "land").unwrap() == file());
        assert!(matches!(
            KeyFile::opened(&sealed, &[stranger], "registers", "land"),
            Err(KeyFileError::Seal(SealingError::Open(_)))
        ));
    }

    #[test]
    fn the_file_of_another_embassy_and_a_later_version_are_refused_by_name() {
        let person = SiteIdentity::generate();
        let sealed = file().sealed(&[&person.recipient()]).unwrap();
        let Err(error) = KeyFile::opened(&sealed, std::slice::from_ref(&person), "registers", "tax") else {
            panic!()
        };
        assert!(error.to_string().contains("registers/land"), "{error}");
        let later = KeyFile { version: 2, ..file() }.sealed(&[&person.recipient()]).unwrap();
        let Err(error) = KeyFile::opened(&later, &[person], "registers", "land") else { panic!() };
        assert_eq!(error, KeyFileError::Version(2));
    }

    #[test]
    fn a_file_of_identities_is_read_with_its_comments() {
        let one = SiteIdentity::generate();
        let text =
            format!("# created: today\n# public key: {}\n{}\n", one.recipient(), *one.to_secret_text());
        assert_eq!(identities(&text).unwrap()[0].recipient(), one.recipient());
        assert!(matches!(identities("# nothing"), Err(KeyFileError::NoIdentity)));
        assert!(identities("AGE-SECRET-KEY-1BROKEN").is_err());
    }
}
