//! Mover and vault are killed, and their disks fail, at any point of backup, commit and restore. Afterwards every committed
//! point comes back byte for byte, nothing uncommitted is visible, and nothing is stored twice.
//!
//! The operator is killed after each of its writes by the failover suite, on real clusters.

#![cfg(test)]

#[path = "crash/fault.rs"]
mod fault;
mod support;
#[path = "mover/torture.rs"]
#[allow(dead_code)] // its trees are too large for hundreds of rounds
mod torture;
#[path = "crash/world.rs"]
mod world;

use std::time::Duration;

use fault::Fault;
use world::{Victim, World};

const VICTIMS: [Victim; 5] =
    [Victim::Backup, Victim::VaultAtBackup, Victim::VaultAtCommit, Victim::Restore, Victim::VaultAtRestore];

/// The calls by which the vault, a restore and a backup use disks.
const DISK: [(Victim, &[&str]); 4] = [
    (Victim::VaultAtBackup, &["openat", "fsync", "linkat", "unlink", "mkdir"]),
    (Victim::VaultAtCommit, &["openat", "fsync", "linkat", "unlink"]),
    (
        Victim::Restore,
        &["openat", "pwrite64", "ftruncate", "unlinkat", "linkat", "utimensat", "chmod", "syncfs"],
    ),
    (Victim::Backup, &["openat", "getdents64", "read"]),
];
/// Others, at which they can be killed. (They also wake threads by them, so that a failing one says nothing of a disk.)
const FURTHER: [(Victim, &[&str]); 4] = [
    (Victim::VaultAtBackup, &["write", "writev"]),
    (Victim::VaultAtCommit, &["write"]),
    (Victim::Restore, &["writev", "recvfrom"]),
    (Victim::Backup, &["writev", "recvfrom"]),
];

/// `CRASHES=200` for as many as that.
#[test]
fn killed_at_random_moments() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::new();
    for victim in VICTIMS.into_iter().cycle().take(usize::try_from(number("CRASHES").unwrap_or(20)).unwrap())
    {
        world.round(victim, Fault::KilledAfter(Duration::from_millis(random.u64(0..400))));
    }
    world.settle();
}

/// At the first call of a kind, at the second, until there is no such one; from the eighth on in growing steps.
fn at_each_call(calls: &[(Victim, &[&'static str])], fault: impl Fn(&'static str, u32) -> Fault) {
    let mut world = World::new();
    for (victim, names) in calls {
        for name in *names {
            let mut number = 1;
            while world.round(*victim, fault(name, number)) {
                number = (number + 1).max((number * 3 / 2).saturating_sub(3));
            }
            println!("{victim:?}: {name}, up to number {number}");
            assert!(number > 1, "{victim:?} makes no call {name}");
        }
    }
    world.settle();
}

#[test]
#[ignore = "takes minutes: make crash runs it"]
fn killed_at_every_call() {
    at_each_call(&[DISK, FURTHER].concat(), Fault::KilledAt);
}

#[test]
#[ignore = "takes minutes: make crash runs it"]
fn a_disk_that_fails_at_every_call() {
    at_each_call(&DISK, |call, number| Fault::FailsAt(call, number, "EIO"));
}

#[test]
#[ignore = "takes minutes: make crash runs it"]
fn a_disk_that_is_full_at_every_call() {
    at_each_call(&DISK[..3], |call, number| Fault::FailsAt(call, number, "ENOSPC"));
}

/// Run by the others, in a process that they disturb.
#[test]
#[ignore = "a part of the others"]
fn a_backup_in_a_process_of_its_own() {
    world::back_up_in(std::env::var_os("WORLD").expect("run by the other tests only").as_ref());
}
