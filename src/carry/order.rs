//! The order by which a vault gives points up: what it speaks of is a link of the chain, and no recovery point any more.

use super::{
    folder::Shelf,
    points::{Keys, believed},
};
use crate::api::thinning::{THINNING_VERSION, Thinning};
use crate::plan::manifest::Manifest;
use crate::trust::envelope::{Envelope, Purpose};

/// Name of the order among the files of a list.
pub(super) const NAME: &str = "order";

/// An order, and the text that was signed.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) thinning: Thinning,
    pub(super) text: String,
}

impl Order {
    /// What a text says. With `keys` only what one of them signed is believed.
    pub(super) fn open(text: String, shelf: &Shelf, keys: Option<Keys<'_>>) -> Result<Self, String> {
        let envelope = Envelope::parse(&text).map_err(|error| error.to_string())?;
        let payload = believed(&envelope, &envelope.author, Purpose::Thinning, keys)?;
        let thinning: Thinning = serde_json::from_str(payload).map_err(|error| error.to_string())?;
        if thinning.version != THINNING_VERSION {
            return Err(format!(
                "it has version {}, and this program reads version {THINNING_VERSION}",
                thinning.version
            ));
        }
        if (&thinning.namespace, &thinning.embassy) != (&shelf.namespace, &shelf.embassy) {
            return Err(format!("it speaks of {}/{}", thinning.namespace, thinning.embassy));
        }
        Ok(Self { thinning, text })
    }
}

/// The points that count: those that no order gives up, and the newest, which every vault keeps.
pub(super) fn kept<'a>(manifests: &'a [Manifest], order: Option<&Order>) -> Vec<&'a Manifest> {
    let newest = manifests.last().map(|manifest| &manifest.point);
    let stays = |manifest: &&Manifest| {
        Some(&manifest.point) == newest
            || !order.is_some_and(|order| order.thinning.gives_up(&manifest.point))
    };
    manifests.iter().filter(stays).collect()
}
