//! Damage and the next copy: what is damaged is not built on, so later points are whole, and are restored around it.

use std::{fs, path::Path};

use data_embassy::api::replication::Depth;

use super::{
    Harm,
    archive::{Archive, files},
    list,
};

const EPOCH: &str = "1/tallinn";

/// What home is told of the epoch's damage.
fn told(archive: &Archive) -> Vec<String> {
    archive.verify(Depth::Quick).wrong_objects(&EPOCH.parse().unwrap())
}

/// Harms the file for good, and makes the next copy as home does that was told of it. Returns the bytes that it sent.
fn copied_around(archive: &mut Archive, path: &Path, harm: Harm) -> u64 {
    harm.do_to(path, None);
    let damaged = told(archive);
    assert!(!damaged.is_empty(), "{harm:?} of {}", path.display());
    archive.add_around(EPOCH, damaged)
}

/// Of the points of the epoch only those are damaged, and the two newest come back.
fn assert_mended(archive: &Archive, costs: &str, what: &str) {
    for depth in [Depth::Quick, Depth::Deep] {
        let checked = archive.verify(depth);
        assert_eq!(list(&checked.affected), costs, "{what} at {depth}: {:?}", checked.damage);
        archive.assert_restores_are_exact_or_fail(&checked, what);
    }
    for point in ["1/tallinn/4", "1/tallinn/5"] {
        archive.assert_restores(point, what);
    }
}

#[test]
fn the_next_copy_does_not_build_on_a_damaged_pack() {
    for harm in [Harm::Flip(500), Harm::FlipBeforeEnd(4), Harm::Cut(500), Harm::Grow, Harm::Remove] {
        let mut archive = Archive::new();
        let pack = archive.pack_of("second");
        let what = format!("{harm:?} of a pack");
        let sent = copied_around(&mut archive, &pack, harm);
        assert!(sent > 250_000, "{what}: {sent} bytes were sent, less than was damaged");
        let damaged = told(&archive);
        let again = archive.add_around(EPOCH, damaged);
        assert!(again < 50_000, "{what}: {again} bytes were sent, so what was stored again was not used");
        assert_mended(&archive, "1/tallinn/2-3", &what);
    }
}

#[test]
fn damage_that_is_told_no_more_is_not_built_on_again() {
    let mut archive = Archive::new();
    let first = archive.pack_of("second");
    copied_around(&mut archive, &first, Harm::Flip(500));
    // What was stored in its place is damaged as well, and a report has room for so many names only.
    let second = archive.pack_of("around");
    Harm::Flip(500).do_to(&second, None);
    let second = format!("data/{}", second.file_name().unwrap().to_str().unwrap());
    archive.add_around(EPOCH, vec![second]);
    let checked = archive.verify(Depth::Deep);
    assert_eq!(list(&checked.affected), "1/tallinn/2-4", "{:?}", checked.damage);
    archive.assert_restores("1/tallinn/5", "two packs, told one after the other");
}

#[test]
fn the_next_copy_does_not_build_on_a_damaged_index_or_snapshot() {
    for kind in ["index", "snapshots"] {
        for harm in [Harm::Flip(500), Harm::Cut(500), Harm::Remove] {
            let mut archive = Archive::new();
            let what = format!("{harm:?} in {kind}");
            let path = files(&archive.folder(), &format!("1-tallinn/{kind}/"))[0].clone();
            copied_around(&mut archive, &path, harm);
            let damaged = told(&archive);
            archive.add_around(EPOCH, damaged);
            for point in ["1/tallinn/4", "1/tallinn/5"] {
                archive.assert_restores(point, &what);
            }
        }
    }
}

#[test]
fn a_pack_that_is_gone_or_cut_is_stored_again_by_a_home_that_was_not_told() {
    for harm in [Harm::Remove, Harm::Cut(500), Harm::Cut(0), Harm::Grow] {
        let mut archive = Archive::new();
        harm.do_to(&archive.pack_of("second"), None);
        let sent = archive.add_around(EPOCH, vec![]);
        assert!(sent > 250_000, "{harm:?}: {sent} bytes were sent, less than is gone");
        archive.add_around(EPOCH, vec![]);
        assert_mended(&archive, "1/tallinn/2-3", &format!("{harm:?} of a pack"));
    }
}

#[test]
fn a_file_that_is_put_back_mends_all_points() {
    let mut archive = Archive::new();
    let pack = archive.pack_of("second");
    let kept = fs::read(&pack).unwrap();
    copied_around(&mut archive, &pack, Harm::Flip(500));
    fs::write(&pack, kept).unwrap();
    archive.add_around(EPOCH, vec![]);
    for depth in [Depth::Quick, Depth::Deep] {
        let checked = archive.verify(depth);
        assert!(checked.is_sound(), "{:?}", checked.damage);
        archive.assert_restores_are_exact_or_fail(&checked, "put back");
    }
}
