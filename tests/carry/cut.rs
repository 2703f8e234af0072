//! Broken off by SIGKILL at many points: nothing half counts, and little goes over the line twice.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use data_embassy::{
    carry::{
        Progress,
        export::{Export, Signer},
        folder::{Folder, sha256},
        import::{Trust, import},
        way::Way,
    },
    trust::{signing::SiteKey, tls::Material},
};

use crate::{
    Desk,
    archive::{Archive, EMBASSY, NAMESPACE, files},
    bytes_of, carried_files, empty_vault, points_at, shelf,
    support::vault::TestVault,
};

const MIB: usize = 1 << 20;
/// What the register has grown by: some packs.
const GROWN: usize = 200 * MIB;
/// How often it is broken off.
const CUTS: u64 = 6;
/// A cut may cost what was on its way: as many packs as go at once, each a little larger than its size says.
const UNDER_WAY: u64 = 4 * 17 * MIB as u64;

/// What a child needs, as files.
fn hand_over(desk: &Desk, archive: &Archive, vault: &TestVault, site: &str) {
    let way = desk.way(vault, site);
    let folder = desk.folder.path();
    for (name, material) in [("operator", &way.operator), ("mover", &way.mover)] {
        for (part, text) in [("ca", &material.ca), ("crt", &material.certificate), ("key", &material.key)] {
            fs::write(folder.join(format!("{name}.{part}")), text).unwrap();
        }
    }
    for site in ["tallinn", "luxembourg"] {
        fs::write(folder.join(format!("{site}.pem")), archive.key(site).to_pem().unwrap().as_str()).unwrap();
    }
    fs::write(folder.join("url"), way.url).unwrap();
}

fn handed(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

fn start(desk: &Desk, what: &str) -> Child {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args([what, "--exact", "--ignored", "--nocapture"]).env("DESK", desk.folder.path());
    child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills a child once `reached` says so; false if it had ended before.
fn cut(mut child: Child, reached: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !reached() {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "it failed by itself");
            return false;
        }
        assert!(start.elapsed() < Duration::from_mins(5), "it stands still");
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    true
}

fn way(folder: &Path, runtime: &tokio::runtime::Runtime) -> Way {
    let material = |name: &str| Material {
        ca: handed(folder, &format!("{name}.ca")),
        certificate: handed(folder, &format!("{name}.crt")),
        key: handed(folder, &format!("{name}.key")),
    };
    Way {
        url: handed(folder, "url"),
        operator: material("operator"),
        mover: material("mover"),
        forward: None,
        runtime: runtime.handle().clone(),
    }
}

fn at_the_desk(work: impl FnOnce(&Path, &Way, &dyn Fn(&str) -> SiteKey)) {
    let folder = PathBuf::from(env::var_os("DESK").unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let way = way(&folder, &runtime);
    work(&folder, &way, &|site| SiteKey::from_pem(&handed(&folder, &format!("{site}.pem"))).unwrap());
}

#[test]
#[ignore = "a part of another test"]
fn child_exports() {
    at_the_desk(|folder, way, key| {
        let disk = Folder::prepare(&folder.join("disk")).unwrap();
        let signing = key("luxembourg");
        let signer = Signer { site: "luxembourg", key: &signing };
        let keys = |site: &str| Some(key(site).public());
        let progress = Progress::default();
        let export = Export { way, keys: &keys, folder: &disk, signer: &signer, progress: &progress };
        export.points((NAMESPACE, EMBASSY), None).unwrap();
    });
}

#[test]
#[ignore = "a part of another test"]
fn child_imports() {
    at_the_desk(|folder, way, key| {
        let keys = |site: &str| Some(key(site).public());
        let disk = Folder::new(&folder.join("disk"));
        import(&disk, &shelf("2/luxembourg"), &keys, way, Trust::Listed, &Progress::default()).unwrap();
    });
}

/// A counter of a vault.
fn counted(vault: &TestVault, name: &str) -> u64 {
    let text = vault.health("/metrics");
    let line =
        text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn stored(folder: &Path) -> u64 {
    let sizes = files(folder, "").into_iter().filter_map(|path| fs::metadata(path).ok());
    sizes.map(|metadata| metadata.len()).sum()
}

fn grown() -> Archive {
    let mut archive = Archive::new();
    archive.add("2/luxembourg", 77, GROWN);
    archive
}

#[test]
fn an_export_that_is_killed_anywhere_goes_on_and_fetches_little_twice() {
    let (archive, desk) = (grown(), Desk::new());
    hand_over(&desk, &archive, &archive.vault, "luxembourg");
    let before = counted(&archive.vault, "data_embassy_vault_sent_bytes_total");
    let mut cuts = 0;
    for part in 1..=CUTS {
        let reached = || stored(&desk.disk().join("embassies")) > part * GROWN as u64 / (CUTS + 1);
        cuts += u64::from(cut(start(&desk, "cut::child_exports"), reached));
        for path in files(&desk.disk().join("embassies"), "/data/") {
            let content = fs::read(&path).unwrap();
            assert!(path.ends_with(sha256(&content)), "{} is half of a file", path.display());
        }
        assert!(!desk.disk().join(shelf("2/luxembourg").list()).exists(), "it is not called finished");
    }
    assert!(cuts >= 3, "it was broken off {cuts} times only");
    assert!(start(&desk, "cut::child_exports").wait().unwrap().success());
    let whole = bytes_of(&carried_files(&desk.disk()));
    let sent = counted(&archive.vault, "data_embassy_vault_sent_bytes_total") - before;
    println!("{cuts} cuts: {sent} bytes were fetched for {whole}");
    // Lists and small files are read at each start. If each began anew, it were four times the whole.
    assert!(sent <= whole + cuts * UNDER_WAY + (cuts + 1) * MIB as u64, "{sent} bytes for {whole}");
    let other = empty_vault();
    desk.import(&archive, &other, "2/luxembourg").unwrap();
    assert_eq!(archive.restored_from(&other), ["2/luxembourg/1", "2/luxembourg/2"]);
}

#[test]
fn an_import_that_is_killed_anywhere_goes_on_and_is_no_recovery_point_before_its_end() {
    let (archive, desk, other) = (grown(), Desk::new(), empty_vault());
    desk.export(&archive, "2/luxembourg/2").unwrap();
    hand_over(&desk, &archive, &other, "luxembourg");
    let mut cuts = 0;
    for part in 1..=CUTS {
        let reached = || stored(&other.store("embassies")) > part * GROWN as u64 / (CUTS + 1);
        let was_cut = cut(start(&desk, "cut::child_imports"), reached);
        cuts += u64::from(was_cut);
        assert!(!was_cut || points_at(&other) == 0, "half of it counts as a recovery point");
    }
    assert!(cuts >= 3, "it was broken off {cuts} times only");
    assert!(start(&desk, "cut::child_imports").wait().unwrap().success());
    let whole = bytes_of(&carried_files(&desk.disk()));
    let received = counted(&other, "data_embassy_vault_received_bytes_total");
    println!("{cuts} cuts: {received} bytes were sent for {whole}");
    assert!(received <= whole + cuts * UNDER_WAY + (cuts + 1) * MIB as u64, "{received} bytes for {whole}");
    assert_eq!(archive.restored_from(&other), ["2/luxembourg/1", "2/luxembourg/2"]);
    assert!(archive.verify_at(&other).is_sound());
}
