//! Repositories: what goes in comes out, and nothing is changed, lost or left over.

use std::{fs, path::Path};

use bytes::Bytes;
use data_embassy::{
    trust::identity::Role,
    vault::client::{ClientError, RepositoryClient},
};

pub use crate::support::vault::digest;

use crate::support::vault::TestVault;

pub const PATH: &str = "ns/register/1-tallinn";

/// A vault that hosts `tallinn` in `ns`, with an empty repository.
pub fn prepared(quota_bytes: i64) -> (TestVault, RepositoryClient) {
    prepared_in(TestVault::start(), quota_bytes)
}

fn prepared_in(vault: TestVault, quota_bytes: i64) -> (TestVault, RepositoryClient) {
    vault.host("tallinn", "ns", quota_bytes);
    let client = vault.repository("tallinn", Role::Mover, PATH);
    client.create().unwrap();
    (vault, client)
}

fn reason(error: ClientError) -> String {
    match error {
        ClientError::Refused { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

/// Names of all files below a folder of the store.
fn files(folder: &Path) -> Vec<String> {
    let walk = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    let files = walk.filter(|entry| entry.file_type().is_file());
    files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn what_goes_in_comes_out() {
    let (vault, client) = prepared(100 << 20);
    assert!(client.list("config").unwrap().is_empty());
    client.write("config", "", Bytes::from_static(b"configuration")).unwrap();
    assert_eq!(client.read("config", "any").unwrap().as_ref(), b"configuration");
    assert_eq!(client.list("config").unwrap(), [("config".to_owned(), 13)]);
    let content: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251).to_le_bytes()[0]).collect();
    let name = digest(&content);
    for kind in ["data", "index", "snapshots"] {
        client.write(kind, &name, content.clone().into()).unwrap();
        assert_eq!(client.list(kind).unwrap(), [(name.clone(), 20_000_000)]);
        assert!(client.read(kind, &name).unwrap() == content, "{kind}");
        let part = client.read_range(kind, &name, 1_000_003, 70_000).unwrap();
        assert!(part == content[1_000_003..1_070_003], "{kind}");
    }
    assert!(client.list("keys").unwrap().is_empty());
    assert!(client.read_range("data", &name, 19_999_999, 2).is_err());
    assert_eq!(client.read_range("data", &name, 5, 0).unwrap().len(), 0);
    drop(vault);
}

#[test]
fn the_same_again_is_no_error_and_another_is_refused() {
    let (vault, client) = prepared(1 << 20);
    client.create().unwrap();
    for _ in 0..2 {
        client.write("config", "", Bytes::from_static(b"one")).unwrap();
        client.write("data", &digest(b"pack"), Bytes::from_static(b"pack")).unwrap();
    }
    assert_eq!(reason(client.write("config", "", Bytes::from_static(b"two")).unwrap_err()), "Exists");
    let error = client.write("data", &digest(b"pack"), Bytes::from_static(b"kcap")).unwrap_err();
    assert_eq!(reason(error), "WrongDigest");
    assert_eq!(client.read("config", "").unwrap().as_ref(), b"one");
    assert!(files(&vault.uploads()).is_empty());
}

#[test]
fn a_damaged_upload_leaves_nothing() {
    let (vault, client) = prepared(1 << 20);
    let error = client.write("data", &digest(b"pack"), Bytes::from_static(b"p4ck")).unwrap_err();
    assert_eq!(reason(error), "WrongDigest");
    assert!(client.list("data").unwrap().is_empty());
    assert!(files(&vault.uploads()).is_empty());
    assert!(matches!(client.read("data", &digest(b"pack")), Err(ClientError::NotFound { .. })));
}

#[test]
fn a_stored_object_that_the_disk_damaged_is_replaced_by_a_good_one_and_kept() {
    let (vault, client) = prepared(1 << 20);
    let name = digest(b"pack");
    client.write("index", &name, Bytes::from_static(b"pack")).unwrap();
    let file = vault.store("embassies/ns/register/repo/1-tallinn/index").join(&name);
    for (number, damaged) in [&b"pa"[..], b"p4ck", b"pack and more", b""].into_iter().enumerate() {
        fs::write(&file, damaged).unwrap();
        let error = client.write("index", &name, Bytes::from_static(b"p5ck")).unwrap_err();
        assert_eq!(reason(error), "WrongDigest", "only by what its name is true of");
        assert_eq!(fs::read(&file).unwrap(), damaged);
        client.write("index", &name, Bytes::from_static(b"pack")).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"pack");
        let kept = format!("embassies/ns/register/damaged/1-tallinn-index-{name}-{}", number + 1);
        assert_eq!(fs::read(vault.store(&kept)).unwrap(), damaged);
    }
    client.write("index", &name, Bytes::from_static(b"pack")).unwrap();
    assert_eq!(
        files(&vault.store("embassies/ns/register/damaged")).len(),
        4,
        "a sound one is never replaced"
    );
    let stored = vault.health("/metrics");
    let used = stored.lines().find(|line| line.starts_with("data_embassy_vault_stored_bytes")).unwrap();
    assert!(used.ends_with(" 4"), "what is aside is not counted: {used}");
    let other = vault.repository("luxembourg", Role::Mover, PATH);
    fs::write(&file, b"pa").unwrap();
    assert_eq!(reason(other.write("index", &name, Bytes::from_static(b"pack")).unwrap_err()), "NotAuthor");
}

#[test]
fn uploads_need_a_repository() {
    let vault = TestVault::start();
    vault.host("tallinn", "ns", 1 << 20);
    let client = vault.repository("tallinn", Role::Mover, PATH);
    let error = client.write("config", "", Bytes::from_static(b"one")).unwrap_err();
    assert!(matches!(error, ClientError::NotFound { .. }), "{error}");
    assert!(matches!(client.list("data"), Err(ClientError::NotFound { .. })));
}

#[test]
fn keys_locks_and_deletion_are_refused() {
    let (vault, client) = prepared(1 << 20);
    let name = digest(b"x");
    assert_eq!(reason(client.write("keys", &name, Bytes::from_static(b"x")).unwrap_err()), "NoKeyFiles");
    assert_eq!(reason(client.write("locks", &name, Bytes::from_static(b"x")).unwrap_err()), "NoLocks");
    client.write("data", &name, Bytes::from_static(b"x")).unwrap();
    for site in ["tallinn", "luxembourg"] {
        let raw = vault.raw(site, Role::Operator);
        for path in [format!("/repo/{PATH}/data/{name}"), format!("/repo/{PATH}/"), "/anything".to_owned()] {
            assert_eq!(raw.refused("DELETE", &path, ""), (403, "NeverDeletes".to_owned()));
        }
    }
    assert_eq!(client.read("data", &name).unwrap().as_ref(), b"x");
}

#[test]
fn a_quota_is_a_final_answer_and_leaves_room_for_mail() {
    let (vault, client) = prepared(1_000_000);
    let large = vec![7; 900_000];
    client.write("data", &digest(&large), large.clone().into()).unwrap();
    let more = vec![8; 200_000];
    let error = client.write("data", &digest(&more), more.into()).unwrap_err();
    assert_eq!(reason(error), "QuotaExceeded");
    assert!(files(&vault.uploads()).is_empty());
    // What is stored already needs no space.
    client.write("data", &digest(&large), large.into()).unwrap();
    let small = vec![9; 90_000];
    client.write("data", &digest(&small), small.into()).unwrap();
    let raw = vault.raw("tallinn", Role::Operator);
    assert_eq!(raw.send("PUT", "/mail/ns/register/tallinn/1", "x".repeat(100_000)).0, 201);
    vault.host("tallinn", "ns", 2_000_000);
    let more = vec![8; 200_000];
    client.write("data", &digest(&more), more.into()).unwrap();
}

#[test]
fn an_object_has_a_largest_size() {
    let vault = TestVault::start_with(|arguments| arguments.max_object_bytes = 1 << 20);
    let (vault, client) = prepared_in(vault, 100 << 20);
    let large = vec![0; 8 << 20];
    assert_eq!(reason(client.write("data", &digest(&large), large.into()).unwrap_err()), "TooLarge");
    assert_eq!(reason(client.write("config", "", vec![0; (64 << 10) + 1].into()).unwrap_err()), "TooLarge");
    assert!(files(&vault.uploads()).is_empty());
    assert!(
        !files(&vault.store("embassies/ns/register/repo"))
            .iter()
            .any(|name| name.len() == 64 || name == "config")
    );
}

#[test]
fn a_restart_keeps_all() {
    let (mut vault, client) = prepared(1_000_000);
    let large = vec![7; 900_000];
    let name = digest(&large);
    client.write("data", &name, large.clone().into()).unwrap();
    fs::write(vault.uploads().join("99"), b"cut off").unwrap();
    vault.restart();
    assert!(files(&vault.uploads()).is_empty());
    let client = vault.repository("tallinn", Role::Mover, PATH);
    assert!(client.read("data", &name).unwrap() == large);
    let more = vec![8; 200_000];
    assert_eq!(reason(client.write("data", &digest(&more), more.into()).unwrap_err()), "QuotaExceeded");
}

#[test]
fn a_vault_that_is_away_for_a_moment_is_waited_for() {
    let (mut vault, client) = prepared(1 << 20);
    client.write("data", &digest(b"x"), Bytes::from_static(b"x")).unwrap();
    vault.stop();
    let started = std::time::Instant::now();
    let error = client.read("data", &digest(b"x")).unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    // 10, 20, 40 and 80 ms between five tries.
    assert!(started.elapsed() >= std::time::Duration::from_millis(150));
}
