//! The vault: its server and its client.
