//! The vault: a real server, real certificates, real clients.

#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod connections;
mod documents;
mod repository;
mod restic;
