//! Signed documents: who says what, and for which purpose.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::signing::{PublicKey, SiteKey};

/// First of the signed bytes: a signature made for anything else never fits an envelope.
const DOMAIN: &[u8] = b"dataembassy.io/envelope/v1";

/// What a document is for. One signed for one purpose is worth nothing for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// A letter between sites.
    Mail,
    /// The commitment of a recovery point.
    Manifest,
    /// An order to a vault to give recovery points up.
    Thinning,
    /// The list of what is carried by hand.
    Carried,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mail => "Mail",
            Self::Manifest => "Manifest",
            Self::Thinning => "Thinning",
            Self::Carried => "Carried",
        })
    }
}

/// A signed document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The site that signed it.
    pub author: String,
    /// What it is for.
    pub purpose: Purpose,
    /// JSON, as text: what was signed is exactly these characters.
    pub payload: String,
    /// ed25519, in base64.
    pub signature: String,
}

/// Why a document is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It is no envelope at all.
    #[error("the document is no signed envelope ({0}): it was damaged or never one")]
    Unreadable(String),
    /// It names another site.
    #[error(
        "the document is by site '{found}' where one by '{expected}' was expected: it was moved or replayed"
    )]
    WrongAuthor {
        /// Who should have written it.
        expected: String,
        /// Who it says wrote it.
        found: String,
    },
    /// It was signed for something else.
    #[error("the document was signed as {found} where {expected} was expected: it was moved or replayed")]
    WrongPurpose {
        /// What it should be for.
        expected: Purpose,
        /// What it says it is for.
        found: Purpose,
    },
    /// The pinned key did not sign it.
    #[error(
        "the document was not signed by the pinned key of site '{author}', or was changed afterwards: \
         if the site has a new key, compare it by another way and pin it in the Site"
    )]
    WrongSigner {
        /// Whose key is pinned.
        author: String,
    },
}

impl Envelope {
    /// Signs `payload`, which should be JSON.
    #[must_use]
    pub fn sign(key: &SiteKey, author: &str, purpose: Purpose, payload: String) -> Self {
        let signature = STANDARD.encode(key.sign(&signed_bytes(author, purpose, &payload)));
        Self { author: author.to_owned(), purpose, payload, signature }
    }

    /// Reads what `to_text` wrote.
    pub fn parse(text: &str) -> Result<Self, EnvelopeError> {
        serde_json::from_str(text).map_err(|error| EnvelopeError::Unreadable(error.to_string()))
    }

    /// The text that is stored and sent.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Four strings always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The payload, if `author` signed it for `purpose` with `key`.
    pub fn open(&self, key: &PublicKey, author: &str, purpose: Purpose) -> Result<&str, EnvelopeError> {
        if self.author != author {
            return Err(EnvelopeError::WrongAuthor {
                expected: author.to_owned(),
                found: self.author.clone(),
            });
        }
        if self.purpose != purpose {
            return Err(EnvelopeError::WrongPurpose { expected: purpose, found: self.purpose });
        }
        let bytes = signed_bytes(&self.author, self.purpose, &self.payload);
        match self.signature_bytes() {
            Some(signature) if key.verifies(&bytes, &signature) => Ok(&self.payload),
            _ => Err(EnvelopeError::WrongSigner { author: author.to_owned() }),
        }
    }

    /// SHA-256 in hex of `to_text`.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&self.to_text())
    }

    fn signature_bytes(&self) -> Option<[u8; 64]> {
        STANDARD.decode(&self.signature).ok()?.try_into().ok()
    }
}

/// SHA-256 in hex of an envelope's exact text, as received.
#[must_use]
pub fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// Each part behind its length, so that no two documents have the same signed bytes.
fn signed_bytes(author: &str, purpose: Purpose, payload: &str) -> Vec<u8> {
    let purpose = purpose.to_string();
    let mut bytes = Vec::with_capacity(DOMAIN.len() + author.len() + purpose.len() + payload.len() + 32);
    for part in [DOMAIN, author.as_bytes(), purpose.as_bytes(), payload.as_bytes()] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> (SiteKey, Envelope) {
        let key = SiteKey::generate().unwrap();
        let envelope = Envelope::sign(&key, "tallinn", Purpose::Mail, r#"{"a":1}"#.to_owned());
        (key, envelope)
    }

    #[test]
    fn opens_what_it_signed() {
        let (key, envelope) = signed();
        let read = Envelope::parse(&envelope.to_text()).unwrap();
        assert_eq!(read.open(&key.public(), "tallinn", Purpose::Mail).unwrap(), r#"{"a":1}"#);
        assert_eq!(read.digest(), digest(&envelope.to_text()));
    }

    #[test]
    fn another_signer_is_refused() {
        let (_, envelope) = signed();
        let other = SiteKey::generate().unwrap().public();
        let error = envelope.open(&other, "tallinn", Purpose::Mail).unwrap_err();
        assert!(matches!(error, EnvelopeError::WrongSigner { .. }), "{error}");
    }

    #[test]
    fn another_author_is_refused_even_if_only_the_name_was_changed() {
        let (key, mut envelope) = signed();
        let error = envelope.open(&key.public(), "riga", Purpose::Mail).unwrap_err();
        assert!(matches!(error, EnvelopeError::WrongAuthor { .. }), "{error}");
        envelope.author = "riga".to_owned();
        let error = envelope.open(&key.public(), "riga", Purpose::Mail).unwrap_err();
        assert!(matches!(error, EnvelopeError::WrongSigner { .. }), "{error}");
    }

    #[test]
    fn another_purpose_is_refused_even_if_only_the_name_was_changed() {
        let (key, mut envelope) = signed();
        let error = envelope.open(&key.public(), "tallinn", Purpose::Manifest).unwrap_err();
        assert!(matches!(error, EnvelopeError::WrongPurpose { .. }), "{error}");
        envelope.purpose = Purpose::Manifest;
        let error = envelope.open(&key.public(), "tallinn", Purpose::Manifest).unwrap_err();
        assert!(matches!(error, EnvelopeError::WrongSigner { .. }), "{error}");
    }

    #[test]
    fn a_changed_payload_or_signature_is_refused() {
        let (key, envelope) = signed();
        let changed = Envelope { payload: r#"{"a":2}"#.to_owned(), ..envelope.clone() };
        let cut = Envelope { signature: "AAAA".to_owned(), ..envelope.clone() };
        let noise = Envelope { signature: "?".to_owned(), ..envelope };
        for bad in [changed, cut, noise] {
            let error = bad.open(&key.public(), "tallinn", Purpose::Mail).unwrap_err();
            assert!(matches!(error, EnvelopeError::WrongSigner { .. }), "{error}");
        }
    }

    #[test]
    fn moving_characters_between_parts_changes_the_signed_bytes() {
        assert_ne!(signed_bytes("ab", Purpose::Mail, "c"), signed_bytes("a", Purpose::Mail, "bc"));
    }

    #[test]
    fn unknown_fields_are_refused() {
        let (_, envelope) = signed();
        let text = envelope.to_text().replacen('{', r#"{"extra":1,"#, 1);
        assert!(matches!(Envelope::parse(&text), Err(EnvelopeError::Unreadable(_))));
    }
}
