//! Manifests that are carried: each signed by its site, each following the one before it.

use std::collections::BTreeMap;

use super::{failure::Failure, folder::Shelf};
use crate::api::epoch::PointRef;
use crate::plan::manifest::{MANIFEST_VERSION, Manifest};
use crate::trust::{
    envelope::{Envelope, Purpose, digest},
    signing::PublicKey,
};

/// The public key of a site, if it is known.
pub type Keys<'a> = &'a dyn Fn(&str) -> Option<PublicKey>;

/// The manifests, if all of them are genuine and form one chain from its beginning. Without keys their words are taken.
pub(super) fn genuine(
    shelf: &Shelf,
    texts: &BTreeMap<i64, String>,
    keys: Option<Keys<'_>>,
) -> Result<Vec<Manifest>, Failure> {
    let mut previous = String::new();
    let mut manifests = vec![];
    for (sequence, text) in texts {
        let point = PointRef { epoch: shelf.epoch.clone(), sequence: *sequence };
        let wrong = |why: String| Failure::NotGenuine { point: point.clone(), why };
        let manifest = opened(shelf, text, keys).map_err(wrong)?;
        if manifest.point != point {
            return Err(wrong(format!("it was signed as {}", manifest.point)));
        }
        if manifest.previous != previous {
            return Err(wrong("it does not follow the one before it".to_owned()));
        }
        previous = digest(text);
        manifests.push(manifest);
    }
    Ok(manifests)
}

/// What an envelope says, if that site signed it for that purpose. Without keys its word is taken.
pub(super) fn believed<'a>(
    envelope: &'a Envelope,
    site: &str,
    purpose: Purpose,
    keys: Option<Keys<'_>>,
) -> Result<&'a str, String> {
    let Some(keys) = keys else { return Ok(&envelope.payload) };
    let key = keys(site).ok_or_else(|| format!("the key of site '{site}' is not known here"))?;
    envelope.open(&key, site, purpose).map_err(|error| error.to_string())
}

fn opened(shelf: &Shelf, text: &str, keys: Option<Keys<'_>>) -> Result<Manifest, String> {
    let site = &shelf.epoch.site;
    let envelope = Envelope::parse(text).map_err(|error| error.to_string())?;
    let payload = believed(&envelope, site, Purpose::Manifest, keys)?;
    let manifest: Manifest = serde_json::from_str(payload).map_err(|error| error.to_string())?;
    if manifest.version != MANIFEST_VERSION {
        return Err(format!(
            "it has version {}, and this program reads version {MANIFEST_VERSION}",
            manifest.version
        ));
    }
    if (&manifest.namespace, &manifest.embassy) != (&shelf.namespace, &shelf.embassy) {
        return Err(format!("it was signed for {}/{}", manifest.namespace, manifest.embassy));
    }
    Ok(manifest)
}
