//! The Data Embassy operator: keeps a state's registers running abroad when its home systems are down.
//!
//! Layers, each using only those to its left: `api ← plan ← {observe, act} ← run`; `cluster ← {observe, act}`.
//! `guard`, `vault`, `mover`, `carry` and `trust` stand beside them and know nothing of `run`.

pub mod act;
pub mod api;
pub mod carry;
pub mod cluster;
pub mod guard;
pub mod mover;
pub mod observe;
pub mod plan;
pub mod run;
pub mod trust;
pub mod vault;
