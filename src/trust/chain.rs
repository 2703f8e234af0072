//! The mail of one site as a hash chain: a reader notices what was left out, taken back or replaced.

use serde::{Deserialize, Serialize};

use super::{
    envelope::{Envelope, EnvelopeError, Purpose, digest},
    signing::{PublicKey, SiteKey},
};

/// One letter in its place in the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Letter {
    /// From 1, without gaps.
    pub sequence: i64,
    /// Digest of the envelope before; empty for the first.
    pub previous: String,
    /// What is said.
    pub body: serde_json::Value,
}

/// How far a chain was read or written. The default is its beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainHead {
    /// Sequence of the last letter; 0 if there is none.
    pub sequence: i64,
    /// Digest of the last envelope; empty if there is none.
    pub digest: String,
}

/// Why a letter is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The envelope itself is not believed.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The envelope holds no letter.
    #[error("the signed document is no letter ({0}): its site runs a version that this one cannot read")]
    Unreadable(String),
    /// Letters are missing.
    #[error(
        "letter {found} came where {expected} was next: the letters between were left out, ask for them again"
    )]
    Gap {
        /// The next sequence.
        expected: i64,
        /// The sequence that came.
        found: i64,
    },
    /// A letter that was read already.
    #[error("letter {found} came again although {read} was read already: its store was taken back in time")]
    Rollback {
        /// The last sequence that was read.
        read: i64,
        /// The sequence that came.
        found: i64,
    },
    /// A letter that follows another history.
    #[error(
        "letter {sequence} does not follow what was read before it: its site has two histories, \
         as after a restore from an old backup"
    )]
    Fork {
        /// The sequence that came.
        sequence: i64,
    },
}

impl ChainHead {
    /// Takes the next letter of `author`.
    pub fn accept(
        &self,
        text: &str,
        key: &PublicKey,
        author: &str,
    ) -> Result<(Letter, ChainHead), ChainError> {
        let envelope = Envelope::parse(text)?;
        let payload = envelope.open(key, author, Purpose::Mail)?;
        let letter: Letter =
            serde_json::from_str(payload).map_err(|error| ChainError::Unreadable(error.to_string()))?;
        let head = ChainHead { sequence: letter.sequence, digest: digest(text) };
        self.check(&letter, &head)?;
        Ok((letter, head))
    }

    /// Writes the next letter of `author`.
    #[must_use]
    pub fn compose(&self, body: serde_json::Value, key: &SiteKey, author: &str) -> (String, ChainHead) {
        let letter = Letter { sequence: self.sequence + 1, previous: self.digest.clone(), body };
        // A value that came from JSON always serialises.
        let payload = serde_json::to_string(&letter).unwrap_or_default();
        let text = Envelope::sign(key, author, Purpose::Mail, payload).to_text();
        let head = ChainHead { sequence: letter.sequence, digest: digest(&text) };
        (text, head)
    }

    fn check(&self, letter: &Letter, head: &ChainHead) -> Result<(), ChainError> {
        let (expected, found) = (self.sequence + 1, letter.sequence);
        if found > expected {
            return Err(ChainError::Gap { expected, found });
        }
        let replaces_last = found == self.sequence && head.digest != self.digest;
        if replaces_last || (found == expected && letter.previous != self.digest) {
            return Err(ChainError::Fork { sequence: found });
        }
        if found < expected {
            return Err(ChainError::Rollback { read: self.sequence, found });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A key and the texts of three letters.
    fn chain() -> (SiteKey, Vec<String>) {
        let key = SiteKey::generate().unwrap();
        let mut head = ChainHead::default();
        let texts = (1..=3)
            .map(|n| {
                let (text, next) = head.compose(json!({ "n": n }), &key, "tallinn");
                head = next;
                text
            })
            .collect();
        (key, texts)
    }

    fn read(head: &ChainHead, text: &str, key: &SiteKey) -> Result<(Letter, ChainHead), ChainError> {
        head.accept(text, &key.public(), "tallinn")
    }

    #[test]
    fn letters_are_taken_in_order() {
        let (key, texts) = chain();
        let mut head = ChainHead::default();
        for (n, text) in (1..).zip(&texts) {
            let (letter, next) = read(&head, text, &key).unwrap();
            assert_eq!((letter.sequence, letter.body), (n, json!({ "n": n })));
            head = next;
        }
        assert_eq!(head.sequence, 3);
    }

    #[test]
    fn a_gap_is_refused() {
        let (key, texts) = chain();
        let error = read(&ChainHead::default(), &texts[1], &key).unwrap_err();
        assert_eq!(error, ChainError::Gap { expected: 1, found: 2 });
    }

    #[test]
    fn a_rollback_is_refused() {
        let (key, texts) = chain();
        let (_, head) = read(&ChainHead::default(), &texts[0], &key).unwrap();
        let (_, head) = read(&head, &texts[1], &key).unwrap();
        for (text, found) in [(&texts[0], 1), (&texts[1], 2)] {
            assert_eq!(read(&head, text, &key).unwrap_err(), ChainError::Rollback { read: 2, found });
        }
    }

    #[test]
    fn a_fork_is_refused_at_once_and_one_letter_later() {
        let (key, texts) = chain();
        let (other, other_head) = ChainHead::default().compose(json!("other"), &key, "tallinn");
        let (second, _) = other_head.compose(json!("second"), &key, "tallinn");
        let (_, head) = read(&ChainHead::default(), &texts[0], &key).unwrap();
        assert_eq!(read(&head, &other, &key).unwrap_err(), ChainError::Fork { sequence: 1 });
        assert_eq!(read(&head, &second, &key).unwrap_err(), ChainError::Fork { sequence: 2 });
    }

    #[test]
    fn another_signer_or_author_is_refused() {
        let (key, texts) = chain();
        let stranger = SiteKey::generate().unwrap();
        let error = read(&ChainHead::default(), &texts[0], &stranger).unwrap_err();
        assert!(matches!(error, ChainError::Envelope(EnvelopeError::WrongSigner { .. })), "{error}");
        let error = ChainHead::default().accept(&texts[0], &key.public(), "riga").unwrap_err();
        assert!(matches!(error, ChainError::Envelope(EnvelopeError::WrongAuthor { .. })), "{error}");
    }

    #[test]
    fn a_manifest_or_another_payload_is_no_letter() {
        let key = SiteKey::generate().unwrap();
        let manifest = Envelope::sign(&key, "tallinn", Purpose::Manifest, "{}".to_owned()).to_text();
        let error = read(&ChainHead::default(), &manifest, &key).unwrap_err();
        assert!(matches!(error, ChainError::Envelope(EnvelopeError::WrongPurpose { .. })), "{error}");
        let empty = Envelope::sign(&key, "tallinn", Purpose::Mail, "{}".to_owned()).to_text();
        let error = read(&ChainHead::default(), &empty, &key).unwrap_err();
        assert!(matches!(error, ChainError::Unreadable(_)), "{error}");
    }
}
