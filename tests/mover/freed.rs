//! What a copy builds on, and a restore reads from, while the vault frees packs under them.

use std::{collections::BTreeSet, fs};

use data_embassy::mover::{
    backup::{BackupParameters, backup},
    engine::{Engine, Store},
    outcome::{BackupDone, Reason},
};
use data_embassy::vault::inventory::{Inventory, KIND};
use sha2::{Digest, Sha256};

use super::{
    Bench, CLAIM,
    torture::{MIB, differences, noise, run},
};

impl Bench {
    fn back_up_on(&self, base: Option<&BackupDone>) -> BackupDone {
        let engine = Engine::open_or_create(self.store.clone(), &self.key).unwrap();
        let parameters = BackupParameters {
            volumes: self.path("home"),
            claims: vec![CLAIM.to_owned()],
            objects: None,
            object_count: 0,
            inventory_base: base.map(|base| base.inventory.clone()),
        };
        backup(engine, &parameters).unwrap()
    }

    fn needed(&self, point: &BackupDone) -> BTreeSet<String> {
        let mut line = vec![];
        let mut next = Some(point.inventory.clone());
        while let Some(name) = next.take() {
            let inventory = Inventory::parse(&self.store.read(KIND, &name).unwrap()).unwrap();
            next.clone_from(&inventory.base);
            line.push(inventory);
        }
        let mut needed = BTreeSet::new();
        line.iter().rev().for_each(|inventory| inventory.apply(&mut needed));
        needed
    }

    fn packs(&self, point: &BackupDone) -> BTreeSet<String> {
        self.needed(point)
            .iter()
            .filter_map(|object| object.strip_prefix("data/").map(str::to_owned))
            .collect()
    }

    fn indexes(&self) -> usize {
        self.store.list("index").unwrap().len()
    }

    /// What is restored of a point, and whether it is what its copy was made of.
    fn restores(&self, point: &BackupDone, of: &str) {
        fs::remove_dir_all(self.volume("abroad")).unwrap();
        fs::create_dir_all(self.volume("abroad")).unwrap();
        self.restore(&self.restoring(point)).unwrap();
        assert_eq!(differences(&self.volume(of), &self.volume("abroad")), "", "what rsync would still copy");
    }

    fn keep(&self, name: &str) {
        let (from, to) = (self.path("home"), self.path(name));
        run("cp", &["-a".as_ref(), from.as_ref(), to.as_ref()]);
    }
}

/// Three points: with `old`, with `old` and `stays`, with `stays` alone. Returns them, and the packs that only the first two need.
fn three_points(bench: &Bench) -> (Vec<BackupDone>, BTreeSet<String>) {
    let home = bench.volume("home");
    fs::write(home.join("old"), noise(1, 20 * MIB)).unwrap();
    let first = bench.back_up_on(None);
    fs::write(home.join("stays"), noise(2, 20 * MIB)).unwrap();
    let second = bench.back_up_on(Some(&first));
    fs::remove_file(home.join("old")).unwrap();
    let third = bench.back_up_on(Some(&second));
    let unneeded: BTreeSet<String> = bench.packs(&second).difference(&bench.packs(&third)).cloned().collect();
    assert!(unneeded.len() >= 2, "the case needs packs that nobody needs any more: {unneeded:?}");
    (vec![first, second, third], unneeded)
}

#[test]
fn no_copy_builds_on_packs_that_are_condemned_or_gone() {
    let bench = Bench::new();
    let (points, unneeded) = three_points(&bench);
    let home = bench.volume("home");
    bench.store.condemn(&unneeded);
    // The same bytes again: an index that is believed would find them in the packs that go.
    fs::write(home.join("again"), noise(1, 20 * MIB)).unwrap();
    bench.keep("with-again");
    let fourth = bench.back_up_on(Some(&points[2]));
    assert!(bench.packs(&fourth).is_disjoint(&unneeded), "a copy builds on what is condemned");
    bench.restores(&fourth, "with-again");

    bench.store.lose(&unneeded);
    bench.store.condemn(&BTreeSet::new());
    bench.restores(&fourth, "with-again");
    fs::write(home.join("more"), noise(3, MIB)).unwrap();
    bench.keep("with-more");
    for base in [Some(&fourth), None] {
        let point = bench.back_up_on(base);
        assert!(bench.packs(&point).is_disjoint(&unneeded));
        assert!(point.uploaded_bytes < 4 * MIB, "{} bytes sent for 1 MiB", point.uploaded_bytes);
        bench.restores(&point, "with-more");
        bench.restores(&fourth, "with-again");
    }
}

#[test]
fn an_index_that_was_written_anew_is_not_written_again() {
    let bench = Bench::new();
    let (points, unneeded) = three_points(&bench);
    bench.store.condemn(&unneeded);
    let fourth = bench.back_up_on(Some(&points[2]));
    let after = bench.indexes();
    let fifth = bench.back_up_on(Some(&fourth));
    bench.store.lose(&unneeded);
    bench.store.condemn(&BTreeSet::new());
    bench.back_up_on(Some(&fifth));
    assert_eq!(bench.indexes(), after);
    let indexes = |point| bench.needed(point).iter().filter(|name| name.starts_with("index/")).count();
    assert!(indexes(&fifth) < after, "index files that were replaced are needed no more");
}

#[test]
fn what_was_given_up_is_called_lost_and_what_stays_is_whole_whatever_was_uploaded() {
    let bench = Bench::new();
    let (points, unneeded) = three_points(&bench);
    bench.keep("third");
    bench.store.lose(&unneeded);
    // Whoever may upload may upload this.
    let garbage = noise(7, MIB);
    let name = hex::encode(Sha256::digest(&garbage));
    bench.store.write("data", &name, garbage.into()).unwrap();
    bench.restores(&points[2], "third");
    let lost = bench.restore(&bench.restoring(&points[0])).unwrap_err();
    assert_eq!(lost.reason(), Reason::RepositoryDamaged, "{lost}");
}
