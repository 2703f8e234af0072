//! Sizes at which a program that keeps too much in memory, or looks at each byte too often, does not come to its end.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    time::Instant,
};

use data_embassy::mover::restore::RestoreParameters;

use crate::{
    Bench,
    torture::{MIB, noise},
};

/// What a mover's Pod may use (`plan::desired::jobs`); here it is shared with the store of the tests.
const MEMORY: u64 = 768 * MIB;

/// Backs up, restores, and backs up what was restored; says how long each took and how much memory all of it.
fn there_and_back(bench: &Bench, what: &str) {
    let timed =
        |step: &str, start: Instant| println!("{what}: {step} in {:.0} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let done = bench.back_up("home").unwrap();
    timed("first backup", start);
    let start = Instant::now();
    let again = bench.back_up("home").unwrap();
    timed("backup of the same", start);
    assert_eq!(again.content_digest, done.content_digest);
    let start = Instant::now();
    bench.restore(&bench.restoring(&done)).unwrap();
    timed("restore", start);
    let start = Instant::now();
    let previous = Some(done.snapshot.clone());
    let restored = bench.restore(&RestoreParameters { previous, ..bench.restoring(&again) }).unwrap();
    timed("restore of the same", start);
    assert_eq!(restored.written_bytes, 0);
    assert_eq!(bench.back_up("abroad").unwrap().content_digest, done.content_digest, "what was restored");
    let peak = peak_memory();
    println!("{what}: at most {} MiB of memory", peak / MIB);
    assert!(peak < MEMORY, "a mover's Pod would have been killed");
}

/// Most memory that this process had.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
#[ignore = "takes minutes: make huge runs it"]
fn a_million_small_files() {
    let bench = Bench::new();
    let home = bench.volume("home");
    for folder in 0..1000_u64 {
        let folder_path = home.join(folder.to_string());
        fs::create_dir(&folder_path).unwrap();
        for file in 0..1000_u64 {
            fs::write(folder_path.join(file.to_string()), format!("entry {folder}/{file}")).unwrap();
        }
    }
    there_and_back(&bench, "1,000,000 files");
}

#[test]
#[ignore = "takes minutes: make huge runs it"]
fn a_sparse_file_of_200_gib() {
    let bench = Bench::new();
    let file = File::create(bench.volume("home").join("image")).unwrap();
    file.set_len(200 * 1024 * MIB).unwrap();
    for (number, gigabytes) in [0, 1, 57, 199].into_iter().enumerate() {
        file.write_all_at(&noise(number as u64, 3 * MIB), gigabytes * 1024 * MIB + 12_345).unwrap();
    }
    drop(file);
    there_and_back(&bench, "a sparse file of 200 GiB");
    let used = |path: &Path| fs::metadata(path.join("image")).unwrap().blocks() * 512;
    assert!(used(&bench.volume("abroad")) < 32 * MIB, "holes stay holes");
}
