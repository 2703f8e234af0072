//! A real API server takes every example and refuses every bad manifest with the sentence that helps.

#![cfg(test)]

mod support;

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use data_embassy::api::definitions;
use kube::{Api, Client, api::PostParams};
use serde::Deserialize;
use serde_json::{Value, json};
use support::api_server::ApiServer;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(rename = "case")]
    title: String,
    from: String,
    set: BTreeMap<String, Value>,
    #[serde(default)]
    then: Option<BTreeMap<String, Value>>,
    says: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents of `docs/examples`, by name.
fn examples() -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root().join("docs/examples")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for document in serde_yaml::from_multiple::<Value>(&text).unwrap() {
            let name = document["metadata"]["name"].as_str().unwrap().to_owned();
            let key = if name == "population-register" { "minimal".to_owned() } else { name };
            assert!(found.insert(key, document).is_none(), "two examples have one name");
        }
    }
    found
}

fn change(object: &mut Value, changes: &BTreeMap<String, Value>) {
    for (pointer, value) in changes {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent} in the example"));
        if value.is_null() {
            parent.as_object_mut().unwrap().remove(field);
        } else {
            parent[field] = value.clone();
        }
    }
}

/// Path of the kind's collection on the API server.
fn collection(object: &Value) -> String {
    let version = object["apiVersion"].as_str().unwrap();
    let kind = object["kind"].as_str().unwrap();
    let plural =
        if kind == "DataEmbassy" { "dataembassies".to_owned() } else { format!("{}s", kind.to_lowercase()) };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/apis/{version}/namespaces/{namespace}/{plural}"),
        None => format!("/apis/{version}/{plural}"),
    }
}

async fn create(client: &Client, object: &Value) -> Result<Value, String> {
    send(client, object, http::Method::POST, "").await
}

/// Sends with strict field validation, as kubectl does.
async fn send(client: &Client, object: &Value, method: http::Method, name: &str) -> Result<Value, String> {
    let url = format!("{}{name}?fieldValidation=Strict", collection(object));
    let request = http::Request::builder()
        .method(method)
        .uri(url)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(object).unwrap())
        .unwrap();
    client.request::<Value>(request).await.map_err(|error| match error {
        kube::Error::Api(status) => status.message.clone(),
        other => panic!("the API server could not be asked: {other}"),
    })
}

async fn prepare() -> ApiServer {
    let server = ApiServer::start().await;
    let crds: Api<
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    > = Api::all(server.client.clone());
    for definition in definitions::all() {
        let name = definition.metadata.name.clone().unwrap();
        crds.create(&PostParams::default(), &definition)
            .await
            .unwrap_or_else(|error| panic!("the API server refuses {name}: {error}"));
        let established = kube::runtime::wait::await_condition(
            crds.clone(),
            &name,
            kube::runtime::conditions::is_crd_established(),
        );
        tokio::time::timeout(Duration::from_mins(1), established).await.unwrap().unwrap();
    }
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(server.client.clone());
    for name in ["land-register", "population-register", "health-register"] {
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    }
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_are_accepted_and_bad_manifests_refused_with_the_sentence() {
    let server = prepare().await;
    let examples = examples();
    for (name, example) in &examples {
        if let Err(message) = create(&server.client, example).await {
            panic!("example {name} was refused: {message}");
        }
    }
    let cases: Vec<Case> =
        serde_yaml::from_str(&fs::read_to_string(root().join("tests/admission/rejected.yaml")).unwrap())
            .unwrap();
    assert!(cases.len() >= 60, "only {} bad manifests", cases.len());
    let mut wrong = vec![];
    for (number, case) in cases.iter().enumerate() {
        let mut object = examples[&case.from].clone();
        // A name of its own, unless the case is about the name: the examples themselves exist.
        object["metadata"]["name"] = json!(format!("case-{number}"));
        change(&mut object, &case.set);
        let answer = match &case.then {
            None => create(&server.client, &object).await,
            Some(update) => {
                let mut created = create(&server.client, &object).await.unwrap();
                change(&mut created, update);
                let name = format!("/case-{number}");
                send(&server.client, &created, http::Method::PUT, &name).await
            }
        };
        match answer {
            Ok(_) => wrong.push(format!("{}: was accepted", case.title)),
            Err(message) if !message.contains(&case.says) => {
                wrong.push(format!("{}: says\n    {message}\n  instead of\n    {}", case.title, case.says));
            }
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    println!(
        "{} examples accepted, {} bad manifests refused with the expected sentence",
        examples.len(),
        cases.len()
    );
}
