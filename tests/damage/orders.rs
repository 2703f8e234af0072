//! Orders to give recovery points up, and vaults that carry them out at once.

use std::{collections::BTreeMap, fs, time::Duration};

use data_embassy::{
    api::{
        epoch::Epoch,
        thinning::{Stays, THINNING_VERSION, Thinning},
    },
    trust::{
        envelope::{Envelope, Purpose},
        signing::SiteKey,
    },
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use crate::{
    archive::{Archive, EMBASSY, NAMESPACE},
    support::vault::TestVault,
};

/// A vault that looks every second, and holds everything for `least`.
pub fn impatient(least: Duration) -> TestVault {
    TestVault::start_with(|arguments| {
        (arguments.immutable_for, arguments.sweep_every) = (least, Duration::from_secs(1));
    })
}

/// Lets a vault of luxembourg believe the sites of the archive.
pub fn believe(vault: &TestVault, archive: &Archive) {
    pin(vault, "tallinn", archive.key("tallinn"));
    fs::write(vault.tls("site.pub"), archive.key("luxembourg").public().to_string()).unwrap();
}

pub fn pin(vault: &TestVault, site: &str, key: &SiteKey) {
    vault.host_with_key(site, NAMESPACE, 1 << 30, Some(key.public().to_string()));
}

/// Gives up the first two points of the first epoch.
pub fn order(vault: &str, sequence: i64, previous: &str, immutable_for: i64) -> Thinning {
    Thinning {
        version: THINNING_VERSION,
        namespace: NAMESPACE.to_owned(),
        embassy: EMBASSY.to_owned(),
        vault: vault.to_owned(),
        sequence,
        previous: previous.to_owned(),
        time: Time(Timestamp::UNIX_EPOCH),
        immutable_for,
        epochs: BTreeMap::from([(Epoch::new(1, "tallinn"), Stays { through: 2, points: [].into() })]),
    }
}

pub fn signed(order: &Thinning, site: &str, key: &SiteKey) -> String {
    Envelope::sign(key, site, Purpose::Thinning, serde_json::to_string(order).unwrap()).to_text()
}
