//! A first copy that is carried: from the volumes into a folder by the real program, killed on its way, imported, and built on by
//! the next ordinary copy.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use data_embassy::{
    carry::{
        Progress,
        export::{Signer, first_copy, prepare_first_copy},
        failure::Failure,
        folder::Folder,
        line::serve,
        list::List,
    },
    mover::outcome::{Outcome, Reason},
};

use crate::{
    Desk,
    archive::{Archive, files},
    empty_vault, points_at, shelf,
};

const MIB: usize = 1 << 20;
const EPOCH: &str = "1/tallinn";

fn mover(volumes: &Path, claim: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_data-embassy"))
        .args(["mover", "first-copy", "--termination-log=/dev/null"])
        .args([format!("--volumes={}", volumes.display()), format!("--claim={claim}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// As the plugin does it. The mover is killed once the disk holds more than `most` bytes of packs.
fn take(
    desk: &Desk,
    archive: &Archive,
    key: &str,
    claim: &str,
    most: u64,
) -> Result<(Outcome, List), Failure> {
    let (folder, progress, shelf) = (Folder::prepare(&desk.disk())?, Progress::default(), shelf(EPOCH));
    prepare_first_copy(&folder, &shelf, &progress)?;
    let mut child = mover(&archive.path("home"), claim);
    let (from, to) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    let said = std::thread::scope(|scope| {
        let (folder, shelf, progress) = (&folder, &shelf, &progress);
        let served = scope.spawn(move || serve(folder, shelf, key, from, to, progress));
        while !served.is_finished() {
            let packs = files(&desk.disk(), "/data/").into_iter().filter_map(|path| fs::metadata(path).ok());
            if packs.map(|metadata| metadata.len()).sum::<u64>() > most {
                child.kill().unwrap();
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        child.wait().unwrap();
        served.join().unwrap()
    })?;
    let list =
        first_copy(&folder, &shelf, &Signer { site: "tallinn", key: archive.key("tallinn") }, &progress)?;
    Ok((Outcome::parse(&said).unwrap(), list))
}

#[test]
fn the_next_copy_builds_on_what_was_carried() {
    let (mut archive, desk) = (Archive::new(), Desk::new());
    fs::write(archive.path("home/data/large"), vec![7; 1]).unwrap();
    archive.add("2/luxembourg", 5, 80 * MIB);
    // A new register at home, with a line that is too slow: nothing of its epoch is abroad.
    let other = empty_vault();
    let key = archive.repository_key(EPOCH).to_owned();
    for most in [20 * MIB as u64, 50 * MIB as u64] {
        let failure = take(&desk, &archive, &key, "data", most).unwrap_err();
        assert!(matches!(failure, Failure::Broken(_)), "{failure}");
        assert!(!desk.disk().join(shelf(EPOCH).list()).exists(), "it is not called finished");
    }
    let kept = files(&desk.disk(), "/data/");
    let (outcome, list) = take(&desk, &archive, &key, "data", u64::MAX).unwrap();
    assert!(outcome.is_success(), "{outcome:?}");
    assert!(kept.len() > 2 && kept.iter().all(|pack| pack.exists()), "what was there whole is used");
    assert_eq!(list.point, None);
    assert!(list.files.iter().all(|file| !file.name.starts_with("snapshots/") && file.name != "config"));
    desk.import(&archive, &other, EPOCH).unwrap();
    assert_eq!(points_at(&other), 0, "it is no recovery point until home signs one");

    // The register went on meanwhile.
    fs::write(archive.path("home/data/new"), vec![9; 300_000]).unwrap();
    archive.vault = other;
    archive.begin_anew();
    let sent = archive.add(EPOCH, 6, 200_000);
    assert!(sent < MIB as u64, "{sent} bytes were sent although all but 500 kB had been carried");
    assert_eq!(archive.restored_from(&archive.vault), ["1/tallinn/1"]);
    assert!(archive.verify_at(&archive.vault).is_sound());
}

#[test]
fn a_damaged_pack_on_the_disk_is_made_again_and_no_list_names_one_that_is_lost() {
    let (archive, desk) = (Archive::new(), Desk::new());
    let key = archive.repository_key(EPOCH).to_owned();
    take(&desk, &archive, &key, "data", u64::MAX).unwrap();
    let packs = files(&desk.disk(), "/data/");
    let mut content = fs::read(&packs[0]).unwrap();
    content[10] ^= 1;
    fs::write(&packs[0], content).unwrap();
    fs::remove_file(packs.last().unwrap()).unwrap();
    take(&desk, &archive, &key, "data", u64::MAX).unwrap();
    let mut archive = archive;
    archive.vault = empty_vault();
    desk.import(&archive, &archive.vault, EPOCH).unwrap();
    archive.begin_anew();
    archive.add(EPOCH, 8, 1000);
    assert_eq!(archive.restored_from(&archive.vault), ["1/tallinn/1"]);
}

#[test]
fn a_first_copy_that_another_site_signed_is_refused() {
    let (archive, desk) = (Archive::new(), Desk::new());
    let key = archive.repository_key(EPOCH).to_owned();
    take(&desk, &archive, &key, "data", u64::MAX).unwrap();
    let signer = Signer { site: "luxembourg", key: archive.key("luxembourg") };
    let folder = Folder::prepare(&desk.disk()).unwrap();
    first_copy(&folder, &shelf(EPOCH), &signer, &Progress::default()).unwrap();
    let refused = desk.import(&archive, &empty_vault(), EPOCH).unwrap_err();
    assert!(refused.to_string().contains("signed by its site, and not by 'luxembourg'"), "{refused}");
}

#[test]
fn a_mover_that_cannot_says_why() {
    let (archive, desk) = (Archive::new(), Desk::new());
    let key = archive.repository_key(EPOCH).to_owned();
    let (outcome, _) = take(&desk, &archive, &key, "nothing", u64::MAX).unwrap();
    let Outcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failed.reason, Reason::VolumeMissing);
    let (outcome, _) = take(&desk, &archive, "no key", "data", u64::MAX).unwrap();
    let Outcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failed.reason, Reason::KeyInvalid);
}
