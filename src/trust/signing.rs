//! The signing key of a site: what its mail and its manifests are signed with.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{
    Signature, Signer, SigningKey, VerifyingKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes, spki::der::pem::LineEnding},
};
use zeroize::Zeroizing;

/// What the text of a public key begins with.
const SCHEME: &str = "ed25519:";

/// What can be wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is no public key.
    #[error(
        "'{0}' is no public key: write 'ed25519:' and the 44 base64 characters that the site itself shows"
    )]
    PublicKey(String),
    /// A point that any signature could be made to fit.
    #[error("the public key '{0}' is a weak one that proves nothing: give the site a new key and pin that")]
    Weak(String),
    /// The text is no private key.
    #[error("the signing key is no ed25519 key in PKCS#8 PEM ({0}): restore it from its backup")]
    PrivateKey(String),
    /// The system gave no randomness.
    #[error("the system gave no random bytes ({0}): a key cannot be made without them")]
    Randomness(String),
}

/// A site's private signing key. Erased from memory when dropped.
#[derive(Clone)]
pub struct SiteKey(SigningKey);

impl SiteKey {
    /// A new key.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(|error| KeyError::Randomness(error.to_string()))?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// Reads what `to_pem` wrote.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        SigningKey::from_pkcs8_pem(pem).map(Self).map_err(|error| KeyError::PrivateKey(error.to_string()))
    }

    /// PKCS#8 in PEM.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        // Version 1, without the public half: OpenSSL reads no other.
        let bytes = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        bytes.to_pkcs8_pem(LineEnding::LF).map_err(|error| KeyError::PrivateKey(error.to_string()))
    }

    /// What others verify with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// The signature of `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiteKey({})", self.public())
    }
}

/// A site's public key, written `ed25519:` and 44 characters of base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Whether `signature` is that of `message`. Strict: refuses every malleable form.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", STANDARD.encode(self.0.as_bytes()))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let invalid = || KeyError::PublicKey(text.chars().take(80).collect());
        let encoded = text.strip_prefix(SCHEME).ok_or_else(invalid)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| invalid())?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| invalid())?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| invalid())?;
        if key.is_weak() {
            return Err(KeyError::Weak(text.to_owned()));
        }
        Ok(Self(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_pem() {
        let key = SiteKey::generate().unwrap();
        let pem = key.to_pem().unwrap();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_eq!(SiteKey::from_pem(&pem).unwrap().public(), key.public());
    }

    #[test]
    fn a_public_key_is_text_of_a_fixed_length() {
        let public = SiteKey::generate().unwrap().public();
        let text = public.to_string();
        assert_eq!(text.len(), SCHEME.len() + 44);
        assert_eq!(text.parse::<PublicKey>().unwrap(), public);
    }

    #[test]
    fn a_signature_fits_one_message_and_one_key() {
        let key = SiteKey::generate().unwrap();
        let signature = key.sign(b"message");
        assert!(key.public().verifies(b"message", &signature));
        assert!(!key.public().verifies(b"another", &signature));
        assert!(!SiteKey::generate().unwrap().public().verifies(b"message", &signature));
    }

    #[test]
    fn other_texts_are_refused() {
        let good = SiteKey::generate().unwrap().public().to_string();
        for text in ["", "ed25519:", "rsa:AAAA", &good[8..], &format!("{good}A"), &good[..good.len() - 4]] {
            assert!(matches!(text.parse::<PublicKey>(), Err(KeyError::PublicKey(_))), "{text}");
        }
        assert!(matches!(SiteKey::from_pem("no key"), Err(KeyError::PrivateKey(_))));
    }

    #[test]
    fn a_weak_key_is_refused() {
        let neutral = format!("ed25519:AQ{}=", "A".repeat(41));
        assert!(matches!(neutral.parse::<PublicKey>(), Err(KeyError::Weak(_))));
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let key = SiteKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("SiteKey({})", key.public()));
    }
}
