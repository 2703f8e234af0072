//! A vault that gave points up is carried without their bytes: what stays is whole, and the order says why the rest is not.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use data_embassy::{
    carry::{Progress, check::check, failure::Failure, folder::Folder, list::List},
    trust::{envelope::digest, identity::Role, signing::SiteKey},
};

use super::{Desk, keys_of, points_at, shelf};
use crate::{
    archive::{Archive, EMBASSY, NAMESPACE},
    orders::{believe, impatient, order, signed},
    support::vault::TestVault,
};

const SECOND: Duration = Duration::from_secs(1);

fn put(archive: &Archive, vault: &TestVault, sequence: i64, text: &str) {
    let path = format!("/thinnings/{NAMESPACE}/{EMBASSY}/{sequence}");
    let answer = vault.raw("tallinn", Role::Operator).send("PUT", &path, text.to_owned());
    assert_eq!(answer.0, 201, "{} {}", archive.folder().display(), answer.1);
}

fn first_order(archive: &Archive) -> String {
    signed(&order("luxembourg", 1, "", 1), "tallinn", archive.key("tallinn"))
}

/// An archive whose first two points were given up, and freed.
fn thinned() -> Archive {
    let archive = Archive::at(impatient(SECOND));
    believe(&archive.vault, &archive);
    put(&archive, &archive.vault, 1, &first_order(&archive));
    let end = Instant::now() + Duration::from_mins(2);
    while archive.pack_of("first").exists() {
        assert!(Instant::now() < end, "nothing was freed");
        sleep(Duration::from_millis(100));
    }
    archive
}

#[test]
fn what_stays_is_carried_and_a_vault_that_was_lost_is_filled_with_it() {
    let (archive, desk, anew) = (thinned(), Desk::new(), impatient(SECOND));
    believe(&anew, &archive);
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
    exchange(&archive, &desk, &signed(&order("riga", 1, "", 1), "tallinn", archive.key("tallinn")));
    let refused = desk.import(&archive, &other, "1/tallinn").unwrap_err().to_string();
    assert!(refused.contains("given up at the vault of riga"), "{refused}");
    assert_eq!(points_at(&other), 0);
    assert_eq!(objects_at(&other), 0, "it is said before anything is sent");
}

#[test]
fn a_vault_that_was_taken_back_is_told_what_it_lacks() {
    let (archive, desk, old) = (thinned(), Desk::new(), impatient(Duration::from_hours(1)));
    believe(&old, &archive);
    let first = first_order(&archive);
    let second = signed(&order("luxembourg", 2, &digest(&first), 1), "tallinn", archive.key("tallinn"));
    put(&archive, &archive.vault, 2, &second);
    put(&archive, &old, 1, &first);
    desk.export(&archive, "1/tallinn/3").unwrap();
    let refused = desk.import(&archive, &old, "1/tallinn").unwrap_err().to_string();
    assert!(refused.contains("number 1, and the folder comes from a time when it was number 2"), "{refused}");
    assert_eq!(objects_at(&old), 0, "it is said before anything is sent");
}

#[test]
fn an_order_about_another_embassy_gives_nothing_up_here() {
    let (archive, desk, anew) = (thinned(), Desk::new(), impatient(SECOND));
    believe(&anew, &archive);
    desk.export(&archive, "1/tallinn/3").unwrap();
    let other = data_embassy::api::thinning::Thinning {
        embassy: "health".to_owned(),
        ..order("luxembourg", 1, "", 1)
    };
    exchange(&archive, &desk, &signed(&other, "tallinn", archive.key("tallinn")));
    let refused = desk.import(&archive, &anew, "1/tallinn").unwrap_err();
    assert!(refused.to_string().contains("health"), "{refused}");
    assert_eq!(points_at(&anew), 0);
}

#[test]
fn a_forged_order_in_the_folder_explains_no_hole() {
    let (archive, desk, anew) = (thinned(), Desk::new(), impatient(SECOND));
    believe(&anew, &archive);
    desk.export(&archive, "1/tallinn/3").unwrap();
    exchange(
        &archive,
        &desk,
        &signed(&order("luxembourg", 1, "", 1), "tallinn", &SiteKey::generate().unwrap()),
    );
    let refused = desk.import(&archive, &anew, "1/tallinn").unwrap_err();
    assert!(refused.to_string().contains("not signed by the pinned key"), "{refused}");
    let checked = check(
        &Folder::new(&desk.disk()),
        &shelf("1/tallinn"),
        Some(&keys_of(&archive)),
        &Progress::default(),
    );
    assert!(checked.is_err() || !checked.unwrap().damage.is_empty());
    assert_eq!(points_at(&anew), 0);
}

#[test]
fn an_order_that_no_site_signed_is_refused() {
    let (archive, desk) = (thinned(), Desk::new());
    let stored = archive.folder().join("thinnings/1.json");
    fs::write(&stored, signed(&order("luxembourg", 1, "", 1), "tallinn", &SiteKey::generate().unwrap()))
        .unwrap();
    let refused = desk.export(&archive, "1/tallinn/3").unwrap_err();
    assert!(matches!(refused, Failure::Order(_)), "{refused}");
}

/// Puts another order into the folder, as whoever signs its list could.
fn exchange(archive: &Archive, desk: &Desk, text: &str) {
    let shelf = shelf("1/tallinn");
    fs::write(desk.disk().join(shelf.path("order").unwrap()), text).unwrap();
    let list = fs::read_to_string(desk.disk().join(shelf.list())).unwrap();
    let (mut list, _) = List::open(&list, &shelf, None).unwrap();
    let file = list.files.iter_mut().find(|file| file.name == "order").unwrap();
    (file.size, file.sha256) = (text.len() as u64, digest(text));
    fs::write(desk.disk().join(shelf.list()), list.sign("luxembourg", archive.key("luxembourg")).unwrap())
        .unwrap();
}

fn objects_at(vault: &TestVault) -> usize {
    crate::archive::files(&vault.store("embassies"), "/data/").len()
}
