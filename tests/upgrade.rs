//! Two versions of the operator on the two sides, through a real vault: what a newer one wrote is refused by name and not
//! lost, and whoever is upgraded reads on where it stopped. `make unit` runs this as this version and as the next one.

#![cfg(test)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use data_embassy::{
    observe::post::{Correspondence, Mailbox, PostError},
    plan::{
        desired::Owner,
        failover::{
            document::{DOCUMENT_VERSION, document},
            first_record::{Before, Beginning, begin},
        },
        mandate::MANDATE_VERSION,
        manifest::MANIFEST_VERSION,
    },
    trust::{
        chain::ChainHead,
        envelope::{Envelope, Purpose},
        identity::Role,
        signing::SiteKey,
    },
    vault::client::VaultClient,
};
use serde_json::{Value, json};
use support::vault::TestVault;

const NAMESPACE: &str = "land";

/// Home writes; luxembourg reads.
struct Bench {
    _vault: TestVault,
    home: VaultClient,
    key: SiteKey,
    head: ChainHead,
    post: Correspondence,
}

impl Bench {
    fn new() -> Self {
        let vault = TestVault::start();
        vault.host("tallinn", NAMESPACE, 1 << 20);
        let owner = Owner { namespace: NAMESPACE.to_owned(), name: "land".to_owned() };
        let post = Correspondence { vault: vault.operator("luxembourg"), owner };
        let home = VaultClient::new(&vault.url(), &vault.material("tallinn", Role::Operator)).unwrap();
        Self { home, key: SiteKey::generate().unwrap(), head: ChainHead::default(), post, _vault: vault }
    }

    async fn send(&mut self, body: Value) {
        let (text, head) = self.head.compose(body, &self.key, "tallinn");
        self.home.put_mail(NAMESPACE, "land", "tallinn", head.sequence, text).await.unwrap();
        self.head = head;
    }

    async fn open(&self) -> Result<Mailbox, PostError> {
        self.post.open("tallinn", &self.key.public()).await
    }

    async fn read(&self, mailbox: &mut Mailbox) -> Result<bool, PostError> {
        self.post.read("tallinn", &self.key.public(), mailbox).await
    }
}

/// A report of home on its first day, as version `version` would write it.
fn report(version: i64) -> Value {
    let boot_ids = BTreeSet::new();
    let before = Before {
        site: "tallinn",
        peers: BTreeMap::from([("luxembourg", None)]),
        home: "tallinn",
        boot_ids: &boot_ids,
        own_document: Some(None),
        volumes_exist: true,
    };
    let Beginning::Record(record, _) = begin(&before) else { panic!("home begins with a record") };
    let report = json!({"time": "2026-01-01T00:00:00Z", "mandate": 0, "document": document(&record, true)});
    let mut body = json!({"embassy": format!("{NAMESPACE}/land"), "says": {"report": report}});
    body["says"]["report"]["document"]["version"] = json!(version);
    if version > DOCUMENT_VERSION {
        body["says"]["report"]["document"]["quorum"] = json!("what this version does not know");
    }
    body
}

fn refused(result: Result<impl Sized, PostError>, what: &str) {
    match result {
        Err(error @ PostError::UnknownVersion { .. }) => {
            let text = error.to_string();
            assert!(text.contains("tallinn runs a newer version") && text.contains(what), "{text}");
            assert!(text.contains("Upgrade the operator of this site"), "{text}");
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was read"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_operator_reports_is_refused_by_name_and_stays_where_it_is() {
    let mut bench = tokio::task::spawn_blocking(Bench::new).await.unwrap();
    let mut mailbox = Mailbox::default();
    for version in 1..=DOCUMENT_VERSION {
        bench.send(report(version)).await;
        assert!(bench.read(&mut mailbox).await.unwrap(), "version {version} is understood");
        assert_eq!(mailbox.report.as_ref().unwrap().document.version, version);
    }
    bench.send(report(DOCUMENT_VERSION + 1)).await;
    refused(bench.read(&mut mailbox).await, "report");
    assert_eq!(
        mailbox.head.sequence, DOCUMENT_VERSION,
        "what was read stays read, what was not is not skipped"
    );
    refused(bench.read(&mut mailbox).await, "report");
    refused(bench.open().await, "report");
    // The other side went back to what both know: the letter in between is still refused, in its place.
    bench.send(report(1)).await;
    refused(bench.read(&mut mailbox).await, "report");
    assert!(bench.open().await.unwrap().report.is_some(), "a new process begins at the last letter");
    tokio::task::spawn_blocking(move || drop(bench)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_mandates_and_kinds_of_letters_are_refused_by_name() {
    let mut bench = tokio::task::spawn_blocking(Bench::new).await.unwrap();
    let embassy = format!("{NAMESPACE}/land");
    let mandate = json!({"version": MANDATE_VERSION + 1, "covenant": "new"});
    bench.send(json!({"embassy": embassy, "says": {"mandate": {"publicKey": "", "mandate": mandate}}})).await;
    refused(bench.open().await, "mandate");
    let mut bench = {
        tokio::task::spawn_blocking(move || drop(bench)).await.unwrap();
        tokio::task::spawn_blocking(Bench::new).await.unwrap()
    };
    bench.send(json!({"embassy": embassy, "says": {"release": {"shares": 3}}})).await;
    refused(bench.open().await, "of kind 'release'");
    tokio::task::spawn_blocking(move || drop(bench)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_recovery_point_is_refused_by_name_and_not_passed_over() {
    let bench = tokio::task::spawn_blocking(Bench::new).await.unwrap();
    let payload = json!({"version": MANIFEST_VERSION + 1, "layout": "new"}).to_string();
    let text = Envelope::sign(&bench.key, "tallinn", Purpose::Manifest, payload).to_text();
    bench.home.put_point(NAMESPACE, "land", "1-tallinn", 1, text).await.unwrap();
    let keys = BTreeMap::from([("tallinn".to_owned(), bench.key.public())]);
    let mut known = BTreeMap::new();
    refused(bench.post.points(&keys, &mut known).await, "manifest");
    assert!(known.is_empty(), "it does not count, and nothing after it does");
    tokio::task::spawn_blocking(move || drop(bench)).await.unwrap();
}
