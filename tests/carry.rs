//! Copies that are carried by hand: out of one real vault, into another one, over TLS; broken off anywhere, damaged anywhere.

#![cfg(test)]

#[path = "damage/archive.rs"]
#[allow(dead_code)] // it has more for another suite
mod archive;
#[path = "carry/cut.rs"]
mod cut;
#[path = "carry/first_copy.rs"]
mod first_copy;
#[path = "carry/given_up.rs"]
mod given_up;
#[path = "damage/orders.rs"]
mod orders;
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use archive::{Archive, EMBASSY, NAMESPACE, files};
use data_embassy::{
    carry::{
        Progress,
        check::check,
        export::{Export, Signer},
        failure::Failure,
        folder::{Folder, Shelf},
        import::{Trust, import},
        list::List,
        way::Way,
    },
    trust::{identity::Role, signing::PublicKey, tls::Forward},
};
use support::vault::TestVault;
use tokio::runtime::Runtime;

/// The person at a desk with a disk.
struct Desk {
    runtime: Runtime,
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { runtime, folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() }
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn way(&self, vault: &TestVault, site: &str) -> Way {
        Way {
            url: vault.url(),
            operator: vault.material(site, Role::Operator),
            mover: vault.material(site, Role::Mover),
            forward: None,
            runtime: self.runtime.handle().clone(),
        }
    }

    /// Exports up to a point; bytes that went over the line.
    fn export(&self, archive: &Archive, point: &str) -> Result<(List, u64), Failure> {
        let progress = Progress::default();
        let export = Export {
            way: &self.way(&archive.vault, "luxembourg"),
            keys: &keys_of(archive),
            folder: &Folder::prepare(&self.disk())?,
            signer: &Signer { site: "luxembourg", key: archive.key("luxembourg") },
            progress: &progress,
        };
        let list = export.points((NAMESPACE, EMBASSY), Some(&point.parse().unwrap()))?;
        Ok((list, progress.bytes_moved()))
    }

    /// Imports an epoch as the site whose it is; bytes that went over the line.
    fn import(&self, archive: &Archive, vault: &TestVault, epoch: &str) -> Result<u64, Failure> {
        self.import_with(archive, vault, epoch, Trust::Listed)
    }

    fn import_with(
        &self,
        archive: &Archive,
        vault: &TestVault,
        epoch: &str,
        trust: Trust,
    ) -> Result<u64, Failure> {
        let (progress, at) = (Progress::default(), shelf(epoch));
        let way = self.way(vault, &at.epoch.site);
        import(&Folder::new(&self.disk()), &at, &keys_of(archive), &way, trust, &progress)?;
        Ok(progress.bytes_moved())
    }
}

fn shelf(epoch: &str) -> Shelf {
    Shelf { namespace: NAMESPACE.to_owned(), embassy: EMBASSY.to_owned(), epoch: epoch.parse().unwrap() }
}

fn keys_of(archive: &Archive) -> impl Fn(&str) -> Option<PublicKey> {
    |site| Some(archive.key(site).public())
}

/// A vault that hosts tallinn and holds nothing yet.
fn empty_vault() -> TestVault {
    let vault = TestVault::start();
    vault.host("tallinn", NAMESPACE, 1 << 30);
    vault
}

fn carried_files(disk: &Path) -> Vec<PathBuf> {
    files(&disk.join("embassies"), "/repo/")
        .into_iter()
        .chain(files(&disk.join("embassies"), "/points/"))
        .collect()
}

fn bytes_of(files: &[PathBuf]) -> u64 {
    files.iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

/// How many manifests a vault holds.
fn points_at(vault: &TestVault) -> usize {
    files(&vault.store("embassies"), "/points/").len()
}

#[test]
fn what_is_carried_comes_back_from_another_vault_byte_for_byte() {
    let (archive, desk, other) = (Archive::new(), Desk::new(), empty_vault());
    let (list, _) = desk.export(&archive, "1/tallinn/3").unwrap();
    assert_eq!(list.point.unwrap().to_string(), "1/tallinn/3");
    desk.export(&archive, "2/luxembourg/1").unwrap();
    let folders = fs::read_dir(desk.disk()).unwrap().count();
    assert_eq!(folders, 1, "nothing unfinished is left");
    for epoch in ["1/tallinn", "2/luxembourg"] {
        desk.import(&archive, &other, epoch).unwrap();
    }
    let restored = archive.restored_from(&other);
    assert_eq!(restored, ["1/tallinn/1", "1/tallinn/2", "1/tallinn/3", "2/luxembourg/1"]);
    let checked = archive.verify_at(&other);
    assert!(checked.is_sound(), "{:?}", checked.damage);
    assert_eq!(desk.import(&archive, &other, "1/tallinn").unwrap(), 0, "nothing is sent again");
    assert_eq!(desk.export(&archive, "1/tallinn/3").unwrap().1, 0, "nothing is fetched again");
}

#[test]
fn the_disk_holds_ciphertext_only() {
    let (archive, desk) = (Archive::new(), Desk::new());
    desk.export(&archive, "1/tallinn/3").unwrap();
    let key: serde_json::Value = serde_json::from_str(archive.repository_key("1/tallinn")).unwrap();
    let secret = key["encrypt"].as_str().unwrap().to_owned();
    let (_, expected, _) = archive.point(2);
    for path in files(&desk.disk(), "") {
        let content = fs::read(&path).unwrap();
        let holds = |what: &[u8]| content.windows(what.len()).any(|part| part == what);
        assert!(!holds(secret.as_bytes()), "{} holds the key", path.display());
        for file in expected.values() {
            assert!(!holds(&file[100..132]), "{} holds what a register holds", path.display());
        }
    }
}

#[test]
fn an_earlier_point_is_carried_with_those_before_it() {
    let (archive, desk, other) = (Archive::new(), Desk::new(), empty_vault());
    desk.export(&archive, "1/tallinn/2").unwrap();
    desk.import(&archive, &other, "1/tallinn").unwrap();
    assert_eq!(archive.restored_from(&other), ["1/tallinn/1", "1/tallinn/2"]);
    // Later the rest of it, on the same disk.
    let (_, moved) = desk.export(&archive, "1/tallinn/3").unwrap();
    assert_eq!(moved, 0, "the repository was carried as a whole");
    desk.import(&archive, &other, "1/tallinn").unwrap();
    assert_eq!(archive.restored_from(&other).len(), 3);
    let missing = desk.export(&archive, "1/tallinn/9").unwrap_err();
    assert!(missing.to_string().contains("no recovery point 1/tallinn/9"), "{missing}");
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Harm {
    Flip,
    Cut,
    Grow,
    Remove,
    Exchange,
}

fn harm(path: &Path, harm: Harm, other: &Path) {
    let mut content = fs::read(path).unwrap();
    let middle = content.len() / 2;
    match harm {
        Harm::Flip => content[middle] ^= 1,
        Harm::Cut => content.truncate(middle),
        Harm::Grow => content.push(0),
        Harm::Remove => return fs::remove_file(path).unwrap(),
        Harm::Exchange => content = fs::read(other).unwrap(),
    }
    fs::write(path, content).unwrap();
}

#[test]
fn every_damaged_file_of_the_disk_is_named_and_never_imported() {
    let (archive, desk) = (Archive::new(), Desk::new());
    desk.export(&archive, "1/tallinn/3").unwrap();
    let all = carried_files(&desk.disk());
    assert!(all.len() > 15, "{}", all.len());
    for (index, path) in all.iter().enumerate() {
        for done in [Harm::Flip, Harm::Cut, Harm::Grow, Harm::Remove, Harm::Exchange] {
            let kept = fs::read(path).unwrap();
            harm(path, done, &all[(index + 1) % all.len()]);
            let name = path.strip_prefix(desk.disk()).unwrap().display().to_string();
            let (folder, progress) = (Folder::new(&desk.disk()), Progress::default());
            let checked = check(&folder, &shelf("1/tallinn"), Some(&keys_of(&archive)), &progress).unwrap();
            assert_eq!(checked.damage.len(), 1, "{done:?} {name}: {:?}", checked.damage);
            assert!(checked.damage[0].starts_with(&name), "{done:?} {name}: {:?}", checked.damage);
            let other = empty_vault();
            let failure = desk.import(&archive, &other, "1/tallinn").unwrap_err();
            assert!(failure.to_string().contains(&name), "{done:?} {name}: {failure}");
            assert_eq!(points_at(&other), 0, "{done:?} {name}");
            assert_eq!(files(&other.store("embassies"), "/index/").len(), 0, "{done:?} {name}");
            for stored in files(&other.store("embassies"), "/data/") {
                let digest = data_embassy::carry::folder::sha256(&fs::read(&stored).unwrap());
                assert!(stored.ends_with(&digest), "{done:?} {name}: {} was imported", stored.display());
            }
            fs::write(path, kept).unwrap();
        }
    }
    let list = desk.disk().join(shelf("1/tallinn").list());
    for done in [Harm::Flip, Harm::Cut, Harm::Grow, Harm::Exchange] {
        let kept = fs::read(&list).unwrap();
        harm(&list, done, &all[0]);
        let failure = desk.import(&archive, &empty_vault(), "1/tallinn").unwrap_err();
        assert!(matches!(failure, Failure::List { .. }), "{done:?}: {failure}");
        fs::write(&list, kept).unwrap();
    }
    desk.import(&archive, &empty_vault(), "1/tallinn").unwrap();
}

#[test]
fn an_export_into_a_damaged_folder_fetches_what_is_damaged_and_no_more() {
    let (archive, desk) = (Archive::new(), Desk::new());
    desk.export(&archive, "1/tallinn/3").unwrap();
    let packs = files(&desk.disk(), "/data/");
    harm(&packs[0], Harm::Flip, &packs[1]);
    harm(&packs[1], Harm::Cut, &packs[0]);
    let expected = files(&archive.vault.store("embassies"), "/1-tallinn/data/");
    let (_, moved) = desk.export(&archive, "1/tallinn/3").unwrap();
    assert_eq!(moved, bytes_of(&expected[..2]));
    desk.import(&archive, &empty_vault(), "1/tallinn").unwrap();
}

#[test]
fn a_folder_that_is_not_of_this_embassy_or_not_by_its_sites_is_refused() {
    let (archive, desk, other) = (Archive::new(), Desk::new(), empty_vault());
    desk.export(&archive, "1/tallinn/3").unwrap();
    let way = desk.way(&other, "tallinn");
    let folder = Folder::new(&desk.disk());
    let tried = |shelf: &Shelf, keys: &dyn Fn(&str) -> Option<PublicKey>| {
        import(&folder, shelf, keys, &way, Trust::Listed, &Progress::default()).unwrap_err().to_string()
    };
    let strangers = Archive::new();
    let refused = tried(&shelf("1/tallinn"), &keys_of(&strangers));
    assert!(refused.contains("not signed by the pinned key of site 'luxembourg'"), "{refused}");
    let refused = tried(&shelf("1/tallinn"), &|_| None);
    assert!(refused.contains("not known here"), "{refused}");
    // The pinned key vouches for the list, and the manifests are another site's.
    let refused = tried(&shelf("1/tallinn"), &|site| {
        Some(if site == "tallinn" { strangers.key(site).public() } else { archive.key(site).public() })
    });
    assert!(refused.contains("is not what its site signed"), "{refused}");
    let business = Shelf { embassy: "business".to_owned(), ..shelf("1/tallinn") };
    fs::rename(desk.disk().join("embassies/ns/land"), desk.disk().join("embassies/ns/business")).unwrap();
    let refused = tried(&business, &keys_of(&archive));
    assert!(refused.contains("signed for ns/land"), "{refused}");
    assert!(files(&other.store("embassies"), "").is_empty(), "nothing was sent");
}

#[test]
fn what_does_not_fit_the_vault_is_refused_before_anything_is_sent() {
    let (archive, desk) = (Archive::new(), Desk::new());
    desk.export(&archive, "1/tallinn/3").unwrap();
    // A vault with another history of the same names.
    let other = Archive::new();
    let before = files(&other.folder(), "").len();
    let refused = desk.import(&archive, &other.vault, "1/tallinn").unwrap_err();
    assert!(matches!(refused, Failure::OtherPoints { sequence: 1, .. }), "{refused}");
    assert_eq!(files(&other.folder(), "").len(), before);
    // A vault where a copy was begun and no point is there yet.
    for path in files(&other.folder(), "/points/1-tallinn/") {
        fs::remove_file(path).unwrap();
    }
    let before = files(&other.folder(), "").len();
    let refused = desk.import(&archive, &other.vault, "1/tallinn").unwrap_err();
    assert!(matches!(refused, Failure::OtherRepository(_)), "{refused}");
    assert_eq!(files(&other.folder(), "").len(), before);
}

#[test]
fn a_damaged_vault_is_not_carried_on() {
    let (archive, desk) = (Archive::new(), Desk::new());
    let pack = archive.pack_of("second");
    let kept = fs::read(&pack).unwrap();
    harm(&pack, Harm::Flip, &pack);
    let failure = desk.export(&archive, "1/tallinn/3").unwrap_err();
    let name = pack.file_name().unwrap().to_str().unwrap();
    assert!(failure.to_string().contains(&format!("data/{name} was altered")), "{failure}");
    fs::remove_file(&pack).unwrap();
    let failure = desk.export(&archive, "1/tallinn/3").unwrap_err();
    assert!(failure.to_string().contains(&format!("data/{name}")), "{failure}");
    assert!(!desk.disk().join(shelf("1/tallinn").list()).exists(), "it is not finished");
    fs::write(&pack, kept).unwrap();
    desk.export(&archive, "1/tallinn/3").unwrap();
}

#[test]
fn the_program_checks_a_disk_without_a_cluster() {
    let (archive, desk) = (Archive::new(), Desk::new());
    desk.export(&archive, "1/tallinn/3").unwrap();
    let run = |further: &[String]| {
        let from = desk.disk().display().to_string();
        let mut program = Command::new(env!("CARGO_BIN_EXE_kubectl-embassy"));
        program.env_remove("KUBECONFIG").env("HOME", desk.folder.path());
        let output = program.args(["check", "--from", &from]).args(further).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    let keys: Vec<String> = ["tallinn", "luxembourg"]
        .iter()
        .map(|site| format!("--key={site}={}", archive.key(site).public()))
        .collect();
    let (sound, said) = run(&keys);
    assert!(sound && said.contains("sound: recovery points of ns/land up to 1/tallinn/3"), "{said}");
    let (sound, said) = run(&[]);
    assert!(sound && said.contains("was not checked: give --key"), "{said}");
    let stranger = format!("--key=luxembourg={}", Archive::new().key("luxembourg").public());
    let (sound, said) = run(&[stranger]);
    assert!(!sound && said.contains("was not signed by the pinned key"), "{said}");
    let pack = files(&desk.disk(), "/data/")[0].clone();
    harm(&pack, Harm::Flip, &pack);
    let (sound, said) = run(&keys);
    let name = pack.strip_prefix(desk.disk()).unwrap().display().to_string();
    assert!(!sound && said.contains(&format!("DAMAGED: {name} was altered")), "{said}");
    let (sound, said) = run(&["--key=nonsense".to_owned()]);
    assert!(!sound && said.contains("write SITE=ed25519"), "{said}");
    fs::remove_dir_all(desk.disk()).unwrap();
    let (sound, said) = run(&[]);
    assert!(!sound && said.contains("holds no export"), "{said}");
}

#[test]
fn a_damaged_vault_is_mended_from_a_disk_and_keeps_what_was_damaged() {
    let (archive, desk) = (Archive::new(), Desk::new());
    desk.export(&archive, "1/tallinn/3").unwrap();
    let objects = files(&archive.folder(), "repo/1-tallinn/");
    let named = |path: &&PathBuf| !path.ends_with("config");
    let mut sent = 0;
    for (index, path) in objects.iter().filter(named).enumerate() {
        let length = fs::metadata(path).unwrap().len();
        harm(path, [Harm::Flip, Harm::Cut, Harm::Remove, Harm::Grow][index % 4], path);
        sent += length;
    }
    assert!(!archive.verify_at(&archive.vault).is_sound());
    let mended = desk.import_with(&archive, &archive.vault, "1/tallinn", Trust::ReadBack).unwrap();
    assert_eq!(mended, sent, "only what is damaged is sent");
    let checked = archive.verify_at(&archive.vault);
    assert!(checked.is_sound(), "{:?}", checked.damage);
    assert_eq!(archive.restored_from(&archive.vault).len(), 4);
    let kept = files(&archive.folder(), "/damaged/").len();
    let removed = objects.iter().filter(named).enumerate().filter(|(index, _)| index % 4 == 2).count();
    assert_eq!(kept, objects.iter().filter(named).count() - removed);
}

#[test]
fn a_vault_is_reached_through_a_forwarded_port_by_its_own_name() {
    let (mut archive, desk) = (Archive::new(), Desk::new());
    let host = "data-embassy-vault.system.svc";
    let issued = archive.vault.authority.issue_server("luxembourg", &[host.to_owned()]).unwrap();
    fs::write(archive.vault.tls("tls.key"), issued.key_pem.as_bytes()).unwrap();
    fs::write(archive.vault.tls("tls.crt"), issued.certificate_pem).unwrap();
    archive.vault.restart();
    let address = archive.vault.address;
    let forwarded = Way {
        url: format!("https://{host}:{}", address.port()),
        forward: Some(Forward { host: host.to_owned(), address }),
        ..desk.way(&archive.vault, "luxembourg")
    };
    let export = |way: &Way| {
        let folder = Folder::prepare(&desk.disk()).unwrap();
        let signer = Signer { site: "luxembourg", key: archive.key("luxembourg") };
        let (keys, progress) = (keys_of(&archive), Progress::default());
        let export = Export { way, keys: &keys, folder: &folder, signer: &signer, progress: &progress };
        export.points((NAMESPACE, EMBASSY), None)
    };
    assert_eq!(export(&forwarded).unwrap().point.unwrap().to_string(), "2/luxembourg/1");
    // By another name it is another server.
    let refused = export(&desk.way(&archive.vault, "luxembourg")).unwrap_err();
    assert!(matches!(refused, Failure::Vault(_)), "{refused}");
}
