//! A vault with four recovery points in two epochs, written by the real mover and signed as the operator signs.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
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
        failure::Failure,
        inventory,
        outcome::BackupDone,
        restore::restore,
        verify::{Parameters, Seen, verify},
    },
    plan::{
        manifest::{MANIFEST_VERSION, Manifest},
        verification::Checked,
    },
    trust::{
        chain::ChainHead,
        envelope::{Envelope, Purpose, digest},
        identity::Role,
        signing::SiteKey,
    },
    vault::client::RepositoryClient,
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use tempfile::TempDir;

use crate::support::{points::restoring, vault::TestVault};

pub const NAMESPACE: &str = "ns";
pub const EMBASSY: &str = "land";
const CLAIM: &str = "data";

/// A committed point, and every file of the source at its cut.
type Kept = (Manifest, BTreeMap<PathBuf, Vec<u8>>);

pub struct Archive {
    pub vault: TestVault,
    folder: TempDir,
    keys: BTreeMap<String, SiteKey>,
    repository_keys: BTreeMap<Epoch, String>,
    points: RefCell<Vec<Kept>>,
    seen: RefCell<Seen>,
    /// The largest pack that came with a part of the content.
    packs: BTreeMap<&'static str, PathBuf>,
    letters: BTreeMap<String, ChainHead>,
    /// Damaged objects that copies do not build on.
    around: Vec<String>,
}

/// Files below a folder, if there is one, whose path contains `part`, sorted.
pub fn files(folder: &Path, part: &str) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    let all = walk.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
    let mut found: Vec<PathBuf> = all.filter(|path| path.display().to_string().contains(part)).collect();
    found.sort();
    found
}

/// Where a restore need not wait for a disk: no power is cut here.
fn undurable() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { PathBuf::from(env!("CARGO_TARGET_TMPDIR")) }
}

/// Bytes that neither compress nor repeat.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Every file below a folder.
pub fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let relative = |path: PathBuf| (path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
    files(folder, "").into_iter().map(relative).collect()
}

impl Archive {
    pub fn new() -> Self {
        Self::at(TestVault::start())
    }

    /// In that vault.
    pub fn at(vault: TestVault) -> Self {
        vault.host("tallinn", NAMESPACE, 1 << 30);
        let site = |name: &str| (name.to_owned(), SiteKey::generate().unwrap());
        let mut archive = Self {
            vault,
            folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
            keys: BTreeMap::from([site("tallinn"), site("luxembourg")]),
            repository_keys: BTreeMap::new(),
            points: RefCell::default(),
            seen: RefCell::default(),
            packs: BTreeMap::new(),
            letters: BTreeMap::new(),
            around: vec![],
        };
        let home = archive.path("home").join(CLAIM);
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("first"), noise(2, 150_000)).unwrap();
        archive.copy("1/tallinn", "first");
        archive.post("tallinn");
        fs::write(home.join("kept"), noise(1, 30_000)).unwrap();
        fs::write(home.join("second"), noise(3, 250_000)).unwrap();
        archive.copy("1/tallinn", "second");
        archive.post("tallinn");
        archive.keep_store();
        fs::remove_file(home.join("first")).unwrap();
        archive.copy("1/tallinn", "third");
        archive.post("tallinn");
        fs::write(home.join("abroad"), noise(4, 350_000)).unwrap();
        archive.copy("2/luxembourg", "abroad");
        archive.post("luxembourg");
        archive.post("luxembourg");
        archive.seen = RefCell::new(archive.verified());
        archive
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The embassy's folder in the store.
    pub fn folder(&self) -> PathBuf {
        self.vault.store(&format!("embassies/{NAMESPACE}/{EMBASSY}"))
    }

    /// Forgets what was committed: what comes next is the first, at a new vault.
    pub fn begin_anew(&mut self) {
        self.points.borrow_mut().clear();
    }

    /// One more point of an epoch, with a file of so many bytes that is not in those before. Returns the bytes that were sent.
    pub fn add(&mut self, epoch: &str, seed: u64, length: usize) -> u64 {
        fs::write(self.path("home").join(CLAIM).join(format!("added-{seed}")), noise(seed, length)).unwrap();
        self.copy(epoch, "added")
    }

    /// One more point of an epoch, of the same files, made around damaged objects. Returns the bytes that were sent.
    pub fn add_around(&mut self, epoch: &str, damaged: Vec<String>) -> u64 {
        self.around = damaged;
        self.copy(epoch, "around")
    }

    /// The point comes back byte for byte, as a mover restores it that knows of damage.
    pub fn assert_restores(&self, point: &str, what: &str) {
        let points = self.points.borrow();
        let (manifest, expected) = points.iter().find(|(it, _)| it.point.to_string() == point).unwrap();
        let found = self.restored(manifest, std::slice::from_ref(&manifest.contents.inventory));
        let found = found.unwrap_or_else(|failure| panic!("{what}: {point}: {failure}"));
        assert!(found == *expected, "{what}: {point} came back wrong");
    }

    /// A site's signing key.
    pub fn key(&self, site: &str) -> &SiteKey {
        &self.keys[site]
    }

    /// The key to an epoch's repository.
    pub fn repository_key(&self, epoch: &str) -> &str {
        &self.repository_keys[&epoch.parse().unwrap()]
    }

    /// The committed points that a vault has come back from there byte for byte; these are their names.
    pub fn restored_from(&self, vault: &TestVault) -> Vec<String> {
        let mut restored = vec![];
        for (manifest, expected) in self.points.borrow().iter() {
            let (slug, sequence) = (manifest.point.epoch.slug(), manifest.point.sequence);
            let path = format!("/points/{NAMESPACE}/{EMBASSY}/{slug}/{sequence}");
            if vault.raw("luxembourg", Role::Operator).send("GET", &path, "").0 == 404 {
                continue;
            }
            assert!(self.found_at(vault, manifest) == *expected, "{} came back wrong", manifest.point);
            restored.push(manifest.point.to_string());
        }
        restored
    }

    /// One point out of another vault, byte for byte.
    pub fn assert_comes_back_from(&self, vault: &TestVault, point: &str) {
        let points = self.points.borrow();
        let (manifest, expected) =
            points.iter().find(|(manifest, _)| manifest.point.to_string() == point).unwrap();
        assert!(self.found_at(vault, manifest) == *expected, "{point} came back wrong");
    }

    fn found_at(&self, vault: &TestVault, manifest: &Manifest) -> BTreeMap<PathBuf, Vec<u8>> {
        let slug = manifest.point.epoch.slug();
        let target = tempfile::tempdir_in(undurable()).unwrap();
        fs::create_dir(target.path().join(CLAIM)).unwrap();
        let store = vault.repository("luxembourg", Role::Mover, &format!("{NAMESPACE}/{EMBASSY}/{slug}"));
        let engine = Engine::open(Arc::new(store), &self.repository_keys[&manifest.point.epoch]).unwrap();
        restore(engine, &restoring(manifest, target.path())).unwrap();
        content(&target.path().join(CLAIM))
    }

    /// What a deep verification of another vault says.
    pub fn verify_at(&self, vault: &TestVault) -> Checked {
        let parameters = Parameters {
            vault: vault.url(),
            material: vault.material("luxembourg", Role::Mover),
            ..self.parameters(Depth::Deep, Seen::default())
        };
        verify(&parameters).unwrap().checked
    }

    pub fn pack_of(&self, part: &str) -> PathBuf {
        self.packs[part].clone()
    }

    /// A point of the first epoch, its files, and the key to it.
    pub fn point(&self, index: usize) -> (Manifest, BTreeMap<PathBuf, Vec<u8>>, String) {
        let (manifest, files) = self.points.borrow()[index].clone();
        let key = self.repository_keys[&manifest.point.epoch].clone();
        (manifest, files, key)
    }

    /// Snapshot of a point of the first epoch.
    pub fn snapshot_file(&self, index: usize) -> PathBuf {
        let snapshot = self.points.borrow()[index].0.contents.snapshot.clone();
        self.folder().join("repo/1-tallinn/snapshots").join(snapshot)
    }

    fn repository(&self, epoch: &Epoch) -> RepositoryClient {
        self.vault.repository(&epoch.site, Role::Mover, &format!("{NAMESPACE}/{EMBASSY}/{}", epoch.slug()))
    }

    fn back_up(&mut self, epoch: &Epoch) -> BackupDone {
        let key = self.repository_keys.entry(epoch.clone()).or_insert_with(new_key).clone();
        let engine = Engine::open_or_create(Arc::new(self.repository(epoch)), &key).unwrap();
        let points = self.points.borrow();
        let before = points.iter().rev().find(|(manifest, _)| manifest.point.epoch == *epoch);
        let base = before.map(|(manifest, _)| manifest.contents.inventory.as_str());
        let engine = inventory::around(engine, base, &self.around).unwrap();
        let parameters = BackupParameters {
            volumes: self.path("home"),
            claims: vec![CLAIM.to_owned()],
            objects: None,
            object_count: 0,
            inventory_base: before.map(|(manifest, _)| manifest.contents.inventory.clone()),
        };
        backup(engine, &parameters).unwrap()
    }

    /// A copy of the volume, committed.
    fn copy(&mut self, epoch: &str, part: &'static str) -> u64 {
        let epoch: Epoch = epoch.parse().unwrap();
        let old = files(&self.folder(), "/data/");
        let done = self.back_up(&epoch);
        let sent = done.uploaded_bytes;
        let new = files(&self.folder(), "/data/").into_iter().filter(|path| !old.contains(path));
        self.packs.extend(new.max_by_key(|path| fs::metadata(path).unwrap().len()).map(|pack| (part, pack)));
        let points = self.points.borrow();
        let before = points.iter().rev().find(|(manifest, _)| manifest.point.epoch == epoch);
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            namespace: NAMESPACE.to_owned(),
            embassy: EMBASSY.to_owned(),
            point: PointRef {
                epoch: epoch.clone(),
                sequence: before.map_or(1, |(manifest, _)| manifest.point.sequence + 1),
            },
            cut_time: Time(Timestamp::now()),
            claims: vec![CLAIM.to_owned()],
            contents: done.into(),
            consistency: Consistency::Fuzzy,
            previous: before.map_or_else(String::new, |(manifest, _)| digest(&self.stored(&manifest.point))),
            ancestry: vec![],
        };
        drop(points);
        let text = self.signed(&manifest);
        let path = format!("/points/{NAMESPACE}/{EMBASSY}/{}/{}", epoch.slug(), manifest.point.sequence);
        let answer = self.vault.raw(&epoch.site, Role::Operator).send("PUT", &path, text);
        assert_eq!(answer.0, 201, "{}", answer.1);
        self.points.borrow_mut().push((manifest, content(&self.path("home").join(CLAIM))));
        sent
    }

    fn signed(&self, manifest: &Manifest) -> String {
        let site = &manifest.point.epoch.site;
        let payload = serde_json::to_string(manifest).unwrap();
        Envelope::sign(&self.keys[site], site, Purpose::Manifest, payload).to_text()
    }

    fn manifest_file(&self, point: &PointRef) -> PathBuf {
        self.folder().join(format!("points/{}/{}.json", point.epoch.slug(), point.sequence))
    }

    fn stored(&self, point: &PointRef) -> String {
        fs::read_to_string(self.manifest_file(point)).unwrap()
    }

    fn post(&mut self, site: &str) {
        let head = self.letters.entry(site.to_owned()).or_default();
        let body = serde_json::json!({ "embassy": format!("{NAMESPACE}/{EMBASSY}"), "says": {} });
        let (text, next) = head.compose(body, &self.keys[site], site);
        *head = next;
        let path = format!("/mail/{NAMESPACE}/{EMBASSY}/{site}/{}", head.sequence);
        assert_eq!(self.vault.raw(site, Role::Operator).send("PUT", &path, text).0, 201);
    }

    fn parameters(&self, depth: Depth, seen: Seen) -> Parameters {
        Parameters {
            vault: self.vault.url(),
            material: self.vault.material("luxembourg", Role::Mover),
            namespace: NAMESPACE.to_owned(),
            embassy: EMBASSY.to_owned(),
            keys: self.keys.iter().map(|(site, key)| (site.clone(), key.public())).collect(),
            seen,
            repository_keys: self.repository_keys.clone(),
            depth,
        }
    }

    /// What a first verification remembers.
    fn verified(&self) -> Seen {
        let done = verify(&self.parameters(Depth::Quick, Seen::default())).unwrap();
        assert!(done.checked.is_sound(), "{:?}", done.checked.damage);
        Seen { points: done.points, mail: done.mail }
    }

    pub fn verify(&self, depth: Depth) -> Checked {
        verify(&self.parameters(depth, self.seen.borrow().clone())).unwrap().checked
    }

    pub fn verify_without_memory(&self, depth: Depth) -> Checked {
        verify(&self.parameters(depth, Seen::default())).unwrap().checked
    }

    /// Restores every point. What the verification calls sound must come back, and what comes back must be exact.
    pub fn assert_restores_are_exact_or_fail(&self, checked: &Checked, what: &str) {
        for (manifest, expected) in self.points.borrow().iter() {
            let damaged = !checked.wrong_objects(&manifest.point.epoch).is_empty();
            let through: &[String] =
                if damaged { std::slice::from_ref(&manifest.contents.inventory) } else { &[] };
            match self.restored(manifest, through) {
                Ok(found) => assert!(found == *expected, "{what}: {} came back wrong", manifest.point),
                Err(failure) => {
                    assert!(
                        checked.costs(&manifest.point),
                        "{what}: {} was called sound: {failure}",
                        manifest.point
                    );
                }
            }
        }
    }

    /// What comes back of a point, read through these inventories only, or through all.
    fn restored(
        &self,
        manifest: &Manifest,
        through: &[String],
    ) -> Result<BTreeMap<PathBuf, Vec<u8>>, Failure> {
        let target = tempfile::tempdir_in(undurable()).unwrap();
        fs::create_dir(target.path().join(CLAIM)).unwrap();
        let key = &self.repository_keys[&manifest.point.epoch];
        let store = Arc::new(self.repository(&manifest.point.epoch));
        let parameters = restoring(manifest, target.path());
        let engine = inventory::only(Engine::open(store, key)?, through)?;
        restore(engine, &parameters)?;
        Ok(content(&target.path().join(CLAIM)))
    }

    /// Whether the point of that index, in the order of all, comes back byte for byte.
    pub fn comes_back(&self, index: usize) -> bool {
        let (manifest, expected) = self.points.borrow()[index].clone();
        match self.restored(&manifest, &[]) {
            Ok(found) => {
                assert!(found == expected, "{} came back wrong", manifest.point);
                true
            }
            Err(_) => false,
        }
    }

    /// A further copy of the first epoch, of a volume that has these bytes again under another name.
    pub fn copy_first_again(&mut self) -> usize {
        fs::write(self.path("home").join(CLAIM).join("again"), noise(2, 150_000)).unwrap();
        self.copy("1/tallinn", "again");
        self.points.borrow().len() - 1
    }

    /// A manifest of the first epoch, signed anew with another time.
    pub fn sign_again(&self, sequence: i64) {
        let index = usize::try_from(sequence - 1).unwrap();
        let mut manifest = self.points.borrow()[index].0.clone();
        manifest.cut_time = Time(Timestamp::from_second(1_000_000).unwrap());
        if sequence > 1 {
            manifest.previous = digest(&self.stored(&self.points.borrow()[index - 1].0.point));
        }
        fs::write(self.manifest_file(&manifest.point), self.signed(&manifest)).unwrap();
    }

    /// The newest point of the first epoch claims a content that its snapshot does not have.
    pub fn sign_another_content(&self) {
        let mut manifest = self.points.borrow()[2].0.clone();
        manifest.contents.content_digest = "0".repeat(64);
        fs::write(self.manifest_file(&manifest.point), self.signed(&manifest)).unwrap();
    }

    /// The keys of the two epochs change places.
    pub fn swap_keys(&mut self) {
        let keys: Vec<String> = self.repository_keys.values().rev().cloned().collect();
        self.repository_keys.values_mut().zip(keys).for_each(|(key, other)| *key = other);
    }

    /// The whole store as it is now.
    fn keep_store(&self) {
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .args([self.folder(), self.path("kept-store")])
            .status();
        assert!(copied.unwrap().success());
    }

    /// The store as it was after the second point.
    pub fn take_back(&mut self) {
        self.vault.stop();
        fs::remove_dir_all(self.folder()).unwrap();
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .args([self.path("kept-store"), self.folder()])
            .status();
        assert!(copied.unwrap().success());
        self.vault.restart();
    }

    /// What a copy leaves that was never committed.
    pub fn leave_uncommitted(&self) -> Vec<PathBuf> {
        let old = files(&self.folder(), "");
        fs::write(self.path("home").join(CLAIM).join("uncommitted"), noise(5, 70_000)).unwrap();
        let epoch: Epoch = "1/tallinn".parse().unwrap();
        let engine = Engine::open(Arc::new(self.repository(&epoch)), &self.repository_keys[&epoch]).unwrap();
        let parameters = BackupParameters {
            volumes: self.path("home"),
            claims: vec![CLAIM.to_owned()],
            objects: None,
            object_count: 0,
            inventory_base: None,
        };
        backup(engine, &parameters).unwrap();
        let new = files(&self.folder(), "").into_iter().filter(|path| !old.contains(path));
        let mut new: Vec<PathBuf> = new.collect();
        // The index first: without it the packs are just more bytes.
        new.sort_by_key(|path| !path.display().to_string().contains("/index/"));
        new
    }

    /// As the Job's Secret has them.
    pub fn write_credentials(&self) {
        let folder = self.path("credentials");
        fs::create_dir(&folder).unwrap();
        let material = self.vault.material("luxembourg", Role::Mover);
        for (name, content) in
            [("ca.crt", &material.ca), ("tls.crt", &material.certificate), ("tls.key", &material.key)]
        {
            fs::write(folder.join(name), content).unwrap();
        }
        for (epoch, key) in &self.repository_keys {
            fs::write(folder.join(format!("repository-key-{}", epoch.slug())), key).unwrap();
        }
    }

    /// As the operator writes them.
    pub fn arguments(&self) -> Vec<String> {
        let keys = self.keys.iter().map(|(site, key)| format!("--key={site}={}", key.public()));
        keys.chain(self.repository_keys.keys().map(|epoch| format!("--repository-key={epoch}"))).collect()
    }
}
