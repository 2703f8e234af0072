//! Clients of a vault: asynchronous for the operator, blocking for the mover.

mod error;
mod operator;
mod repository;
mod throttle;

pub use error::ClientError;
pub use operator::VaultClient;
pub use repository::RepositoryClient;
pub use throttle::Throttle;
