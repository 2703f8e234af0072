//! What several test suites share.

#![allow(dead_code)] // each suite uses a part of it

pub mod address;
pub mod api_server;
pub mod object_store;
pub mod points;
pub mod vault;
