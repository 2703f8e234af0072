//! The engine's store at a real vault.

use bytes::Bytes;

use super::engine::{Store, StoreError};
use crate::vault::client::{ClientError, RepositoryClient};

impl Store for RepositoryClient {
    fn create(&self) -> Result<(), StoreError> {
        Ok(Self::create(self)?)
    }

    fn list(&self, kind: &str) -> Result<Vec<(String, u64)>, StoreError> {
        Ok(Self::list(self, kind)?)
    }

    fn condemned(&self) -> Result<Vec<String>, StoreError> {
        Ok(Self::condemned(self)?)
    }

    fn read(&self, kind: &str, name: &str) -> Result<Bytes, StoreError> {
        Ok(Self::read(self, kind, name)?)
    }

    fn read_range(&self, kind: &str, name: &str, offset: u32, length: u32) -> Result<Bytes, StoreError> {
        Ok(Self::read_range(self, kind, name, offset, length)?)
    }

    fn write(&self, kind: &str, name: &str, content: Bytes) -> Result<(), StoreError> {
        Ok(Self::write(self, kind, name, content)?)
    }
}

impl From<ClientError> for StoreError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused { reason, message } => Self::Refused { reason, message },
            ClientError::NotFound { message } | ClientError::TooShort { message } => Self::Damaged(message),
            ClientError::Conflict { message, .. } => Self::Refused { reason: "Conflict".to_owned(), message },
            // Certificates that make no client, no answer, or none of a vault.
            other => Self::Unreachable(other.to_string()),
        }
    }
}
