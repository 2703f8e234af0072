//! One repository key per epoch, in a Secret of the operator's namespace; the peer gets it sealed, inside a mandate.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::keeper::{Keeper, KeeperError, field};
use crate::api::epoch::Epoch;
use crate::plan::desired::Owner;
use crate::plan::mandate::SealedKey;
use crate::trust::sealing::{SiteIdentity, open, seal};

const FIELD: &str = "repository-key";
/// Annotation of a key's Secret: when a person proved that a copy of the key opens outside this cluster.
const KEPT_ANNOTATION: &str = "dataembassy.io/copy-proved";

/// What the names of an embassy's Secrets begin with: embassies of any name and namespace stay apart.
fn prefix(owner: &Owner) -> String {
    let digest = Sha256::digest(format!("{}/{}", owner.namespace, owner.name).as_bytes());
    format!("data-embassy-repository-{}-", hex::encode(&digest[..8]))
}

fn secret_name(owner: &Owner, epoch: &Epoch) -> String {
    format!("{}{}", prefix(owner), epoch.slug())
}

/// Every key of an embassy that this cluster has. The operator itself never lists Secrets; people do.
pub async fn all(keeper: &Keeper, owner: &Owner) -> Result<BTreeMap<Epoch, String>, KeeperError> {
    let prefix = prefix(owner);
    let listed = keeper.secrets.list(&ListParams::default()).await;
    let listed = listed.map_err(|source| KeeperError::Secret { name: format!("{prefix}*"), source })?;
    let mut found = BTreeMap::new();
    for secret in &listed.items {
        let name = secret.name_any();
        let epoch = name.strip_prefix(&prefix).and_then(|slug| slug.replacen('-', "/", 1).parse().ok());
        if let Some(epoch) = epoch {
            found.insert(epoch, field(secret, &name, FIELD)?);
        }
    }
    Ok(found)
}

/// Whether a person proved that a copy of the key opens outside this cluster.
pub async fn is_kept(keeper: &Keeper, owner: &Owner, epoch: &Epoch) -> Result<bool, KeeperError> {
    let secret = keeper.get(&secret_name(owner, epoch)).await?;
    Ok(secret.is_some_and(|secret| secret.annotations().contains_key(KEPT_ANNOTATION)))
}

/// Notes that a copy of the key was opened outside this cluster.
pub async fn mark_kept(keeper: &Keeper, owner: &Owner, epoch: &Epoch) -> Result<(), KeeperError> {
    let name = secret_name(owner, epoch);
    let now = Timestamp::now().to_string();
    let patch = Patch::Merge(json!({"metadata": {"annotations": {KEPT_ANNOTATION: now}}}));
    let marked = keeper.secrets.patch(&name, &PatchParams::default(), &patch).await;
    marked.map(drop).map_err(|source| KeeperError::Secret { name, source })
}

/// The key of an epoch, if this site has it.
pub async fn find(keeper: &Keeper, owner: &Owner, epoch: &Epoch) -> Result<Option<String>, KeeperError> {
    let name = secret_name(owner, epoch);
    keeper.get(&name).await?.map(|secret| field(&secret, &name, FIELD)).transpose()
}

/// The key of this site's own epoch, made if it is missing.
pub async fn own(keeper: &Keeper, owner: &Owner, epoch: &Epoch) -> Result<String, KeeperError> {
    let name = secret_name(owner, epoch);
    let secret = keeper
        .get_or_make(&name, || Ok(BTreeMap::from([(FIELD.to_owned(), crate::mover::engine::new_key())])))
        .await?;
    field(&secret, &name, FIELD)
}

/// Seals a key to the peer.
pub fn sealed(epoch: &Epoch, key: &str, site: &str, recipient: &str) -> Result<SealedKey, KeeperError> {
    let sealed = seal(key.as_bytes(), &[recipient])?;
    Ok(SealedKey { epoch: epoch.to_string(), site: site.to_owned(), sealed })
}

/// Keeps the keys of a mandate that are sealed to this site, so that a takeover needs nothing else.
pub async fn receive(
    keeper: &Keeper,
    owner: &Owner,
    identity: &SiteIdentity,
    keys: &[SealedKey],
) -> Result<(), KeeperError> {
    for key in keys.iter().filter(|key| key.site == keeper.site) {
        let Ok(epoch) = key.epoch.parse::<Epoch>() else { continue };
        let name = secret_name(owner, &epoch);
        if keeper.get(&name).await?.is_some() {
            continue;
        }
        let opened = open(identity, &key.sealed)?;
        let text = String::from_utf8_lossy(&opened).into_owned();
        keeper.get_or_make(&name, || Ok(BTreeMap::from([(FIELD.to_owned(), text)]))).await?;
        tracing::info!(
            namespace = owner.namespace,
            name = owner.name,
            epoch = key.epoch,
            "repository key received"
        );
    }
    Ok(())
}
