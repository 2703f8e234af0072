//! Manifests of recovery points, inventories of what they need, and orders to give points up.
#![no_main]

use std::collections::BTreeSet;

use data_embassy::{
    api::thinning::Thinning,
    plan::manifest::Manifest,
    vault::{inventory::Inventory, server::words::inventory_of},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(manifest) = serde_json::from_str::<Manifest>(text) {
        let _ = (manifest.point(), manifest.object());
    }
    if let Ok(order) = serde_json::from_str::<Thinning>(text) {
        assert!(order.follows(Some((&order, "digest"))).is_err());
    }
    if let Ok(inventory) = Inventory::parse(text.as_bytes()) {
        let mut needed = BTreeSet::new();
        inventory.apply(&mut needed);
        assert!(needed.len() <= inventory.added.len());
    }
    let _ = inventory_of(text);
});
