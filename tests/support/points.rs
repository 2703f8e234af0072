//! Recovery points as their restores need them.

use std::path::Path;

use data_embassy::{
    mover::restore::{Expected, RestoreParameters},
    plan::manifest::Manifest,
};

/// A restore of the point to a folder with a folder for each claim, whatever that holds.
pub fn restoring(manifest: &Manifest, volumes: &Path) -> RestoreParameters {
    RestoreParameters {
        volumes: volumes.to_owned(),
        claims: manifest.claims.clone(),
        snapshot: manifest.contents.snapshot.clone(),
        expected: Expected {
            content_digest: manifest.contents.content_digest.clone(),
            bytes: u64::try_from(manifest.contents.bytes).unwrap(),
            files: u64::try_from(manifest.contents.files).unwrap(),
        },
        previous: None,
    }
}
