//! The vault: its server and its client.

pub mod client;
pub mod inventory;
pub mod protocol;
pub mod server;
