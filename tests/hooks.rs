//! Freezes on a real API server: what the record takes, and which Pods still count as frozen. No kubelet runs, so no command can.

#![cfg(test)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use data_embassy::{
    act::{hooks, record},
    api::{
        FROZEN_LABEL, FailoverRecord, definitions,
        failover_record::FailoverRecordSpec,
        hooks::{Freeze, FrozenPod, HookCommand, OnError},
    },
    plan::{
        desired::Owner,
        failover::first_record::{Before, Beginning, begin},
        hooks::planned,
    },
};
use k8s_openapi::{
    api::core::v1::{Namespace, Pod, ServiceAccount},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::PostParams,
    runtime::{conditions::is_crd_established, wait::await_condition},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::api_server::ApiServer;

const NAMESPACE: &str = "land";

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

async fn prepared() -> (ApiServer, Client) {
    let server = ApiServer::start().await;
    let client = server.client.clone();
    let namespace: Namespace = from(json!({"metadata": {"name": NAMESPACE}}));
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    let account: ServiceAccount = from(json!({"metadata": {"name": "default"}}));
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    accounts.create(&PostParams::default(), &account).await.unwrap();
    (server, client)
}

async fn pod(client: &Client, name: &str) -> Pod {
    let pod: Pod = from(json!({"metadata": {"name": name}, "spec": {"automountServiceAccountToken": false,
        "containers": [{"name": "postgres", "image": "postgres:1"}]}}));
    Api::namespaced(client.clone(), NAMESPACE).create(&PostParams::default(), &pod).await.unwrap()
}

fn frozen(pod: &str, uid: &str, on_error: OnError) -> FrozenPod {
    let post = HookCommand { command: vec!["thaw".to_owned()], timeout: "5s".to_owned(), on_error };
    let (hook, container) = ("hold".to_owned(), "postgres".to_owned());
    FrozenPod { hook, pod: pod.to_owned(), uid: uid.to_owned(), container, post: Some(post) }
}

fn freeze(pods: Vec<FrozenPod>) -> Freeze {
    let now = Timestamp::now();
    Freeze {
        since: Time(now),
        until: Time(now),
        sequence: None,
        pods,
        writers: "0".repeat(64),
        quiesced: false,
        thawing: false,
        outlasted: false,
        failure: Some("x".repeat(2048)),
    }
}

fn first() -> FailoverRecordSpec {
    let before = Before {
        site: "tallinn",
        peers: BTreeMap::from([("luxembourg", None)]),
        home: "tallinn",
        boot_ids: &BTreeSet::new(),
        own_document: Some(None),
        volumes_exist: true,
    };
    match begin(&before) {
        Beginning::Record(record, _) => *record,
        other => panic!("{other:?}"),
    }
}

fn done(written: record::Written) -> FailoverRecord {
    match written {
        record::Written::Done(record) => *record,
        record::Written::ReadAgain => panic!("somebody else wrote"),
    }
}

#[tokio::test]
async fn what_is_frozen_is_on_record_marked_and_never_overwritten_by_what_was_read_before() {
    let (_server, client) = prepared().await;
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in definitions::all() {
        crds.create(&PostParams::default(), &crd).await.unwrap();
        await_condition(crds.clone(), &crd.name_any(), is_crd_established()).await.unwrap();
    }
    let owner = Owner { namespace: NAMESPACE.to_owned(), name: "land".to_owned() };
    let old = done(record::create(&client, &owner, first(), "begun").await.unwrap());
    // The most that one freeze can hold, of the longest timeouts that an annotation can ask for.
    let annotated: Pod = from(json!({"metadata": {"name": "a", "uid": "a", "annotations": {
            "pre.hook.backup.velero.io/command": "freeze", "post.hook.backup.velero.io/command": "t".repeat(10_000),
            "post.hook.backup.velero.io/timeout": "90000h"}},
        "spec": {"containers": [{"name": "postgres"}]}, "status": {"phase": "Running"}}));
    let mut pods: Vec<FrozenPod> =
        (0..511).map(|n| frozen(&format!("register-{n}"), "u", OnError::Fail)).collect();
    pods.push(planned(&[], &[annotated])[0].frozen.clone());
    let spec = FailoverRecordSpec { freeze: Some(freeze(pods)), ..old.spec.clone() };
    let held = done(record::replace(&client, &owner, &old, spec, None).await.unwrap());
    assert_eq!(held.spec.revision, old.spec.revision, "a freeze is no change of the protocol's state");
    assert!(held.labels().contains_key(FROZEN_LABEL));
    let stale = record::replace(&client, &owner, &old, old.spec.clone(), None).await.unwrap();
    assert!(matches!(stale, record::Written::ReadAgain), "a freeze must not be forgotten");
    let spec = FailoverRecordSpec { freeze: None, ..held.spec.clone() };
    let ended = done(record::replace(&client, &owner, &held, spec, None).await.unwrap());
    assert!(ended.spec.freeze.is_none() && !ended.labels().contains_key(FROZEN_LABEL));
}

#[tokio::test]
async fn only_a_pod_that_is_still_there_stays_frozen() {
    let (_server, client) = prepared().await;
    let uid = pod(&client, "register-0").await.uid().unwrap();
    let pods = [
        frozen("register-0", &uid, OnError::Fail),
        frozen("register-0", &uid, OnError::Continue),
        frozen("register-0", "another", OnError::Fail),
        frozen("gone", "u", OnError::Fail),
    ];
    let left = hooks::thaw(&client, NAMESPACE, &pods).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].0, pods[0]);
    let why = &left[0].1;
    for part in ["hook hold", "Pod register-0", "container postgres", "'thaw'"] {
        assert!(why.contains(part), "{part} is not in: {why}");
    }
}
