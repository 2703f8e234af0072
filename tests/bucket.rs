//! Vaults that keep their store in a bucket of a real object store: what such a bucket must promise, and several vaults at a time.
//! `make bucket` runs it, and the suites of the vault once more on buckets.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::{
    collections::BTreeSet,
    thread::{self, sleep},
    time::{Duration, Instant},
};

use bytes::Bytes;
use data_embassy::{
    trust::{
        envelope::{Envelope, Purpose},
        identity::Role,
        signing::SiteKey,
    },
    vault::{
        client::{ClientError, RepositoryClient},
        server::VaultError,
    },
};
use serde_json::json;
use support::{
    object_store::ObjectStore,
    vault::{BUCKET, TestVault, digest},
};

const PATH: &str = "ns/register/1-tallinn";

/// Two vaults on one bucket that host `tallinn`, and a client of an empty repository at the first.
fn two() -> (TestVault, TestVault, RepositoryClient) {
    let one = TestVault::start_program();
    one.host("tallinn", "ns", 1 << 30);
    let client = one.repository("tallinn", Role::Mover, PATH);
    client.create().unwrap();
    let other = one.beside().expect("VAULT_STORE is not 'bucket': use `make bucket`");
    (one, other, client)
}

fn objects(vault: &TestVault) -> &ObjectStore {
    vault.objects.as_ref().expect("VAULT_STORE is not 'bucket': use `make bucket`")
}

#[test]
fn a_bucket_that_keeps_nothing_is_refused_with_a_sentence() {
    let vault = TestVault::start();
    let store = objects(&vault);
    for (bucket, retention, why) in [
        ("open", None, "it has no Object Lock"),
        ("governed", Some(("GOVERNANCE", 30)), "is not in mode COMPLIANCE"),
        ("short", Some(("COMPLIANCE", 3)), "its default retention is 3d, and this vault promises 7d"),
    ] {
        store.bucket(bucket, retention);
        let open = |accepts: bool| {
            let change = |arguments: &mut data_embassy::vault::server::Arguments| {
                arguments.bucket = store.arguments(bucket);
                arguments.bucket.accept_unlocked_bucket = accepts;
                arguments.immutable_for = Duration::from_hours(7 * 24);
                arguments.root = vault.folder.path().join(bucket);
            };
            vault.second_with(change, sleep_a_moment())
        };
        let error = open(false).unwrap_err();
        assert!(matches!(error, VaultError::Unlocked { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(why) && text.contains("vault.bucket.acceptUnlocked"), "{text}");
        open(true).unwrap();
    }
    let missing =
        vault.second_with(|arguments| arguments.bucket = store.arguments("nowhere"), sleep_a_moment());
    assert!(matches!(missing, Err(VaultError::Bucket(_))), "{missing:?}");
    let public = |arguments: &mut data_embassy::vault::server::Arguments| {
        arguments.bucket.bucket_endpoint = Some("https://127.0.0.1:1".to_owned());
    };
    let text = vault.second_with(public, sleep_a_moment()).unwrap_err().to_string();
    assert!(text.contains("needs --bucket-ca"), "{text}");
}

async fn sleep_a_moment() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[test]
fn whoever_has_the_keys_of_the_bucket_can_hide_what_is_stored_and_not_destroy_it() {
    let (one, _other, client) = two();
    let name = digest(b"pack");
    client.write("data", &name, Bytes::from_static(b"pack")).unwrap();
    let store = objects(&one);
    let [(key, version)] = store.versions(BUCKET, &name).try_into().unwrap();
    let destroyed = store.send("DELETE", &format!("/{BUCKET}/{key}?versionId={version}"), &[], String::new());
    assert_eq!(destroyed.0, 403, "{}", destroyed.1);
    assert_eq!(client.read("data", &name).unwrap().as_ref(), b"pack");
    // Overwritten: the vault notices, and puts a good one in its place once it gets one; the first version is still there.
    assert_eq!(store.send("PUT", &format!("/{BUCKET}/{key}"), &[], "p4ck".to_owned()).0, 200);
    assert_eq!(client.read("data", &name).unwrap().as_ref(), b"p4ck");
    client.write("data", &name, Bytes::from_static(b"pack")).unwrap();
    assert_eq!(client.read("data", &name).unwrap().as_ref(), b"pack");
    assert!(store.versions(BUCKET, &name).iter().any(|(_, found)| *found == version));
}

#[test]
fn what_one_vault_took_the_other_knows() {
    let (one, other, client) = two();
    let there = other.repository("tallinn", Role::Mover, PATH);
    let content = vec![7; 40 << 20];
    client.write("data", &digest(&content), content.clone().into()).unwrap();
    assert!(there.read("data", &digest(&content)).unwrap() == content);
    let part = there.read_range("data", &digest(&content), 1_000, 17 << 20).unwrap();
    assert_eq!(part.len(), 17 << 20);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let [here, there] = [one.operator("tallinn"), other.operator("tallinn")];
        let waiting = tokio::spawn(async move {
            let found = there.mail("ns", "register", "tallinn", 0, Duration::from_secs(30)).await.unwrap();
            (there, found)
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        here.put_mail("ns", "register", "tallinn", 1, "first".to_owned()).await.unwrap();
        let (there, found) = waiting.await.unwrap();
        assert_eq!(found[0].text, "first");
        there.put_mail("ns", "register", "tallinn", 2, "second".to_owned()).await.unwrap();
        let letters = here.mail("ns", "register", "tallinn", 1, Duration::ZERO).await.unwrap();
        assert_eq!(letters[0].text, "second");
        let again = there.put_mail("ns", "register", "tallinn", 2, "another".to_owned()).await;
        assert!(again.is_err(), "{again:?}");
        here.put_point("ns", "register", "1-tallinn", 1, "manifest".to_owned()).await.unwrap();
        assert_eq!(there.point("ns", "register", "1-tallinn", 1).await.unwrap().text, "manifest");
    });
    let (_, boxes) = one.raw("tallinn", Role::Operator).send("GET", "/mail/ns/register", "");
    assert!(boxes.contains(r#""last":2"#), "{boxes}");
    // A change of the hosting counts at the other vault, too.
    one.host("tallinn", "elsewhere", 1);
    let until = Instant::now() + Duration::from_secs(30);
    let raw = other.raw("tallinn", Role::Operator);
    while raw.send("PUT", "/mail/ns/register/tallinn/3", "third").0 != 403 {
        assert!(Instant::now() < until, "the other vault still hosts the namespace");
        sleep(Duration::from_millis(200));
    }
}

#[test]
fn what_was_brought_here_from_a_folder_is_read_and_gone_on_with() {
    let (one, _other, _client) = two();
    let bring = |path: &str, content: &str| {
        assert_eq!(objects(&one).send("PUT", &format!("/{BUCKET}/{path}"), &[], content.to_owned()).0, 200);
    };
    let name = digest(b"pack");
    bring("embassies/ns/brought/owner", "tallinn");
    bring(&format!("embassies/ns/brought/repo/1-tallinn/data/{}/{name}", &name[..2]), "pack");
    bring("embassies/ns/brought/mail/tallinn/1.json", "first");
    let client = one.repository("tallinn", Role::Mover, "ns/brought/1-tallinn");
    assert_eq!(client.list("data").unwrap(), [(name.clone(), 4)]);
    assert_eq!(client.read("data", &name).unwrap().as_ref(), b"pack");
    client.write("data", &digest(b"more"), Bytes::from_static(b"more")).unwrap();
    let raw = one.raw("tallinn", Role::Operator);
    assert_eq!(raw.send("PUT", "/mail/ns/brought/tallinn/2", "second").0, 201);
    assert_eq!(raw.send("PUT", "/mail/ns/brought/tallinn/4", "fourth").0, 409);
    let other = one.repository("tallinn", Role::Mover, "ns/brought/2-tallinn");
    assert!(matches!(other.list("data"), Err(ClientError::NotFound { .. })));
}

/// Between two vaults there is no lock: what another one may free soon counts as gone.
#[test]
fn a_point_that_needs_what_is_about_to_go_is_not_taken() {
    let (one, _other, client) = two();
    client.write("config", "", Bytes::from_static(b"configuration")).unwrap();
    let pack = digest(b"pack");
    client.write("data", &pack, Bytes::from_static(b"pack")).unwrap();
    let added = [format!("data/{pack}")];
    let inventory =
        json!({ "version": 1, "depth": 0, "config": "", "added": added, "dropped": [] }).to_string();
    let name = digest(inventory.as_bytes());
    client.write("inventories", &name, inventory.into()).unwrap();
    let payload = json!({ "contents": { "inventory": name } }).to_string();
    let manifest =
        Envelope::sign(&SiteKey::generate().unwrap(), "tallinn", Purpose::Manifest, payload).to_text();
    let condemn = |since: i64| {
        let path = format!("/{BUCKET}/embassies/ns/register/condemned/1-tallinn.json");
        assert_eq!(objects(&one).send("PUT", &path, &[], json!({ &pack: since }).to_string()).0, 200);
    };
    let put = |sequence: i64| {
        let path = format!("/points/ns/register/1-tallinn/{sequence}");
        one.raw("tallinn", Role::Operator).send("PUT", &path, manifest.clone())
    };
    let half_a_round = 43_200;
    condemn(-half_a_round);
    let (status, answer) = put(1);
    assert!(status == 422 && answer.contains("AboutToGo") && answer.contains(&pack), "{status} {answer}");
    condemn(60 - half_a_round);
    assert_eq!(put(1).0, 201);
}

#[test]
fn of_two_documents_for_one_place_one_is_taken() {
    let (one, other, _client) = two();
    for sequence in 1..=20 {
        for path in ["/points/ns/register/1-tallinn", "/mail/ns/register/tallinn"] {
            let put = |vault: &TestVault, text: &'static str| {
                let raw = vault.raw("tallinn", Role::Operator);
                let path = format!("{path}/{sequence}");
                thread::spawn(move || raw.send("PUT", &path, text).0)
            };
            let answers = [put(&one, "from here"), put(&other, "from there")];
            let answers = answers.map(|answer| answer.join().unwrap());
            assert_eq!(BTreeSet::from(answers), [201, 409].into(), "{path}/{sequence}: {answers:?}");
        }
    }
}

/// Highest resident memory of a vault so far, in bytes.
fn peak(vault: &TestVault) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", vault.pid().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn many_large_uploads_at_a_time_stay_within_the_memory_that_the_chart_gives() {
    let (one, _other, _client) = two();
    let uploads: Vec<_> = (0..12_u8)
        .map(|number| {
            let client = one.repository("tallinn", Role::Mover, PATH);
            thread::spawn(move || {
                let content = vec![number; 48 << 20];
                client.write("data", &digest(&content), content.into()).unwrap();
            })
        })
        .collect();
    for upload in uploads {
        upload.join().unwrap();
    }
    let peak = peak(&one);
    println!("12 uploads of 48 MiB at a time: {} MiB at most", peak >> 20);
    assert!(peak < 512 << 20);
}

/// The time at which the vault is killed goes from before the upload to after its end.
#[test]
fn a_vault_that_is_killed_in_the_middle_of_an_upload_leaves_nothing_or_all_of_it() {
    let (other, mut victim, _client) = two();
    let there = other.repository("tallinn", Role::Mover, PATH);
    let (mut absent, mut whole) = (0, 0);
    for round in 0..16_u8 {
        let content = vec![round; 40 << 20];
        let name = digest(&content);
        let client = victim.repository("tallinn", Role::Mover, PATH);
        let upload = {
            let (name, content) = (name.clone(), Bytes::from(content.clone()));
            thread::spawn(move || client.write("data", &name, content))
        };
        sleep(Duration::from_millis(40 * u64::from(round)));
        victim.kill();
        let answered = upload.join().unwrap().is_ok();
        let listed = there.list("data").unwrap().into_iter().find(|(found, _)| *found == name);
        match listed {
            None => absent += 1,
            Some((_, size)) => {
                whole += 1;
                assert_eq!(size, content.len() as u64);
                assert!(there.read("data", &name).unwrap() == content);
            }
        }
        assert!(!answered || there.read("data", &name).is_ok(), "what was answered is there");
        there.write("data", &name, content.clone().into()).unwrap();
        assert!(there.read("data", &name).unwrap() == content);
        victim = other.beside().unwrap();
    }
    println!("killed in the middle of 16 uploads: {absent} left nothing, {whole} everything");
    assert!(absent > 0, "no vault was killed in time");
}
