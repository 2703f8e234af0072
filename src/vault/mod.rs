//! The vault: its server and its client.

pub mod client;
pub mod protocol;
pub mod server;
