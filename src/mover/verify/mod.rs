//! Verification of all that a vault holds of one embassy, read through the same door as a restore: without a key every
//! object, signature and chain; with the keys also every blob.

mod chain;
mod deep;
mod documents;
mod needs;
mod objects;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use self::{
    documents::Documents,
    needs::{Costs, Needs, Objects},
    objects::Volume,
};
use super::{failure::Failure, outcome::VerifyDone, progress::Progress};
use crate::api::epoch::{Epoch, PointRef};
use crate::api::replication::Depth;
use crate::mover::engine::StoreError;
use crate::plan::verification::{Checked, Damage, include};
use crate::trust::{chain::ChainHead, signing::PublicKey, tls::Material};
use crate::vault::client::{RepositoryClient, VaultClient};
use crate::vault::inventory::{Inventory, KIND};

/// What was verified before, kept away from the vault: against a store that is taken back in time.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The last manifest of each epoch.
    pub points: BTreeMap<Epoch, ChainHead>,
    /// The last letter of each site.
    pub mail: BTreeMap<String, ChainHead>,
}

/// What to verify, and against what.
#[derive(Debug, Clone)]
pub struct Parameters {
    /// Address of the vault, `https://host:port`.
    pub vault: String,
    /// The own certificate.
    pub material: Material,
    /// Namespace of the embassy.
    pub namespace: String,
    /// Name of the embassy.
    pub embassy: String,
    /// Pinned signing keys by site.
    pub keys: BTreeMap<String, PublicKey>,
    /// What was verified before.
    pub seen: Seen,
    /// Repository keys by epoch, for a deep verification.
    pub repository_keys: BTreeMap<Epoch, String>,
    /// How far to go.
    pub depth: Depth,
}

/// Reads everything. Damage is a result, not a failure.
pub fn verify(parameters: &Parameters) -> Result<VerifyDone, Failure> {
    let volume = Arc::new(Volume::default());
    let shown = volume.clone();
    let _progress = Progress::start(move || {
        let (files, bytes) = (shown.files.load(Ordering::Relaxed), shown.bytes.load(Ordering::Relaxed));
        tracing::info!(files, bytes, "verifying");
    });
    // Documents first: what they name was stored before them.
    let client = VaultClient::new(&parameters.vault, &parameters.material).map_err(StoreError::from)?;
    let runtime = super::run::runtime()?;
    let mut documents = runtime.block_on(documents::read(&client, parameters))?;
    let mut repositories = vec![];
    for epoch in epochs(&documents) {
        let found = repository(parameters, &documents, &epoch, &volume)?;
        repositories.push((epoch, found));
    }
    runtime.block_on(documents.order(&client, parameters))?;
    let mut damage = documents.damage.clone();
    let mut damaged = documents.damaged;
    for (epoch, (client, objects)) in &repositories {
        for found in costs(client, &documents, epoch, objects)? {
            damaged += 1;
            damage.push(found);
        }
    }
    for found in &damage {
        tracing::error!(file = found.file, wrong = %found.wrong, points = ?found.points, "damage");
    }
    let mut affected = vec![];
    damage.iter().flat_map(|found| &found.points).for_each(|range| include(&mut affected, range.clone()));
    let count = |counter: &std::sync::atomic::AtomicU64| {
        i64::try_from(counter.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
    };
    let checked = Checked {
        time: Time(Timestamp::now()),
        depth: parameters.depth,
        files: count(&volume.files) + documents.read.0,
        bytes: count(&volume.bytes) + documents.read.1,
        points: i64::try_from(documents.manifests.len()).unwrap_or(i64::MAX),
        damaged_files: damaged,
        damage,
        affected,
        reached: documents.reached,
    };
    Ok(VerifyDone { checked, points: documents.points, mail: documents.mail }.fitting(&parameters.seen))
}

fn epochs(documents: &Documents) -> Vec<Epoch> {
    let mut epochs: Vec<Epoch> = documents.manifests.keys().map(|point| point.epoch.clone()).collect();
    epochs.dedup();
    epochs
}

/// What a repository holds, and what is wrong with each object by itself.
fn repository(
    parameters: &Parameters,
    documents: &Documents,
    epoch: &Epoch,
    volume: &Volume,
) -> Result<(RepositoryClient, Objects), Failure> {
    let path = format!("{}/{}/{}", parameters.namespace, parameters.embassy, epoch.slug());
    let client =
        RepositoryClient::new(&parameters.vault, &path, &parameters.material).map_err(StoreError::from)?;
    let mut objects = objects::read(&client, volume)?;
    if let Some(key) = parameters.repository_keys.get(epoch).filter(|_| parameters.depth == Depth::Deep) {
        let newest = documents.manifests.iter().rfind(|(point, _)| point.epoch == *epoch);
        deep::check(&client, key, newest.map(|(_, manifest)| manifest), &mut objects)?;
    }
    Ok((client, objects))
}

/// What that costs.
fn costs(
    client: &RepositoryClient,
    documents: &Documents,
    epoch: &Epoch,
    objects: &Objects,
) -> Result<Vec<Damage>, Failure> {
    let mut needs = Needs::new(objects);
    let mut read = |name: &str| match client.read(KIND, name) {
        Ok(content) => Ok(Inventory::parse(&content).ok()),
        Err(error) => Err(Failure::from(StoreError::from(error))),
    };
    let stays = |point: &PointRef| point.epoch == *epoch && !documents.was_given_up(point);
    for (point, manifest) in documents.manifests.iter().filter(|(point, _)| stays(point)) {
        needs.point(point, &manifest.contents.inventory, &mut read)?;
    }
    Ok(named(epoch, needs.end()))
}

fn named(epoch: &Epoch, costs: Costs) -> Vec<Damage> {
    let path = |object: &str| match object.strip_prefix("data/") {
        Some(pack) => format!("repo/{}/data/{}/{pack}", epoch.slug(), pack.get(..2).unwrap_or_default()),
        None => format!("repo/{}/{object}", epoch.slug()),
    };
    costs.into_iter().map(|(object, (wrong, points))| Damage { file: path(&object), wrong, points }).collect()
}
