//! Manifests, mail and policies: who may write and read what, in which order, and that it stays.

use std::time::{Duration, Instant};

use data_embassy::{
    trust::{
        envelope::{Envelope, Purpose},
        identity::Role,
        signing::SiteKey,
    },
    vault::{
        client::{ClientError, VaultClient},
        protocol::{Mailbox, Policy, Problem},
    },
};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    repository::{PATH, digest, prepared},
    support::vault::TestVault,
};

const QUOTA: i64 = 1 << 20;

fn hosting() -> TestVault {
    let vault = TestVault::start();
    vault.host("tallinn", "ns", QUOTA);
    vault
}

async fn post(client: &VaultClient, site: &str, sequence: i64, text: &str) -> Result<(), ClientError> {
    client.put_mail("ns", "register", site, sequence, text.to_owned()).await
}

async fn read(client: &VaultClient, site: &str, after: i64, wait: u64) -> Vec<(i64, String)> {
    let letters = client.mail("ns", "register", site, after, Duration::from_secs(wait)).await.unwrap();
    letters.into_iter().map(|letter| (letter.sequence, letter.text)).collect()
}

#[test]
fn the_vault_says_who_is_who() {
    let vault = TestVault::start();
    std::fs::write(vault.tls("site.pub"), "ed25519:key\n").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = vault.operator("tallinn");
        let me = client.whoami().await.unwrap();
        assert_eq!(
            (me.site.as_str(), me.role.as_str(), me.vault_site.as_str()),
            ("tallinn", "operator", "luxembourg")
        );
        let keys = client.keys().await.unwrap();
        assert_eq!((keys.site.as_str(), keys.public_key.as_deref()), ("luxembourg", Some("ed25519:key")));
        assert_eq!(keys.recipient, None);
    });
    let mover = vault.raw("tallinn", Role::Mover);
    assert_eq!(mover.send("GET", "/whoami", "").0, 200);
    assert_eq!(mover.refused("GET", "/keys", "").1, "NotForMovers");
}

/// A manifest as far as the vault reads it, by nobody in particular.
fn manifest_of(inventory: &str) -> String {
    let payload = json!({ "contents": { "inventory": inventory } }).to_string();
    let key = SiteKey::generate().unwrap();
    Envelope::sign(&key, "tallinn", Purpose::Manifest, payload).to_text()
}

#[test]
fn a_point_with_holes_is_not_taken() {
    let (vault, client) = prepared(QUOTA);
    let operator = vault.raw("tallinn", Role::Operator);
    let put = |sequence: i64, inventory: &str| {
        let path = format!("/points/ns/register/1-tallinn/{sequence}");
        let (status, body) = operator.send("PUT", &path, manifest_of(inventory));
        (status, serde_json::from_str::<Problem>(&body).map(|problem| problem.message).unwrap_or_default())
    };
    let (pack, other) = (b"a pack".as_slice(), b"another pack".as_slice());
    let store = |content: &Value| {
        let content = content.to_string();
        client.write("inventories", &digest(content.as_bytes()), content.clone().into()).unwrap();
        digest(content.as_bytes())
    };
    let inventory = |base: Option<&str>, depth: i64, added: &[u8]| {
        let added = [format!("data/{}", digest(added))];
        json!({"version": 1, "base": base, "depth": depth, "config": "", "added": added, "dropped": []})
    };
    let first = inventory(None, 0, pack);
    let name = digest(first.to_string().as_bytes());
    let refused = |sequence: i64, name: &str, missing: &str| {
        let (status, message) = put(sequence, name);
        assert_eq!(status, 422, "{message}");
        assert!(message.contains(missing), "{message}");
    };
    refused(1, &name, &format!("inventories/{name}"));
    store(&first);
    refused(1, &name, "2 objects");
    client.write("config", "", Bytes::from_static(b"configuration")).unwrap();
    refused(1, &name, &format!("data/{}", digest(pack)));
    client.write("data", &digest(pack), pack.into()).unwrap();
    assert_eq!(put(1, &name).0, 201);
    // What it builds on must be whole, too.
    let second = store(&inventory(Some(&name), 1, other));
    refused(2, &second, &format!("data/{}", digest(other)));
    client.write("data", &digest(other), other.into()).unwrap();
    let lost = format!("embassies/ns/register/repo/1-tallinn/data/{}/{}", &digest(pack)[..2], digest(pack));
    std::fs::remove_file(vault.store(&lost)).unwrap();
    refused(2, &second, &format!("data/{}", digest(pack)));
    client.write("data", &digest(pack), pack.into()).unwrap();
    assert_eq!(put(2, &second).0, 201);
    // The same again is answered although a disk may have lost something since.
    assert_eq!(put(1, "no inventory's name").0, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_are_put_once() {
    let mut vault = tokio::task::spawn_blocking(hosting).await.unwrap();
    let client = vault.operator("tallinn");
    let put =
        |sequence, text: &str| client.put_point("ns", "register", "1-tallinn", sequence, text.to_owned());
    for sequence in [2, 10, 1] {
        put(sequence, &format!("manifest {sequence}")).await.unwrap();
        put(sequence, &format!("manifest {sequence}")).await.unwrap();
    }
    let error = put(2, "another").await.unwrap_err();
    assert!(matches!(error, ClientError::Conflict { text: Some(text), .. } if text == "manifest 2"));
    let local = vault.operator("luxembourg");
    local.put_point("ns", "register", "2-luxembourg", 1, "theirs".to_owned()).await.unwrap();
    vault = tokio::task::spawn_blocking(move || {
        vault.restart();
        vault
    })
    .await
    .unwrap();
    let client = vault.operator("tallinn");
    let points = async |epoch, after| {
        let points = client.points("ns", "register", epoch, after).await.unwrap();
        points.into_iter().map(|point| format!("{}/{}", point.epoch, point.sequence)).collect::<Vec<_>>()
    };
    assert_eq!(points(None, 0).await, ["1-tallinn/1", "1-tallinn/2", "1-tallinn/10", "2-luxembourg/1"]);
    assert_eq!(points(Some("1-tallinn"), 2).await, ["1-tallinn/10"]);
    assert!(points(Some("3-tallinn"), 0).await.is_empty());
    assert_eq!(client.point("ns", "register", "2-luxembourg", 1).await.unwrap().text, "theirs");
    let missing = client.point("ns", "register", "2-luxembourg", 2).await;
    assert!(matches!(missing, Err(ClientError::NotFound { .. })));
    tokio::task::spawn_blocking(move || drop(vault)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_has_no_gaps_and_no_second_version() {
    let mut vault = tokio::task::spawn_blocking(hosting).await.unwrap();
    let client = vault.operator("tallinn");
    assert!(read(&client, "tallinn", 0, 0).await.is_empty());
    for sequence in 1..=70 {
        post(&client, "tallinn", sequence, &format!("letter {sequence}")).await.unwrap();
    }
    post(&client, "tallinn", 70, "letter 70").await.unwrap();
    for (sequence, text) in [(72, "gap"), (69, "letter 69"), (70, "another")] {
        let error = post(&client, "tallinn", sequence, text).await.unwrap_err();
        assert!(matches!(error, ClientError::Conflict { last: Some(70), .. }), "{sequence}: {error}");
    }
    let first = read(&client, "tallinn", 0, 0).await;
    assert_eq!((first.len(), first[63].0, first[63].1.as_str()), (64, 64, "letter 64"));
    assert_eq!(read(&client, "tallinn", 64, 0).await.len(), 6);
    vault = tokio::task::spawn_blocking(move || {
        vault.restart();
        vault
    })
    .await
    .unwrap();
    let client = vault.operator("tallinn");
    let boxes = client.last_mail("ns", "register").await.unwrap();
    assert_eq!(boxes, [Mailbox { site: "tallinn".to_owned(), last: 70 }]);
    post(&client, "tallinn", 71, "after the restart").await.unwrap();
    tokio::task::spawn_blocking(move || drop(vault)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_wait_for_the_next_letter() {
    let vault = tokio::task::spawn_blocking(hosting).await.unwrap();
    let (home, embassy) = (vault.operator("tallinn"), vault.operator("luxembourg"));
    // Waiting begins before anything is stored for the embassy.
    let reader = tokio::spawn(async move {
        let first = read(&embassy, "tallinn", 0, 20).await;
        let second = read(&embassy, "tallinn", 1, 20).await;
        (first, second, Instant::now())
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    post(&home, "tallinn", 1, "one").await.unwrap();
    tokio::time::sleep(Duration::from_millis(900)).await;
    let posted = Instant::now();
    post(&home, "tallinn", 2, "two").await.unwrap();
    let (first, second, read_at) = reader.await.unwrap();
    assert_eq!((first[0].1.as_str(), second[0].1.as_str()), ("one", "two"));
    assert!(read_at - posted < Duration::from_millis(500), "{:?}", read_at - posted);
    let started = Instant::now();
    assert!(read(&home, "luxembourg", 0, 1).await.is_empty());
    assert!(started.elapsed() >= Duration::from_secs(1));
    // A vault that stops lets readers go at once.
    let waiting = tokio::spawn(async move { read(&home, "tallinn", 2, 50).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let started = Instant::now();
    tokio::task::spawn_blocking(move || drop(vault)).await.unwrap();
    assert!(waiting.await.unwrap().is_empty());
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn rights() {
    let vault = hosting();
    vault.host("riga", "other", QUOTA);
    vault.raw("tallinn", Role::Operator).send("PUT", "/mail/ns/register/tallinn/1", "first");
    vault.repository("tallinn", Role::Operator, PATH).create().unwrap();
    let object = format!("/repo/{PATH}/data/{}", digest(b"x"));
    let own = "/repo/ns/register/2-luxembourg/?create=true";
    for (site, role, method, path, expected) in [
        // The mover: repositories only.
        ("tallinn", Role::Mover, "POST", object.as_str(), "200"),
        ("tallinn", Role::Mover, "GET", object.as_str(), "200"),
        ("tallinn", Role::Mover, "GET", "/mail/ns/register/tallinn", "NotForMovers"),
        ("tallinn", Role::Mover, "PUT", "/mail/ns/register/tallinn/2", "NotForMovers"),
        ("tallinn", Role::Mover, "GET", "/points/ns/register", "NotForMovers"),
        ("tallinn", Role::Mover, "PUT", "/points/ns/register/1-tallinn/1", "NotForMovers"),
        // The local site: reads all, writes under its own name.
        ("luxembourg", Role::Mover, "GET", object.as_str(), "200"),
        ("luxembourg", Role::Mover, "POST", object.as_str(), "NotAuthor"),
        ("luxembourg", Role::Mover, "POST", own, "200"),
        ("luxembourg", Role::Mover, "GET", "/mail/ns/register/tallinn", "200"),
        ("luxembourg", Role::Mover, "GET", "/points/ns/register", "200"),
        ("luxembourg", Role::Mover, "GET", "/epochs/ns/register", "200"),
        ("luxembourg", Role::Mover, "PUT", "/mail/ns/register/luxembourg/1", "NotForMovers"),
        ("luxembourg", Role::Mover, "PUT", "/points/ns/register/2-luxembourg/1", "NotForMovers"),
        ("luxembourg", Role::Mover, "GET", "/keys", "NotForMovers"),
        ("luxembourg", Role::Mover, "GET", "/embassies", "NotLocalOperator"),
        ("luxembourg", Role::Operator, "PUT", "/mail/ns/register/luxembourg/1", "201"),
        ("luxembourg", Role::Operator, "PUT", "/mail/ns/register/tallinn/2", "NotAuthor"),
        ("luxembourg", Role::Operator, "PUT", "/points/ns/register/1-tallinn/1", "NotAuthor"),
        // The owner: nothing under the local site's name.
        ("tallinn", Role::Operator, "PUT", "/mail/ns/register/luxembourg/2", "NotAuthor"),
        ("tallinn", Role::Operator, "POST", own, "NotAuthor"),
        ("tallinn", Role::Operator, "GET", "/mail/ns/register/luxembourg", "200"),
        // Another hosted site: nothing of this embassy, and no other namespace.
        ("riga", Role::Operator, "GET", object.as_str(), "NotOwner"),
        ("riga", Role::Operator, "GET", "/mail/ns/register", "NotOwner"),
        ("riga", Role::Operator, "PUT", "/mail/ns/register/riga/1", "NotOwner"),
        ("riga", Role::Operator, "PUT", "/mail/ns/new/riga/1", "NamespaceNotHosted"),
        ("riga", Role::Operator, "GET", "/mail/ns/new", "NamespaceNotHosted"),
        ("riga", Role::Operator, "PUT", "/mail/other/new/riga/1", "201"),
        // A site that nobody hosts.
        ("vilnius", Role::Operator, "GET", "/mail/ns/register", "NoPolicy"),
        ("vilnius", Role::Operator, "PUT", "/mail/ns/new/vilnius/1", "NoPolicy"),
        ("vilnius", Role::Mover, "GET", object.as_str(), "NoPolicy"),
        // Policies.
        ("tallinn", Role::Operator, "PUT", "/policy/tallinn", "NotLocalOperator"),
        ("luxembourg", Role::Mover, "PUT", "/policy/tallinn", "NotLocalOperator"),
    ] {
        let (status, body) = vault.raw(site, role).send(method, path, "x");
        let what = format!("{role} of {site}: {method} {path}: {status} {body}");
        match expected.parse::<u16>() {
            Ok(expected) => assert_eq!(status, expected, "{what}"),
            Err(_) => assert!(status == 403 && body.contains(&format!("\"{expected}\"")), "{what}"),
        }
    }
}

#[test]
fn the_local_site_may_come_first_without_taking_the_embassy() {
    let vault = hosting();
    let put = |site: &str, path: &str| vault.raw(site, Role::Operator).send("PUT", path, "x").0;
    assert_eq!(put("luxembourg", "/mail/ns/register/luxembourg/1"), 201);
    assert_eq!(put("tallinn", "/mail/ns/register/tallinn/1"), 201);
    // Where nobody is hosted the local site is at home.
    assert_eq!(put("luxembourg", "/mail/own/register/luxembourg/1"), 201);
    vault.host("riga", "own", QUOTA);
    assert_eq!(
        vault.raw("riga", Role::Operator).refused("PUT", "/mail/own/register/riga/1", "x").1,
        "NotOwner"
    );
    // Where two are hosted it waits for the owner.
    vault.host("tallinn", "own", QUOTA);
    let local = vault.raw("luxembourg", Role::Operator);
    assert_eq!(local.refused("PUT", "/mail/own/second/luxembourg/1", "x").1, "OwnerUnknown");
    assert_eq!(put("riga", "/mail/own/second/riga/1"), 201);
    assert_eq!(put("luxembourg", "/mail/own/second/luxembourg/1"), 201);
}

#[test]
fn a_namespace_that_is_no_longer_hosted_is_still_read() {
    let vault = hosting();
    let raw = vault.raw("tallinn", Role::Operator);
    assert_eq!(raw.send("PUT", "/mail/ns/register/tallinn/1", "x").0, 201);
    vault.host("tallinn", "other", QUOTA);
    assert_eq!(raw.refused("PUT", "/mail/ns/register/tallinn/2", "x").1, "NamespaceNotHosted");
    assert_eq!(raw.send("GET", "/mail/ns/register/tallinn", "").0, 200);
}

#[test]
fn bad_requests_are_refused_with_a_sentence() {
    let vault = hosting();
    let raw = vault.raw("tallinn", Role::Operator);
    let too_long = "x".repeat((256 << 10) + 1);
    for (method, path, body, status, reason) in [
        ("GET", "/", "", 404, "NoSuchPath"),
        ("GET", "/mail/ns/register/%2e%2e%2fx", "", 400, "BadName"),
        ("GET", "/repo/ns/register/1-tallinn/data/abc", "", 400, "BadName"),
        ("PUT", "/mail/ns/register/tallinn/0", "x", 400, "BadName"),
        ("PATCH", "/mail/ns/register/tallinn/1", "x", 405, "BadMethod"),
        ("POST", "/repo/ns/register/1-tallinn/", "", 400, "BadRequest"),
        ("GET", "/mail/ns/register/tallinn?after=x", "", 400, "BadRequest"),
        ("PUT", "/mail/ns/register/tallinn/1", too_long.as_str(), 413, "TooLarge"),
        ("PUT", "/points/ns/register/1-tallinn/1", too_long.as_str(), 413, "TooLarge"),
    ] {
        assert_eq!(
            raw.refused(method, path, body.to_owned()),
            (status, reason.to_owned()),
            "{method} {path}"
        );
    }
    assert_eq!(raw.refused("PUT", "/mail/ns/register/tallinn/1", vec![0xff]).1, "BadRequest");
    let local = vault.raw("luxembourg", Role::Operator);
    for (site, body) in [
        ("tallinn", "{}"),
        ("tallinn", r#"{"namespaces":["../x"],"quotaBytes":1}"#),
        ("tallinn", r#"{"namespaces":[],"quotaBytes":-1}"#),
        ("luxembourg", r#"{"namespaces":[],"quotaBytes":1}"#),
    ] {
        assert_eq!(local.refused("PUT", &format!("/policy/{site}"), body).1, "BadRequest", "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_survive_a_restart() {
    let mut vault = tokio::task::spawn_blocking(TestVault::start).await.unwrap();
    let policy = Policy { namespaces: vec!["ns".to_owned()], quota_bytes: QUOTA, public_key: None };
    vault.operator("luxembourg").put_policy("tallinn", &policy).await.unwrap();
    vault = tokio::task::spawn_blocking(move || {
        vault.restart();
        vault
    })
    .await
    .unwrap();
    post(&vault.operator("tallinn"), "tallinn", 1, "x").await.unwrap();
    tokio::task::spawn_blocking(move || drop(vault)).await.unwrap();
}
