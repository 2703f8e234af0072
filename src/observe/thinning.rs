//! What a vault holds in all, and the last order to give some of it up: each signature checked.

use std::collections::BTreeMap;

use super::post::{Correspondence, PostError, known_version, reign};
use crate::api::epoch::PointRef;
use crate::api::thinning::THINNING_VERSION;
use crate::api::thinning::Thinning;
use crate::plan::manifest::Manifest;
use crate::trust::envelope::Envelope;
use crate::trust::envelope::Purpose;
use crate::trust::envelope::digest;
use crate::trust::signing::PublicKey;

impl Correspondence {
    /// Every committed point, in the order of all. Those of a site whose key is not pinned are not among them.
    pub async fn all_points(&self, keys: &BTreeMap<String, PublicKey>) -> Result<Vec<Manifest>, PostError> {
        let (namespace, name) = (&self.owner.namespace, &self.owner.name);
        let mut points = BTreeMap::new();
        for epoch in self.vault.epochs(namespace, name).await? {
            let Some(reign) = reign(&epoch.epoch) else { continue };
            let Some(key) = keys.get(&reign.site) else { continue };
            let mut last = 0;
            loop {
                let page = self.vault.points(namespace, name, Some(&epoch.epoch), last).await?;
                // A vault that repeats itself must not keep this going for ever.
                let Some(end) = page.last().map(|stored| stored.sequence).filter(|end| *end > last) else {
                    break;
                };
                for stored in page {
                    let which = PointRef { epoch: reign.clone(), sequence: stored.sequence };
                    let committed = self.believe(&which, key, &stored.text, &BTreeMap::new())?;
                    points.insert(which, committed.manifest);
                }
                last = end;
            }
        }
        Ok(points.into_values().collect())
    }

    /// The last order that the vault shows, and the SHA-256 of its envelope.
    pub async fn last_thinning(
        &self,
        keys: &BTreeMap<String, PublicKey>,
    ) -> Result<Option<(Thinning, String)>, PostError> {
        let (namespace, name) = (&self.owner.namespace, &self.owner.name);
        let Some(stored) = self.vault.thinning(namespace, name).await? else { return Ok(None) };
        let refuse = |why: String| PostError::Thinning { sequence: stored.sequence, why };
        let envelope = Envelope::parse(&stored.text).map_err(|error| refuse(error.to_string()))?;
        let author = envelope.author.clone();
        let key =
            keys.get(&author).ok_or_else(|| refuse(format!("no key of its author '{author}' is pinned")))?;
        let payload =
            envelope.open(key, &author, Purpose::Thinning).map_err(|error| refuse(error.to_string()))?;
        let value: serde_json::Value =
            serde_json::from_str(payload).map_err(|error| refuse(error.to_string()))?;
        known_version(&author, "order to give points up", &value["version"], THINNING_VERSION)?;
        let order: Thinning = serde_json::from_value(value).map_err(|error| refuse(error.to_string()))?;
        if (&order.namespace, &order.embassy) != (namespace, name) {
            return Err(refuse(format!("it speaks of {}/{}", order.namespace, order.embassy)));
        }
        Ok(Some((order, digest(&stored.text))))
    }
}
