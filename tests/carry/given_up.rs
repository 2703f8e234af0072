//! A vault that gave points up is carried without their bytes: what stays is whole, and the order says why the rest is not.

use std::{
    collections::BTreeMap,
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use data_embassy::{
    api::{
        epoch::Epoch,
        thinning::{Stays, THINNING_VERSION, Thinning},
    },
    carry::{Progress, check::check, failure::Failure, folder::Folder},
    trust::{
        envelope::{Envelope, Purpose},
        identity::Role,
        signing::SiteKey,
    },
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{Desk, keys_of, shelf};
use crate::{
    archive::{Archive, EMBASSY, NAMESPACE},
    support::vault::TestVault,
};

const SECOND: Duration = Duration::from_secs(1);

/// A vault of luxembourg that believes the sites of the archive.
fn vault() -> TestVault {
    TestVault::start_with(|arguments| (arguments.immutable_for, arguments.sweep_every) = (SECOND, SECOND))
}

fn pin(vault: &TestVault, archive: &Archive) {
    let key = archive.key("tallinn").public().to_string();
    vault.host_with_key("tallinn", NAMESPACE, 1 << 30, Some(key));
    fs::write(vault.tls("site.pub"), archive.key("luxembourg").public().to_string()).unwrap();
}

fn order(vault: &str, key: &SiteKey) -> String {
    let order = Thinning {
        version: THINNING_VERSION,
        namespace: NAMESPACE.to_owned(),
        embassy: EMBASSY.to_owned(),
        vault: vault.to_owned(),
        sequence: 1,
        previous: String::new(),
        time: Time(Timestamp::UNIX_EPOCH),
        immutable_for: 1,
        epochs: BTreeMap::from([(Epoch::new(1, "tallinn"), Stays { through: 2, points: [].into() })]),
    };
    Envelope::sign(key, "tallinn", Purpose::Thinning, serde_json::to_string(&order).unwrap()).to_text()
}

/// An archive whose first two points were given up, and freed.
fn thinned() -> Archive {
    let archive = Archive::at(vault());
    pin(&archive.vault, &archive);
    let path = format!("/thinnings/{NAMESPACE}/{EMBASSY}/1");
    let order = order("luxembourg", archive.key("tallinn"));
    assert_eq!(archive.vault.raw("tallinn", Role::Operator).send("PUT", &path, order).0, 201);
    let end = Instant::now() + Duration::from_mins(2);
    while archive.pack_of("first").exists() {
        assert!(Instant::now() < end, "nothing was freed");
        sleep(Duration::from_millis(100));
    }
    archive
}

#[test]
fn what_stays_is_carried_and_a_vault_that_was_lost_is_filled_with_it() {
    let (archive, desk, anew) = (thinned(), Desk::new(), vault());
    pin(&anew, &archive);
    desk.export(&archive, "1/tallinn/3").unwrap();
    let checked = check(
        &Folder::new(&desk.disk()),
        &shelf("1/tallinn"),
        Some(&keys_of(&archive)),
        &Progress::default(),
    );
    assert_eq!(checked.unwrap().damage, Vec::<String>::new());
    assert_eq!(
        desk.import(&archive, &archive.vault, "1/tallinn").unwrap(),
        0,
        "the vault has all that it needs"
    );
    desk.import(&archive, &anew, "1/tallinn").unwrap();
    archive.assert_comes_back_from(&anew, "1/tallinn/3");
    let found = archive.verify_at(&anew);
    assert!(found.is_sound(), "{:?}", found.damage);
    assert_eq!(desk.import(&archive, &anew, "1/tallinn").unwrap(), 0, "nothing is sent again");
}

#[test]
fn a_point_that_was_given_up_is_not_carried_as_if_it_were_whole() {
    let (archive, desk) = (thinned(), Desk::new());
    let refused = desk.export(&archive, "1/tallinn/2").unwrap_err();
    assert!(matches!(refused, Failure::GivenUp(_)), "{refused}");
}

#[test]
fn a_vault_of_another_site_that_never_held_them_is_told_why_it_cannot_take_them() {
    let (archive, desk, other) = (thinned(), Desk::new(), super::empty_vault());
    desk.export(&archive, "1/tallinn/3").unwrap();
    // As if it had been exported at riga.
    let (shelf, key) = (shelf("1/tallinn"), archive.key("luxembourg"));
    let text = order("riga", archive.key("tallinn"));
    let path = desk.disk().join(shelf.path("order").unwrap());
    fs::write(&path, &text).unwrap();
    let (mut list, _) = data_embassy::carry::list::List::open(
        &fs::read_to_string(desk.disk().join(shelf.list())).unwrap(),
        &shelf,
        None,
    )
    .unwrap();
    let file = list.files.iter_mut().find(|file| file.name == "order").unwrap();
    (file.size, file.sha256) = (text.len() as u64, data_embassy::trust::envelope::digest(&text));
    fs::write(desk.disk().join(shelf.list()), list.sign("luxembourg", key).unwrap()).unwrap();
    let refused = desk.import(&archive, &other, "1/tallinn").unwrap_err().to_string();
    assert!(refused.contains("given up at the vault of riga"), "{refused}");
    assert_eq!(super::points_at(&other), 0);
}

#[test]
fn an_order_that_no_site_signed_is_refused() {
    let (archive, desk) = (thinned(), Desk::new());
    let stored = archive.folder().join("thinnings/1.json");
    fs::write(&stored, order("luxembourg", &SiteKey::generate().unwrap())).unwrap();
    let refused = desk.export(&archive, "1/tallinn/3").unwrap_err();
    assert!(matches!(refused, Failure::Order(_)), "{refused}");
}
