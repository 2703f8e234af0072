//! The failover protocol, manual mode: one pure function decides every role, epoch, fence, handover and discard.
//!
//! `decide` is the decision table of the protocol, row by row. The reconciler and the model checker call this very
//! function; `docs/failover.md` explains it to people.

pub mod decide;
pub mod document;
pub mod first_record;
pub mod gates;
pub mod impasse;
pub mod invariants;
pub mod lineage;
pub mod orders;
pub mod progress;
pub mod rules;
pub mod trace;
pub mod view;
pub mod volumes;
mod whole;

pub use decide::{Action, decide};
pub use document::Document;
pub use view::{Order, Peer, Point, View};
