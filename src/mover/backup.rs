//! Backup: volumes and captured objects into one snapshot, complete or not at all.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use super::{
    directory,
    engine::Engine,
    failure::Failure,
    inventory,
    outcome::BackupDone,
    progress::Progress,
    source::{Root, Volumes, Watch},
    survey,
};

/// What to back up.
#[derive(Debug, Clone)]
pub struct BackupParameters {
    /// Where the claims are mounted, one folder each.
    pub volumes: PathBuf,
    /// The protected claims.
    pub claims: Vec<String>,
    /// Folder with the captured objects.
    pub objects: Option<PathBuf>,
    /// How many objects it holds.
    pub object_count: u64,
    /// The inventory of the point before in the same repository.
    pub inventory_base: Option<String>,
}

/// Writes a snapshot; there is none if anything could not be read exactly.
pub fn backup(engine: Engine, parameters: &BackupParameters) -> Result<BackupDone, Failure> {
    directory::allow_many_files();
    let watch = Arc::new(Watch::default());
    let source = Volumes::new(roots(parameters)?, watch.clone());
    let shown = watch.clone();
    let _progress = Progress::start(move || {
        let (bytes, entries) = (shown.bytes.load(Ordering::Relaxed), shown.entries.load(Ordering::Relaxed));
        tracing::info!(bytes_read = bytes, entries, "backing up");
    });
    let asked = watch.clone();
    let base = parameters.inventory_base.as_deref().and_then(|name| inventory::read(&engine, name));
    let needed = base.as_ref().map(|base| &base.needed);
    let written = engine.backup(&source, needed, move || asked.text());
    // The fault of a source says more than the engine's refusal to go on.
    if let Some(failure) = watch.take() {
        return Err(failure);
    }
    let (written, reader, uploaded) = written?;
    let found = survey::survey(&reader, written.tree)?;
    let expected = watch.entries.load(Ordering::Relaxed);
    if found.entries != expected {
        let text =
            format!("the snapshot holds {} of {expected} entries; run the backup again", found.entries);
        return Err(Failure::Internal(text));
    }
    let snapshot = written.snapshot.to_hex().to_string();
    let inventory = inventory::write(&reader, &snapshot, base)?;
    Ok(BackupDone {
        snapshot,
        tree: written.tree.to_hex().to_string(),
        bytes: found.bytes,
        files: found.files,
        objects: parameters.object_count,
        content_digest: found.digest,
        inventory,
        uploaded_bytes: uploaded,
    })
}

fn roots(parameters: &BackupParameters) -> Result<Vec<Root>, Failure> {
    let mut roots: Vec<Root> =
        parameters.objects.iter().map(|path| Root { claim: None, path: path.clone() }).collect();
    for claim in &parameters.claims {
        let path = parameters.volumes.join(claim);
        if !path.is_dir() {
            return Err(Failure::VolumeMissing(claim.clone()));
        }
        roots.push(Root { claim: Some(claim.clone()), path });
    }
    Ok(roots)
}
