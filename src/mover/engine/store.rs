//! What the engine needs of a vault: create-only storage of named byte strings.

use std::fmt::Debug;

use bytes::Bytes;

use crate::mover::outcome::Reason;

/// A repository's storage. Kinds are `config`, `data`, `index`, `snapshots` and `keys`.
pub trait Store: Send + Sync + Debug {
    /// Creates the repository where it does not exist.
    fn create(&self) -> Result<(), StoreError>;
    /// Names and sizes of all files of a kind.
    fn list(&self, kind: &str) -> Result<Vec<(String, u64)>, StoreError>;
    /// Names of packs that are about to be freed: nothing new may need them.
    fn condemned(&self) -> Result<Vec<String>, StoreError>;
    /// A whole file.
    fn read(&self, kind: &str, name: &str) -> Result<Bytes, StoreError>;
    /// A part of a file.
    fn read_range(&self, kind: &str, name: &str, offset: u32, length: u32) -> Result<Bytes, StoreError>;
    /// Stores a new file durably. The same content again is no error: an answer may be lost.
    fn write(&self, kind: &str, name: &str, content: Bytes) -> Result<(), StoreError>;
}

/// Why a request to the store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No answer, or one that says nothing about the request.
    #[error("the vault does not answer: {0}; check the network, the address and the certificates")]
    Unreachable(String),
    /// An answer that another try does not change.
    #[error("the vault refuses ({reason}): {message}")]
    Refused {
        /// The vault's reason.
        reason: String,
        /// The vault's explanation.
        message: String,
    },
    /// A file of the repository is missing, or shorter than its index says.
    #[error(
        "the repository is damaged: {0}; verify it, and restore from another recovery point or another vault"
    )]
    Damaged(String),
}

impl StoreError {
    /// The reason for machines.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unreachable(_) => Reason::VaultUnreachable,
            Self::Refused { reason, .. } if reason == "QuotaExceeded" => Reason::QuotaExceeded,
            Self::Refused { .. } => Reason::VaultRefused,
            Self::Damaged(_) => Reason::RepositoryDamaged,
        }
    }
}
