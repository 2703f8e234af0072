//! Everything that a vault's files can suffer: found without a key, or listed here as not to be found, with the reason. And
//! whatever was done to them, a restore gives back the exact bytes or fails.

#![cfg(test)]

#[path = "damage/archive.rs"]
#[allow(dead_code)] // it has more for another suite
mod archive;
#[path = "damage/by_hand.rs"]
mod by_hand;
#[path = "damage/mending.rs"]
mod mending;
#[path = "damage/orders.rs"]
mod orders;
mod support;
#[path = "damage/thinned.rs"]
mod thinned;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use archive::{Archive, EMBASSY, NAMESPACE, files};
use data_embassy::{
    api::replication::Depth,
    mover::outcome::Outcome,
    plan::verification::{Checked, Wrong, list},
};

/// What happens to a file.
#[derive(Debug, Clone, Copy)]
enum Harm {
    /// One bit turns, at so many thousandths of the file.
    Flip(u64),
    /// One bit turns, so far from the end.
    FlipBeforeEnd(u64),
    /// Cut to so many thousandths.
    Cut(u64),
    /// The last byte is gone.
    CutLast,
    /// One byte more.
    Grow,
    Remove,
    /// Another file of its kind is in its place.
    Replace,
}

/// A pack ends with its encrypted header and the header's length, four bytes.
const EVERY_REGION: [Harm; 12] = [
    Harm::Flip(0),
    Harm::Flip(250),
    Harm::Flip(500),
    Harm::Flip(999),
    Harm::FlipBeforeEnd(1),
    Harm::FlipBeforeEnd(4),
    Harm::FlipBeforeEnd(20),
    Harm::Cut(0),
    Harm::Cut(500),
    Harm::CutLast,
    Harm::Grow,
    Harm::Remove,
];

impl Harm {
    /// Whether restores are tried as well: one of each sort.
    const fn is_restored(self) -> bool {
        matches!(self, Self::Flip(500) | Self::FlipBeforeEnd(4) | Self::Cut(_) | Self::Remove | Self::Replace)
    }

    fn do_to(self, path: &Path, other: Option<&Path>) {
        let mut content = fs::read(path).unwrap();
        let length = content.len();
        let at = |thousandths: u64| usize::try_from(length as u64 * thousandths / 1000).unwrap();
        let turn = |content: &mut Vec<u8>, at: usize| content[at.min(length - 1)] ^= 1;
        match self {
            Self::Flip(thousandths) => turn(&mut content, at(thousandths)),
            Self::FlipBeforeEnd(bytes) => {
                turn(&mut content, length.saturating_sub(usize::try_from(bytes).unwrap()));
            }
            Self::Cut(thousandths) => content.truncate(at(thousandths)),
            Self::CutLast => content.truncate(length - 1),
            Self::Grow => content.push(0),
            Self::Remove => return fs::remove_file(path).unwrap(),
            Self::Replace => content = fs::read(other.unwrap()).unwrap(),
        }
        fs::write(path, content).unwrap();
    }
}

/// Path within the embassy's folder, as damage names it.
fn named(archive: &Archive, path: &Path) -> String {
    path.strip_prefix(archive.folder()).unwrap().display().to_string()
}

/// Harms a file, and gives back what the verification says of it; the file is mended again.
fn harmed(archive: &Archive, path: &Path, harm: Harm, other: Option<&Path>) -> Checked {
    let kept = fs::read(path).unwrap();
    harm.do_to(path, other);
    let checked = archive.verify(Depth::Quick);
    if harm.is_restored() {
        archive.assert_restores_are_exact_or_fail(&checked, &format!("{harm:?} {}", path.display()));
    }
    fs::write(path, kept).unwrap();
    checked
}

fn assert_found(archive: &Archive, checked: &Checked, path: &Path, harm: Harm) -> Wrong {
    let file = named(archive, path);
    let what = format!("{harm:?} of {file}: {:?}", checked.damage);
    assert!(!checked.is_sound(), "{what}");
    assert_eq!(checked.damaged_files, 1, "only that file is named: {what}");
    assert_eq!(checked.damage[0].file, file, "{what}");
    checked.damage[0].wrong
}

fn every_harm(archive: &Archive, kind: &str) {
    let all = files(&archive.folder(), kind);
    assert!(!all.is_empty(), "{kind}");
    for (index, path) in all.iter().enumerate() {
        for harm in EVERY_REGION {
            let checked = harmed(archive, path, harm, None);
            let wrong = assert_found(archive, &checked, path, harm);
            let expected = if matches!(harm, Harm::Remove) { Wrong::Missing } else { Wrong::Altered };
            assert_eq!(wrong, expected, "{harm:?} of {kind}");
        }
        let other = &all[(index + 1) % all.len()];
        let checked = harmed(archive, path, Harm::Replace, Some(other));
        assert_eq!(assert_found(archive, &checked, path, Harm::Replace), Wrong::Altered, "{kind}");
    }
    let checked = archive.verify(Depth::Quick);
    assert!(checked.is_sound(), "mended: {:?}", checked.damage);
}

#[test]
fn a_sound_vault_is_sound_at_both_depths() {
    let archive = Archive::new();
    for depth in [Depth::Quick, Depth::Deep] {
        let checked = archive.verify(depth);
        assert!(checked.is_sound(), "{:?}", checked.damage);
        assert_eq!(checked.points, 4);
        let stored = files(&archive.folder(), "").len();
        // The file with the owner's name is the vault's own, and in a bucket the mark of each repository.
        let own = 1 + files(&archive.folder(), "/made").len();
        assert_eq!(usize::try_from(checked.files).unwrap(), stored - own);
        assert_eq!(
            checked.reached.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["1/tallinn/3", "2/luxembourg/1"]
        );
    }
}

#[test]
fn packs() {
    every_harm(&Archive::new(), "/data/");
}

#[test]
fn indexes() {
    every_harm(&Archive::new(), "/index/");
}

#[test]
fn snapshots() {
    every_harm(&Archive::new(), "/snapshots/");
}

#[test]
fn inventories() {
    every_harm(&Archive::new(), "/inventories/");
}

#[test]
fn configurations() {
    every_harm(&Archive::new(), "/config");
}

#[test]
fn damage_names_the_points_that_it_costs_and_no_others() {
    let archive = Archive::new();
    let cost_of = |path: &Path| list(&harmed(&archive, path, Harm::Flip(500), None).affected);
    // Written for point 1 with a file that point 3 lacks, and for point 2.
    assert_eq!(cost_of(&archive.pack_of("first")), "1/tallinn/1-2");
    assert_eq!(cost_of(&archive.pack_of("second")), "1/tallinn/2-3");
    assert_eq!(cost_of(&archive.pack_of("abroad")), "2/luxembourg/1");
    let last = archive.snapshot_file(2);
    assert_eq!(cost_of(&last), "1/tallinn/3");
}

#[test]
fn manifests() {
    documents("points/", true);
}

#[test]
fn letters() {
    documents("mail/", false);
}

/// Every kind of harm, and a turned bit in every part of a signed document. Points are cost by their manifest's damage.
fn documents(folder: &str, costs: bool) {
    let archive = Archive::new();
    let all = files(&archive.folder(), folder);
    assert!(all.len() >= 4);
    for path in &all {
        let length = fs::metadata(path).unwrap().len();
        let everywhere = (0..length).step_by(23).map(Harm::FlipBeforeEnd);
        let harms =
            EVERY_REGION.into_iter().chain(everywhere.filter(|harm| !matches!(harm, Harm::FlipBeforeEnd(0))));
        for harm in harms {
            let checked = harmed(&archive, path, harm, None);
            let wrong = assert_found(&archive, &checked, path, harm);
            let expected = if matches!(harm, Harm::Remove) { Wrong::Missing } else { Wrong::NotGenuine };
            assert_eq!(wrong, expected, "{harm:?}");
            assert_eq!(checked.affected.len(), usize::from(costs), "{harm:?}: {:?}", checked.affected);
        }
        let other = all.iter().find(|other| *other != path && other.parent() == path.parent());
        if let Some(other) = other {
            let checked = harmed(&archive, path, Harm::Replace, Some(other));
            assert_eq!(assert_found(&archive, &checked, path, Harm::Replace), Wrong::NotGenuine);
        }
    }
}

#[test]
fn another_genuine_document_in_the_place_of_a_seen_one() {
    let archive = Archive::new();
    // What a site signs that was restored from an old backup.
    archive.sign_again(2);
    let checked = archive.verify(Depth::Quick);
    let found: Vec<_> = checked.damage.iter().map(|damage| (damage.file.as_str(), damage.wrong)).collect();
    assert_eq!(found, [("points/1-tallinn/3.json", Wrong::OutOfLine)], "what follows it does not");
    archive.sign_again(3);
    let checked = archive.verify(Depth::Quick);
    assert!(checked.damage.iter().any(|damage| damage.wrong == Wrong::RolledBack), "{:?}", checked.damage);
}

#[test]
fn a_vault_that_is_taken_back_in_time() {
    let mut archive = Archive::new();
    archive.take_back();
    let checked = archive.verify(Depth::Quick);
    let found: Vec<_> = checked.damage.iter().map(|damage| (damage.file.as_str(), damage.wrong)).collect();
    assert_eq!(
        found,
        [
            ("points/1-tallinn/3.json", Wrong::Missing),
            ("points/2-luxembourg/1.json", Wrong::Missing),
            ("mail/luxembourg/1.json to 2.json", Wrong::Missing),
            ("mail/tallinn/3.json", Wrong::Missing),
        ]
    );
    assert_eq!(list(&checked.affected), "1/tallinn/3, 2/luxembourg/1");
    // Not to be found: without a memory of its own nobody can tell an old vault from a young one. It is why the memory lies
    // with the operator, and why the other site's letters name its newest point.
    assert!(archive.verify_without_memory(Depth::Quick).is_sound());
}

#[test]
fn a_file_that_the_disk_cannot_read() {
    let archive = Archive::new();
    let pack = archive.pack_of("first");
    fs::remove_file(&pack).unwrap();
    fs::create_dir(&pack).unwrap();
    let checked = archive.verify(Depth::Quick);
    assert_eq!(assert_found(&archive, &checked, &pack, Harm::Remove), Wrong::Unreadable);
    assert_eq!(list(&checked.affected), "1/tallinn/1-2");
}

#[test]
fn what_no_committed_point_needs_is_not_missed() {
    // Not to be found, and no loss: what an interrupted copy left is named by no manifest.
    let archive = Archive::new();
    let left = archive.leave_uncommitted();
    assert!(archive.verify(Depth::Quick).is_sound());
    let checked = harmed(&archive, &left[0], Harm::Flip(500), None);
    assert_eq!(assert_found(&archive, &checked, &left[0], Harm::Flip(500)), Wrong::Altered);
    // It is an index, and whoever opens the repository reads all of them.
    assert_eq!(list(&checked.affected), "1/tallinn/1-3");
    let pack = left.iter().find(|path| path.display().to_string().contains("/data/")).unwrap();
    let checked = harmed(&archive, pack, Harm::Flip(500), None);
    assert_eq!(assert_found(&archive, &checked, pack, Harm::Flip(500)), Wrong::Altered);
    assert!(checked.affected.is_empty(), "{:?}", checked.affected);
    for path in left {
        fs::remove_file(path).unwrap();
    }
    assert!(archive.verify(Depth::Quick).is_sound());
}

#[test]
fn what_its_owner_stored_wrong_takes_the_key_to_see() {
    // Not to be found without a key: the bytes are the ones that home stored and signed.
    let archive = Archive::new();
    archive.sign_another_content();
    assert!(archive.verify_without_memory(Depth::Quick).is_sound());
    let checked = archive.verify_without_memory(Depth::Deep);
    assert_eq!(checked.damage[0].wrong, Wrong::Undecodable, "{:?}", checked.damage);
    assert_eq!(list(&checked.affected), "1/tallinn/3");
}

#[test]
fn a_key_of_another_epoch_opens_nothing() {
    let mut archive = Archive::new();
    archive.swap_keys();
    let checked = archive.verify(Depth::Deep);
    assert!(checked.damage.iter().all(|damage| damage.wrong == Wrong::Undecodable), "{:?}", checked.damage);
    assert_eq!(list(&checked.affected), "1/tallinn/1-3, 2/luxembourg/1");
}

#[test]
fn the_program_says_it_in_its_outcome() {
    let archive = Archive::new();
    archive.write_credentials();
    let pack = archive.pack_of("second");
    Harm::Cut(500).do_to(&pack, None);
    let log = archive.path("termination-log");
    let status = Command::new(env!("CARGO_BIN_EXE_data-embassy"))
        .args(["mover", "verify", "--depth=Deep"])
        .args([format!("--vault={}", archive.vault.url()), format!("--termination-log={}", log.display())])
        .arg(format!("--credentials={}", archive.path("credentials").display()))
        .args([format!("--namespace={NAMESPACE}"), format!("--embassy={EMBASSY}")])
        .args(archive.arguments())
        .status()
        .unwrap();
    assert!(status.success(), "damage is a result, not a failure");
    let text = fs::read_to_string(log).unwrap();
    assert!(text.len() < 4096, "{}", text.len());
    let Outcome::Verify(done) = Outcome::parse(&text).unwrap() else { panic!("{text}") };
    assert_eq!(PathBuf::from(&done.checked.damage[0].file), pack.strip_prefix(archive.folder()).unwrap());
    assert_eq!(list(&done.checked.affected), "1/tallinn/2-3");
    assert_eq!(done.points.len(), 2, "sound chains are remembered: {:?}", done.points);
}
