//! A register that is copied abroad and restored there, again and again, while something is done to those who do it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use data_embassy::{
    api::{
        epoch::{Epoch, PointRef},
        recovery_point::Consistency,
        replication::Depth,
    },
    mover::{
        backup::{BackupParameters, backup},
        engine::{Engine, new_key},
        outcome::{BackupDone, Outcome},
        restore::restore,
        verify::{Parameters, Seen, verify},
    },
    plan::{
        manifest::{MANIFEST_VERSION, Manifest},
        verification::Checked,
    },
    trust::{
        envelope::{Envelope, Purpose, digest},
        identity::Role,
        signing::SiteKey,
        tls::Material,
    },
    vault::{client::RepositoryClient, protocol::StoredPoint},
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use sha2::{Digest, Sha256};

use crate::{
    fault::{Fault, Prepared},
    support::{points::restoring, vault::TestVault},
    torture::{MIB, differences, noise},
};

const NAMESPACE: &str = "ns";
const EMBASSY: &str = "land";
const CLAIM: &str = "data";
/// The repository of the only epoch.
const REPOSITORY: &str = "ns/land/1-tallinn";
/// The test that is one backup.
const BACKUP: &str = "a_backup_in_a_process_of_its_own";

/// Whom the fault meets, and at what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The mover, at a backup.
    Backup,
    /// The mover, at a restore.
    Restore,
    /// The vault, at a backup.
    VaultAtBackup,
    /// The vault, at the commit of a point.
    VaultAtCommit,
    /// The vault, at a restore.
    VaultAtRestore,
}

/// SHA-256 of every file.
type Tree = BTreeMap<PathBuf, String>;

/// Both sides and the vault between them.
pub struct World {
    vault: TestVault,
    folder: tempfile::TempDir,
    key: String,
    signer: SiteKey,
    committed: Vec<(Manifest, Tree)>,
    /// How often something was done.
    turn: u64,
    /// Bytes that were new at home, in all.
    written: u64,
}

impl World {
    /// A vault without a recovery point.
    pub fn new() -> Self {
        let vault = TestVault::start_program();
        vault.host("tallinn", NAMESPACE, 8 << 30);
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (key, signer) = (new_key(), SiteKey::generate().unwrap());
        let mut world = Self { vault, folder, key, signer, committed: vec![], turn: 0, written: 0 };
        for name in ["home", "abroad"] {
            fs::create_dir_all(world.volume(name)).unwrap();
        }
        world.write_credentials();
        let home = world.volume("home");
        for number in 0..30 {
            fs::write(home.join(format!("entry-{number}")), noise(number, number * 100)).unwrap();
        }
        fs::write(home.join("ledger"), noise(1, 4 * MIB)).unwrap();
        world.written = 4 * MIB + 45_000;
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn volume(&self, side: &str) -> PathBuf {
        self.path(side).join(CLAIM)
    }

    fn write_credentials(&self) {
        let folder = self.path("credentials");
        fs::create_dir(&folder).unwrap();
        let material = self.vault.material("tallinn", Role::Mover);
        for (name, content) in [
            ("ca.crt", &material.ca),
            ("tls.crt", &material.certificate),
            ("tls.key", &material.key),
            ("repository-key", &self.key),
        ] {
            fs::write(folder.join(name), content).unwrap();
        }
        fs::write(self.path("url"), self.vault.url()).unwrap();
    }

    /// A day at home: a page of the ledger, a new entry, one that is gone, one that is renamed and linked.
    fn change(&mut self) {
        self.turn += 1;
        let (home, turn) = (self.volume("home"), self.turn);
        let ledger = fs::OpenOptions::new().write(true).open(home.join("ledger")).unwrap();
        let page = noise(1000 + turn, 300_000);
        std::os::unix::fs::FileExt::write_all_at(&ledger, &page, turn % 4 * MIB).unwrap();
        // The chunk that the page is in is stored again.
        self.written += MIB + 20_000;
        fs::write(home.join(format!("new-{turn}")), noise(turn, 20_000)).unwrap();
        let _ = fs::remove_file(home.join(format!("new-{}", turn.saturating_sub(3))));
        let _ = fs::remove_file(home.join("linked"));
        let renamed = home.join(format!("renamed-{turn}"));
        let before = home.join(format!("renamed-{}", turn - 1));
        let before = if before.exists() { before } else { home.join("entry-7") };
        fs::rename(before, &renamed).unwrap();
        fs::hard_link(&renamed, home.join("linked")).unwrap();
    }

    /// A change is copied, committed and restored abroad, one of them disturbed. Whatever that did, the next try succeeds and
    /// the copy is exact. Says whether the fault was met.
    pub fn round(&mut self, victim: Victim, fault: Fault) -> bool {
        self.change();
        let prepared = Prepared::new(fault, self.folder.path());
        let at = |wanted: Victim| (victim == wanted).then_some(&prepared);
        let done = self.copy(at(Victim::Backup), at(Victim::VaultAtBackup));
        self.commit(&done, at(Victim::VaultAtCommit));
        self.restore(&done, at(Victim::Restore), at(Victim::VaultAtRestore));
        let found = differences(&self.volume("home"), &self.volume("abroad"));
        assert_eq!(found, "", "{victim:?} {fault:?}: what rsync would still copy");
        prepared.was_reached()
    }

    fn copy(&mut self, mover: Option<&Prepared>, vault: Option<&Prepared>) -> BackupDone {
        let disturbed = self.back_up(mover, vault);
        disturbed.or_else(|| self.back_up(None, None)).expect("a backup that nothing disturbs")
    }

    /// One backup; nothing if it did not come to its end.
    fn back_up(&mut self, mover: Option<&Prepared>, vault: Option<&Prepared>) -> Option<BackupDone> {
        let done = self.path("done");
        let _ = fs::remove_file(&done);
        let base = self.committed.last().map(|(manifest, _)| manifest.contents.inventory.clone());
        fs::write(self.path("base"), base.unwrap_or_default()).unwrap();
        let program = std::env::current_exe().unwrap();
        let mut command = command(mover, program);
        command.args([BACKUP, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env("WORLD", self.folder.path());
        self.run(command, mover, vault);
        serde_json::from_slice(&fs::read(done).ok()?).ok()
    }

    /// Runs a mover to its end, disturbed or not; a vault that dies on the way is started again.
    fn run(&mut self, mut command: Command, mover: Option<&Prepared>, vault: Option<&Prepared>) {
        self.disturb_vault(vault);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        let mut moment = mover.or(vault).and_then(Prepared::moment);
        while child.try_wait().unwrap().is_none() {
            if moment.is_some_and(|moment| start.elapsed() >= moment) {
                moment = None;
                if mover.is_some() { kill(&mut child) } else { self.vault.kill() }
            }
            self.keep_vault();
            sleep(Duration::from_millis(2));
        }
        if vault.is_some() {
            self.clear_vault();
        }
    }

    fn disturb_vault(&mut self, vault: Option<&Prepared>) {
        let Some(prepared) = vault.filter(|prepared| prepared.moment().is_none()) else { return };
        self.vault.run_program(prepared.command(TestVault::PROGRAM));
        self.keep_vault();
    }

    /// The vault is started again where it has died, as its Pod would be.
    fn keep_vault(&mut self) {
        if self.vault.has_died() {
            self.undisturb_vault();
        }
    }

    fn undisturb_vault(&mut self) {
        assert!(self.vault.run_program(Command::new(TestVault::PROGRAM)), "the vault does not start again");
    }

    /// Started again when nobody sends anything, the vault has thrown away what kills cut off.
    fn clear_vault(&mut self) {
        self.undisturb_vault();
        let left = fs::read_dir(self.vault.uploads()).unwrap().count();
        assert_eq!(left, 0, "uploads that a kill cut off");
    }

    /// The operator's part: the manifest, until the vault has it.
    fn commit(&mut self, done: &BackupDone, vault: Option<&Prepared>) {
        let sequence = i64::try_from(self.committed.len()).unwrap() + 1;
        let previous = self.committed.last().map(|(manifest, _)| digest(&self.signed(manifest)));
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            namespace: NAMESPACE.to_owned(),
            embassy: EMBASSY.to_owned(),
            point: PointRef { epoch: epoch(), sequence },
            cut_time: Time(Timestamp::now()),
            claims: vec![CLAIM.to_owned()],
            contents: done.clone().into(),
            consistency: Consistency::Fuzzy,
            previous: previous.unwrap_or_default(),
            ancestry: vec![],
        };
        let text = self.signed(&manifest);
        self.disturb_vault(vault);
        let path = format!("/points/{NAMESPACE}/{EMBASSY}/1-tallinn/{sequence}");
        let operator = self.vault.raw("tallinn", Role::Operator);
        let put = || operator.try_send("PUT", &path, text.clone());
        if let Some(moment) = vault.and_then(Prepared::moment) {
            std::thread::scope(|scope| {
                let cut_off = scope.spawn(put);
                // One request takes milliseconds.
                sleep(moment / 50);
                self.vault.kill();
                drop(cut_off.join().unwrap());
            });
        }
        while !put().is_ok_and(|(status, _)| [200, 201].contains(&status)) {
            self.keep_vault();
        }
        if vault.is_some() {
            self.clear_vault();
        }
        let tree = tree(&self.volume("home"));
        self.committed.push((manifest, tree));
    }

    fn signed(&self, manifest: &Manifest) -> String {
        let payload = serde_json::to_string(manifest).unwrap();
        Envelope::sign(&self.signer, "tallinn", Purpose::Manifest, payload).to_text()
    }

    fn restore(&mut self, done: &BackupDone, mover: Option<&Prepared>, vault: Option<&Prepared>) {
        if (mover.is_some() || vault.is_some()) && self.restored(done, mover, vault) {
            return;
        }
        assert!(self.restored(done, None, None), "a restore that nothing disturbs");
    }

    /// One restore by the program; whether it says that it came to its end.
    fn restored(&mut self, done: &BackupDone, mover: Option<&Prepared>, vault: Option<&Prepared>) -> bool {
        let log = self.path("termination-log");
        let _ = fs::remove_file(&log);
        let mut command = command(mover, TestVault::PROGRAM);
        let path = |name: &str| self.path(name).display().to_string();
        command
            .args(["mover", "restore", "--full-compare", &format!("--claim={CLAIM}")])
            .args([format!("--vault={}", self.vault.url()), format!("--repository={REPOSITORY}")])
            .args([format!("--credentials={}", path("credentials")), format!("--volumes={}", path("abroad"))])
            .args([format!("--termination-log={}", log.display()), format!("--snapshot={}", done.snapshot)])
            .args([format!("--content-digest={}", done.content_digest), format!("--bytes={}", done.bytes)])
            .arg(format!("--files={}", done.files));
        self.run(command, mover, vault);
        let outcome = fs::read_to_string(log).ok().and_then(|text| Outcome::parse(&text).ok());
        matches!(outcome, Some(Outcome::Restore(_)))
    }

    /// What must hold in the end, whatever was done: exactly the committed points are there, all of them come back byte for
    /// byte, every file of the vault is sound, and nothing was stored twice.
    pub fn settle(&mut self) {
        self.change();
        let done = self.copy(None, None);
        self.commit(&done, None);
        let (_, text) = self.vault.raw("luxembourg", Role::Operator).send(
            "GET",
            &format!("/points/{NAMESPACE}/{EMBASSY}"),
            "",
        );
        let stored: Vec<StoredPoint> = serde_json::from_str(&text).unwrap();
        let visible: Vec<&str> = stored.iter().map(|point| point.text.as_str()).collect();
        let committed: Vec<String> =
            self.committed.iter().map(|(manifest, _)| self.signed(manifest)).collect();
        assert_eq!(visible, committed, "points that are visible");
        for (manifest, expected) in &self.committed {
            assert!(self.restored_afresh(manifest) == *expected, "{} came back wrong", manifest.point);
        }
        let checked = self.verified();
        assert!(checked.is_sound(), "{:?}", checked.damage);
        let kept: u64 =
            sizes(&self.vault.store(&format!("embassies/{NAMESPACE}/{EMBASSY}/repo/1-tallinn/data")));
        println!(
            "{} points; {:.1} MiB were new at home, {:.1} MiB are stored",
            committed.len(),
            mebibytes(self.written),
            mebibytes(kept)
        );
        // Directories and the ends of packs come on top.
        assert!(kept < self.written + committed.len() as u64 * 20_000, "something is stored twice");
    }

    fn restored_afresh(&self, manifest: &Manifest) -> Tree {
        let target = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::create_dir(target.path().join(CLAIM)).unwrap();
        let store = Arc::new(self.vault.repository("tallinn", Role::Mover, REPOSITORY));
        let parameters = restoring(manifest, target.path());
        restore(Engine::open(store, &self.key).unwrap(), &parameters).unwrap();
        tree(&target.path().join(CLAIM))
    }

    fn verified(&self) -> Checked {
        let parameters = Parameters {
            vault: self.vault.url(),
            material: self.vault.material("luxembourg", Role::Mover),
            namespace: NAMESPACE.to_owned(),
            embassy: EMBASSY.to_owned(),
            keys: BTreeMap::from([("tallinn".to_owned(), self.signer.public())]),
            seen: Seen::default(),
            repository_keys: BTreeMap::from([(epoch(), self.key.clone())]),
            depth: Depth::Deep,
        };
        verify(&parameters).unwrap().checked
    }
}

/// The backup of a world, in a process of its own.
pub fn back_up_in(world: &Path) {
    let text = |name: &str| fs::read_to_string(world.join(name)).unwrap();
    let credential = |name: &str| text(&format!("credentials/{name}"));
    let material =
        Material { ca: credential("ca.crt"), certificate: credential("tls.crt"), key: credential("tls.key") };
    let store = RepositoryClient::new(&text("url"), REPOSITORY, &material).unwrap();
    let engine = Engine::open_or_create(Arc::new(store), &credential("repository-key")).unwrap();
    let parameters = BackupParameters {
        volumes: world.join("home"),
        claims: vec![CLAIM.to_owned()],
        objects: None,
        object_count: 0,
        inventory_base: Some(text("base")).filter(|base| !base.is_empty()),
    };
    let done = backup(engine, &parameters).unwrap();
    fs::write(world.join("done.new"), serde_json::to_vec(&done).unwrap()).unwrap();
    fs::rename(world.join("done.new"), world.join("done")).unwrap();
}

fn epoch() -> Epoch {
    "1/tallinn".parse().unwrap()
}

fn command(disturbed: Option<&Prepared>, program: impl AsRef<std::ffi::OsStr>) -> Command {
    match disturbed {
        Some(prepared) => prepared.command(program),
        None => Command::new(program),
    }
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let walk = walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap);
    walk.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path)
}

fn tree(folder: &Path) -> Tree {
    let relative = |path: &Path| path.strip_prefix(folder).unwrap().to_owned();
    files(folder)
        .map(|path| (relative(&path), hex::encode(Sha256::digest(fs::read(&path).unwrap()))))
        .collect()
}

fn sizes(folder: &Path) -> u64 {
    files(folder).map(|path| fs::metadata(path).unwrap().len()).sum()
}

#[allow(clippy::cast_precision_loss)] // for people
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}
