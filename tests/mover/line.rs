//! How much of the line a copy takes.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use data_embassy::{trust::identity::Role, vault::client::Throttle};

use crate::{
    Bench,
    support::vault::TestVault,
    temporary,
    torture::{MIB, noise},
};

#[test]
fn a_copy_takes_no_more_than_it_may_and_all_of_it_when_it_may() {
    let vault = TestVault::start();
    vault.host("tallinn", "ns", 1 << 30);
    let limit = Arc::new(AtomicU64::new(4 * MIB));
    let now = limit.clone();
    let throttle = Throttle::new(move || Some(now.load(Ordering::Relaxed)).filter(|limit| *limit > 0));
    let client = vault.repository("tallinn", Role::Mover, "ns/land/1-tallinn").with_throttle(throttle);
    let bench = Bench::with(temporary(), client);
    fs::write(bench.volume("home").join("file"), noise(1, 12 * MIB)).unwrap();
    // Twelve MiB at four a second, less the parts that are on their way at the end.
    let least = Duration::from_millis(2800);
    let start = Instant::now();
    let done = bench.back_up("home").unwrap();
    assert!(start.elapsed() > least, "sent in {:?}", start.elapsed());
    let start = Instant::now();
    bench.restore(&bench.restoring(&done)).unwrap();
    let slow = start.elapsed();
    assert!(slow > least, "fetched in {slow:?}");
    bench.assert_exact();

    limit.store(0, Ordering::Relaxed);
    fs::remove_file(bench.volume("abroad").join("file")).unwrap();
    let start = Instant::now();
    bench.restore(&bench.restoring(&done)).unwrap();
    assert!(start.elapsed() < slow, "without a limit it takes {:?}, with one {slow:?}", start.elapsed());
    bench.assert_exact();
}

#[test]
fn a_copy_asks_little_of_a_distant_vault() {
    const FOLDERS: u64 = 300;
    let bench = Bench::new();
    let folders: Vec<_> = (0..FOLDERS).map(|n| bench.volume("home").join(n.to_string())).collect();
    for folder in &folders {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("file"), "register").unwrap();
    }
    bench.back_up("home").unwrap();
    let reads = || bench.store.reads.swap(0, Ordering::Relaxed);
    for folder in &folders {
        fs::write(folder.join("file"), "changed").unwrap();
    }
    reads();
    let done = bench.back_up("home").unwrap();
    let asked = reads();
    assert!(asked < FOLDERS / 10, "{asked} reads, for {FOLDERS} folders that changed");
    bench.restore(&bench.restoring(&done)).unwrap();
    let asked = reads();
    assert!(asked < FOLDERS / 10, "{asked} reads, to restore {FOLDERS} folders");
    bench.assert_exact();
}
