//! Recovery points that were given up: their bytes go when they may, all that stays is whole, and nothing of that is called damage.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use data_embassy::{
    api::{
        epoch::Epoch,
        replication::Depth,
        thinning::{THINNING_VERSION, Thinning},
    },
    plan::verification::Wrong,
    trust::{envelope::digest, identity::Role, signing::SiteKey},
};

use crate::{
    archive::{Archive, EMBASSY, NAMESPACE, files},
    orders::{believe, impatient, order, signed},
    support::vault::BUCKET,
};

const SECOND: Duration = Duration::from_secs(1);

/// An archive at a vault that looks every second, and holds everything for `least`.
fn archive(least: Duration) -> Archive {
    let archive = Archive::at(impatient(least));
    believe(&archive.vault, &archive);
    archive
}

fn put(archive: &Archive, site: &str, sequence: i64, text: &str) -> (u16, String) {
    let path = format!("/thinnings/{NAMESPACE}/{EMBASSY}/{sequence}");
    archive.vault.raw(site, Role::Operator).send("PUT", &path, text.to_owned())
}

fn packs(archive: &Archive) -> usize {
    files(&archive.folder(), "/data/").len()
}

/// Rounds of the vault, by the time at which it says that the last one began.
fn rounds(archive: &Archive, count: usize) {
    let began = || fs::read_to_string(archive.vault.store("clock")).unwrap_or_default();
    let end = Instant::now() + Duration::from_mins(2);
    for _ in 0..count {
        let before = began();
        while began() == before {
            assert!(Instant::now() < end, "the vault does not look any more");
            sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn bytes_of_what_was_given_up_go_and_the_rest_is_whole() {
    let mut archive = archive(SECOND);
    let _beside = archive.vault.beside();
    let before = packs(&archive);
    let key = archive.key("tallinn");
    assert_eq!(put(&archive, "tallinn", 1, &signed(&order("luxembourg", 1, "", 1), "tallinn", key)).0, 201);
    let end = Instant::now() + Duration::from_mins(2);
    while archive.pack_of("first").exists() {
        assert!(Instant::now() < end, "nothing was freed: {} packs", packs(&archive));
        sleep(Duration::from_millis(100));
    }
    assert!(packs(&archive) < before);
    let recorded = files(&archive.folder().join("freed"), ".json");
    let name = archive.pack_of("first").file_name().unwrap().to_str().unwrap().to_owned();
    assert!(fs::read_to_string(&recorded[0]).unwrap().contains(&name), "it is written down");
    if let Some(objects) = &archive.vault.objects {
        assert!(objects.versions(BUCKET, &name).is_empty(), "no version of it is left");
    }
    for depth in [Depth::Quick, Depth::Deep] {
        let checked = archive.verify(depth);
        assert!(checked.is_sound(), "{depth}: {:?}", checked.damage);
    }
    assert!(archive.comes_back(2) && archive.comes_back(3), "what stays comes back");
    assert!(!archive.comes_back(0), "what was given up is not called whole");
    // The same bytes once more: the old index says that they are here.
    let again = archive.copy_first_again();
    assert!(archive.comes_back(again) && archive.comes_back(2));
    let checked = archive.verify(Depth::Deep);
    assert!(checked.is_sound(), "{:?}", checked.damage);
}

#[test]
fn neither_the_owner_nor_the_host_frees_anything_before_its_time() {
    for (least, ordered) in [(Duration::from_hours(1), 1), (SECOND, 3_600)] {
        let archive = archive(least);
        let before = packs(&archive);
        let key = archive.key("tallinn");
        assert_eq!(
            put(&archive, "tallinn", 1, &signed(&order("luxembourg", 1, "", ordered), "tallinn", key)).0,
            201
        );
        rounds(&archive, 5);
        assert_eq!(packs(&archive), before, "{least:?} {ordered}");
        assert!(files(&archive.folder().join("freed"), "").is_empty());
    }
}

#[test]
fn orders_that_are_not_right_are_refused_with_a_sentence() {
    let archive = archive(Duration::from_hours(1));
    let (tallinn, luxembourg) = (archive.key("tallinn"), archive.key("luxembourg"));
    let stranger = SiteKey::generate().unwrap();
    let first = signed(&order("luxembourg", 1, "", 60), "tallinn", tallinn);
    let refused = |site: &str, sequence: i64, text: &str, says: &str| {
        let (status, answer) = put(&archive, site, sequence, text);
        assert!(status >= 400 && answer.contains(says), "{status} {answer}: {says}");
    };
    refused(
        "tallinn",
        1,
        &signed(&order("luxembourg", 1, "", 60), "tallinn", &stranger),
        "not signed by the pinned key",
    );
    refused("tallinn", 1, &signed(&order("luxembourg", 1, "", 60), "riga", &stranger), "'riga' has no say");
    refused(
        "tallinn",
        1,
        &signed(&order("luxembourg", 1, "", 60), "luxembourg", &stranger),
        "not signed by the pinned key",
    );
    refused("riga", 1, &signed(&order("luxembourg", 1, "", 60), "riga", &stranger), "no policy");
    let elsewhere = Thinning { vault: "riga".to_owned(), ..order("luxembourg", 1, "", 60) };
    refused("tallinn", 1, &signed(&elsewhere, "tallinn", tallinn), "at riga");
    refused("tallinn", 2, &first, "order 1 about");
    let newer = Thinning { version: THINNING_VERSION + 1, ..order("luxembourg", 1, "", 60) };
    refused("tallinn", 1, &signed(&newer, "tallinn", tallinn), "version 2");
    assert_eq!(put(&archive, "tallinn", 1, &first).0, 201);
    assert_eq!(put(&archive, "tallinn", 1, &first).0, 200, "the same again is no error");
    refused(
        "tallinn",
        3,
        &signed(&order("luxembourg", 3, &digest(&first), 60), "tallinn", tallinn),
        "does not follow order 1",
    );
    let shorter = signed(&order("luxembourg", 2, &digest(&first), 59), "tallinn", tallinn);
    refused("tallinn", 2, &shorter, "can only grow");
    let mut returns = order("luxembourg", 2, &digest(&first), 60);
    returns.epochs.get_mut(&Epoch::new(1, "tallinn")).unwrap().points.insert(1);
    refused("tallinn", 2, &signed(&returns, "tallinn", tallinn), "was given up");
    // The site of the vault may go on where home stopped.
    let second = signed(&order("luxembourg", 2, &digest(&first), 60), "luxembourg", luxembourg);
    assert_eq!(put(&archive, "luxembourg", 2, &second).0, 201);
    let mover = archive.vault.raw("tallinn", Role::Mover);
    let path = format!("/thinnings/{NAMESPACE}/{EMBASSY}/3");
    assert_eq!(mover.refused("PUT", &path, "").1, "NotForMovers");
    archive.vault.host("tallinn", NAMESPACE, 1 << 30);
    let third = signed(&order("luxembourg", 3, &digest(&second), 60), "tallinn", tallinn);
    refused("tallinn", 3, &third, "no signing key of site 'tallinn' is pinned");
}

#[test]
fn only_a_genuine_order_explains_what_is_missing() {
    let archive = archive(Duration::from_hours(1));
    let forged = signed(&order("luxembourg", 1, "", 60), "tallinn", &SiteKey::generate().unwrap());
    fs::create_dir(archive.folder().join("thinnings")).unwrap();
    fs::write(archive.folder().join("thinnings/1.json"), forged).unwrap();
    fs::remove_file(archive.pack_of("first")).unwrap();
    let checked = archive.verify(Depth::Quick);
    let wrong: Vec<_> = checked.damage.iter().map(|found| (found.file.as_str(), found.wrong)).collect();
    assert!(wrong.contains(&("thinnings/1.json", Wrong::NotGenuine)), "{wrong:?}");
    assert!(wrong.iter().any(|(_, wrong)| *wrong == Wrong::Missing), "{wrong:?}");
}
