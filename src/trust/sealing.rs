//! Secrets for one site's eyes: age with X25519 recipients.

use std::{
    fmt,
    io::{Read, Write},
    str::FromStr,
};

use age::{
    Decryptor, Encryptor,
    armor::{ArmoredReader, ArmoredWriter, Format},
    secrecy::ExposeSecret,
    x25519,
};
use zeroize::Zeroizing;

/// Why something was not sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealingError {
    /// A recipient's text is none.
    #[error("'{0}' is no age recipient: write the 'age1...' text that the site itself shows")]
    Recipient(String),
    /// Nobody could open it.
    #[error("there is no recipient: whatever is sealed for nobody is lost")]
    NoRecipient,
    /// An identity's text is none.
    #[error("the sealing identity is no 'AGE-SECRET-KEY-1...' text: restore it from its backup")]
    Identity,
    /// The seal could not be made.
    #[error("sealing failed: {0}")]
    Seal(String),
    /// It was not sealed for this identity, or was changed.
    #[error("the seal does not open ({0}): it was made for another site or was damaged")]
    Open(String),
}

/// The private half of a site's recipient. Erased from memory when dropped.
#[derive(Clone)]
pub struct SiteIdentity(x25519::Identity);

impl SiteIdentity {
    /// A new identity.
    #[must_use]
    pub fn generate() -> Self {
        Self(x25519::Identity::generate())
    }

    /// The `AGE-SECRET-KEY-1...` text, to be kept in a Secret only.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.to_string().expose_secret().to_owned())
    }

    /// The `age1...` text that others seal for.
    #[must_use]
    pub fn recipient(&self) -> String {
        self.0.to_public().to_string()
    }
}

impl FromStr for SiteIdentity {
    type Err = SealingError;

    fn from_str(text: &str) -> Result<Self, SealingError> {
        text.trim().parse().map(Self).map_err(|_| SealingError::Identity)
    }
}

impl fmt::Debug for SiteIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiteIdentity({})", self.recipient())
    }
}

/// Seals `plain` so that each of `recipients` alone can open it. Armored text.
pub fn seal(plain: &[u8], recipients: &[&str]) -> Result<String, SealingError> {
    let failed = |error: &dyn fmt::Display| SealingError::Seal(error.to_string());
    let recipients = parse(recipients)?;
    let recipients = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
    let encryptor = Encryptor::with_recipients(recipients).map_err(|error| failed(&error))?;
    let armor = ArmoredWriter::wrap_output(vec![], Format::AsciiArmor).map_err(|error| failed(&error))?;
    let mut writer = encryptor.wrap_output(armor).map_err(|error| failed(&error))?;
    writer.write_all(plain).map_err(|error| failed(&error))?;
    let sealed = writer.finish().and_then(ArmoredWriter::finish).map_err(|error| failed(&error))?;
    String::from_utf8(sealed).map_err(|error| failed(&error))
}

/// Opens what `seal` made, if `identity` is among its recipients.
pub fn open(identity: &SiteIdentity, armored: &str) -> Result<Zeroizing<Vec<u8>>, SealingError> {
    let failed = |error: &dyn fmt::Display| SealingError::Open(error.to_string());
    let reader = ArmoredReader::new(armored.as_bytes());
    let decryptor = Decryptor::new(reader).map_err(|error| failed(&error))?;
    let identities = std::iter::once(&identity.0 as &dyn age::Identity);
    let mut reader = decryptor.decrypt(identities).map_err(|error| failed(&error))?;
    // Grown in one piece: a reallocation would leave a copy that is not erased.
    let mut plain = Zeroizing::new(Vec::with_capacity(armored.len()));
    reader.read_to_end(&mut plain).map_err(|error| failed(&error))?;
    Ok(plain)
}

fn parse(recipients: &[&str]) -> Result<Vec<x25519::Recipient>, SealingError> {
    if recipients.is_empty() {
        return Err(SealingError::NoRecipient);
    }
    recipients
        .iter()
        .map(|text| text.parse().map_err(|_| SealingError::Recipient((*text).chars().take(80).collect())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_recipient_opens_it() {
        let (a, b) = (SiteIdentity::generate(), SiteIdentity::generate());
        let sealed = seal(b"secret", &[&a.recipient(), &b.recipient()]).unwrap();
        assert!(sealed.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
        for identity in [a, b] {
            assert_eq!(open(&identity, &sealed).unwrap().as_slice(), b"secret");
        }
    }

    #[test]
    fn nobody_else_opens_it() {
        let sealed = seal(b"secret", &[&SiteIdentity::generate().recipient()]).unwrap();
        let error = open(&SiteIdentity::generate(), &sealed).unwrap_err();
        assert!(matches!(error, SealingError::Open(_)), "{error}");
    }

    #[test]
    fn a_damaged_seal_does_not_open() {
        let identity = SiteIdentity::generate();
        let sealed = seal(&[7; 1000], &[&identity.recipient()]).unwrap();
        let cut = sealed.replacen("\n-----END", "A\n-----END", 1);
        assert!(matches!(open(&identity, &cut), Err(SealingError::Open(_))));
        assert!(matches!(open(&identity, "nothing"), Err(SealingError::Open(_))));
    }

    #[test]
    fn an_identity_survives_its_text() {
        let identity = SiteIdentity::generate();
        let text = identity.to_secret_text();
        assert!(text.starts_with("AGE-SECRET-KEY-1"));
        assert_eq!(text.parse::<SiteIdentity>().unwrap().recipient(), identity.recipient());
        assert!(!format!("{identity:?}").contains("SECRET"));
    }

    #[test]
    fn other_texts_are_refused() {
        assert!(matches!(seal(b"x", &["age1nothing"]), Err(SealingError::Recipient(_))));
        assert_eq!(seal(b"x", &[]), Err(SealingError::NoRecipient));
        assert!(matches!("age1x".parse::<SiteIdentity>(), Err(SealingError::Identity)));
    }
}
