//! The mover: backup, restore, capture, activation, comparison and verification, each one short-lived process in a Pod of its own.

pub mod activate;
pub mod arguments;
pub mod backup;
pub mod capture;
pub mod compare;
mod count;
mod directory;
pub mod engine;
pub mod failure;
mod first_copy;
pub mod inventory;
mod node;
pub mod outcome;
mod progress;
pub mod restore;
pub mod run;
mod source;
mod survey;
pub mod unseal;
mod vault;
pub mod verify;
