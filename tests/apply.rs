//! Against a real API server: what is wanted is written once, drift is mended, and an unchanged intent costs no write.

#![cfg(test)]

mod support;

use data_embassy::{
    act::apply,
    api::data_embassy::Network,
    plan::desired::{
        Owner,
        network::{NetworkIntent, policies},
    },
};
use k8s_openapi::api::{core::v1::Namespace, networking::v1::NetworkPolicy};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use support::api_server::ApiServer;

const NAMESPACE: &str = "registers";

async fn write(client: &Client, owner: &Owner, wanted: &[NetworkPolicy]) -> usize {
    let live = apply::owned::<NetworkPolicy>(client, NAMESPACE, &owner.name).await.unwrap();
    let applied = apply::apply(client, NAMESPACE, wanted, &live).await.unwrap();
    applied + apply::prune(client, NAMESPACE, wanted, &live).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_intent_is_not_sent_and_drift_is_mended() {
    let server = ApiServer::start().await;
    let client = &server.client;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();

    let owner = Owner { namespace: NAMESPACE.to_owned(), name: "land".to_owned() };
    let rule = json!([{"from": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": 5432}]}]);
    let network = Network { ingress: serde_json::from_value(rule).unwrap(), ..Network::default() };
    let open = NetworkIntent { owner: &owner, network: &network, open: true, mover: &[] };
    let wanted = policies(&open);
    assert_eq!(write(client, &owner, &wanted).await, 4, "all four policies are new");
    assert_eq!(write(client, &owner, &wanted).await, 0, "nothing changed");

    let api: Api<NetworkPolicy> = Api::namespaced(client.clone(), NAMESPACE);
    let opened = json!({"spec": {"policyTypes": ["Ingress"]}});
    api.patch("land-deny-all", &PatchParams::default(), &Patch::Merge(opened)).await.unwrap();
    assert_eq!(write(client, &owner, &wanted).await, 1, "a policy that somebody opened is closed again");
    assert_eq!(write(client, &owner, &wanted).await, 0);

    let foreign = json!({"metadata": {"name": "of-the-user"}, "spec": {"podSelector": {}}});
    api.create(&PostParams::default(), &serde_json::from_value(foreign).unwrap()).await.unwrap();
    let closed = policies(&NetworkIntent { open: false, ..open });
    assert_eq!(write(client, &owner, &closed).await, 2, "two policies of ours go");
    let mut left: Vec<_> = api
        .list(&kube::api::ListParams::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .filter_map(|p| p.metadata.name)
        .collect();
    left.sort();
    assert_eq!(left, ["land-deny-all", "land-mover", "of-the-user"], "what is not ours stays");
}
