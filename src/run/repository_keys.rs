//! One repository key per epoch, in a Secret of the operator's namespace; the peer gets it sealed, inside a mandate.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::keeper::{Keeper, KeeperError, field};
use crate::api::epoch::Epoch;
use crate::plan::desired::Owner;
use crate::plan::mandate::SealedKey;
use crate::trust::sealing::{SiteIdentity, open, seal};

const FIELD: &str = "repository-key";

/// Name of the Secret: embassies of any name and namespace stay apart.
fn secret_name(owner: &Owner, epoch: &Epoch) -> String {
    let digest = Sha256::digest(format!("{}/{}", owner.namespace, owner.name).as_bytes());
    format!("data-embassy-repository-{}-{}", hex::encode(&digest[..8]), epoch.slug())
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
