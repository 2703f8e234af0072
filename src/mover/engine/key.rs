//! The repository key: JSON text, never stored in the repository.

use rustic_core::repofile::MasterKey;

use crate::mover::failure::Failure;

/// A new random key.
#[must_use]
pub fn new_key() -> String {
    // Three byte strings always serialise.
    serde_json::to_string(&MasterKey::new()).unwrap_or_default()
}

/// Reads a key; parts of a wrong length would otherwise abort the process.
pub(super) fn parse(text: &str) -> Result<MasterKey, Failure> {
    let key: MasterKey = serde_json::from_str(text.trim())
        .map_err(|_| Failure::Key("it is not a repository key".to_owned()))?;
    if (key.encrypt.len(), key.mac.k.len(), key.mac.r.len()) == (32, 16, 16) {
        Ok(key)
    } else {
        Err(Failure::Key("its parts have the wrong length".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_readable_and_new() {
        assert!(parse(&new_key()).is_ok());
        assert_ne!(new_key(), new_key());
    }

    #[test]
    fn a_broken_key_is_an_error() {
        let short = r#"{"mac":{"k":"AAAA","r":"AAAA"},"encrypt":"AAAA"}"#;
        assert!(matches!(parse(short), Err(Failure::Key(_))));
        assert!(matches!(parse("secret"), Err(Failure::Key(_))));
    }
}
