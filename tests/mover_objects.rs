//! Capture and activation against a real API server; the backup is the real program against a real vault.

#![cfg(test)]

mod support;

use std::{fs, path::Path, process::Command, sync::Arc};

use data_embassy::{
    api::FORMER_REPLICAS,
    mover::{
        activate::{activate, read_objects},
        capture::{OBJECTS_FILE, capture, identity},
        engine::{Engine, new_key},
        failure::Failure,
        outcome::{Outcome, Reason},
    },
    trust::identity::Role,
};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use support::{api_server::ApiServer, vault::TestVault};

const HOME: &str = "registers";
const ABROAD: &str = "registers-abroad";

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "land"}}, "spec": {"containers": [{"name": "c", "image": "land:1"}]}})
}

/// What people write, and what controllers make of it.
fn objects() -> Vec<Value> {
    let selector = json!({"matchLabels": {"app": "land"}});
    let owner = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u", "controller": true}]);
    vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "b"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password"}, "stringData": {"p": "s"}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "land"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
               "spec": {"type": "NodePort", "selector": {"app": "land"}, "ports": [{"port": 80}]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db"},
               "spec": {"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"port": 5432}]}}),
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
               "metadata": {"name": "db", "annotations": {FORMER_REPLICAS: "3"}},
               "spec": {"replicas": 0, "serviceName": "db", "selector": selector, "template": template()}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "land"},
               "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "report"},
               "spec": {"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template":
                   {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "r:1"}]}}}}}}),
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "derived", "ownerReferences": owner},
               "spec": {"selector": selector, "template": template()}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap",
               "metadata": {"name": "ours", "labels": {"app.kubernetes.io/managed-by": "data-embassy"}}}),
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
               "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
    ]
}

fn resource(object: &Value) -> ApiResource {
    let version = object["apiVersion"].as_str().unwrap();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap()))
}

async fn write(client: &Client, namespace: &str, object: &Value) {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource(object));
    let name = object["metadata"]["name"].as_str().unwrap();
    api.patch(name, &PatchParams::apply("test"), &Patch::Apply(object)).await.unwrap();
}

async fn prepared() -> ApiServer {
    let server = ApiServer::start().await;
    for name in [HOME, ABROAD] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let api: Api<DynamicObject> = Api::all_with(server.client.clone(), &resource(&namespace));
        api.patch(name, &PatchParams::apply("test"), &Patch::Apply(&namespace)).await.unwrap();
    }
    for object in objects() {
        write(&server.client, HOME, &object).await;
    }
    server
}

fn read(folder: &Path) -> Vec<Value> {
    serde_json::from_slice(&fs::read(folder.join(OBJECTS_FILE)).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_wrote_arrives_abroad() {
    let server = prepared().await;
    let folder = tempfile::tempdir().unwrap();
    let count = capture(&server.client, HOME, &[], folder.path()).await.unwrap();
    let captured = read(folder.path());
    assert_eq!(count, captured.len() as u64);
    let names: Vec<_> =
        captured.iter().map(identity).map(|(_, kind, name)| format!("{kind}/{name}")).collect();
    let expected = [
        "StatefulSet/db",
        "CronJob/report",
        "Role/land",
        "ConfigMap/settings",
        "Secret/password",
        "Service/db",
        "Service/web",
        "ServiceAccount/land",
    ];
    assert_eq!(names, expected);

    let done = activate(&server.client, ABROAD, captured.clone()).await.unwrap();
    assert_eq!(done.applied, count);
    let again = tempfile::tempdir().unwrap();
    capture(&server.client, ABROAD, &[], again.path()).await.unwrap();
    assert_eq!(read(again.path()), captured, "capturing the copy gives the same");
    let sets: Api<DynamicObject> =
        Api::namespaced_with(server.client.clone(), ABROAD, &resource(&captured[0]));
    let set = sets.list(&ListParams::default()).await.unwrap().items.remove(0);
    assert_eq!(set.data["spec"]["replicas"], 3, "a fenced workload runs as it did");
    activate(&server.client, ABROAD, captured).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn excluded_kinds_stay_and_unknown_kinds_fail_by_name_after_all_others() {
    let server = prepared().await;
    let folder = tempfile::tempdir().unwrap();
    let excluded = ["apps/StatefulSet".to_owned(), "Secret".to_owned()];
    assert_eq!(capture(&server.client, HOME, &excluded, folder.path()).await.unwrap(), 6);
    let unknown = json!({"apiVersion": "example.org/v1", "kind": "Register", "metadata": {"name": "land"}});
    let invalid =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "broken"}, "spec": {"ports": []}});
    let valid = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "last"}});
    let failure = activate(&server.client, ABROAD, vec![unknown, invalid, valid.clone()]).await.unwrap_err();
    let Failure::Refused(refused) = &failure else { panic!("{failure}") };
    assert_eq!(refused.len(), 2, "{failure}");
    assert!(failure.to_string().contains("example.org/v1 Register land"), "{failure}");
    assert!(failure.to_string().contains("v1 Service broken"), "{failure}");
    let maps: Api<DynamicObject> = Api::namespaced_with(server.client.clone(), ABROAD, &resource(&valid));
    assert!(maps.get("last").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_may_not_be_read_is_no_empty_one() {
    let server = prepared().await;
    let folder = tempfile::tempdir().unwrap();
    let client = server.client_of("system:serviceaccount:registers:land");
    let failure = capture(&client, HOME, &[], folder.path()).await.unwrap_err();
    assert_eq!(failure.reason(), Reason::CaptureForbidden, "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_backs_up_volumes_and_objects_with_only_its_pods_right() {
    let server = prepared().await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = server.kubeconfig(folder.path());
    tokio::task::spawn_blocking(move || back_up_with_the_program(folder.path(), &kubeconfig)).await.unwrap();
}

fn back_up_with_the_program(folder: &Path, kubeconfig: &Path) {
    let vault = TestVault::start();
    vault.host("tallinn", "ns", 1 << 30);
    let (credentials, volume) = (folder.join("credentials"), folder.join("volumes/data"));
    fs::create_dir_all(&credentials).unwrap();
    fs::create_dir_all(&volume).unwrap();
    fs::write(volume.join("of-another-user"), "register").unwrap();
    std::os::unix::fs::chown(volume.join("of-another-user"), Some(26), Some(26)).unwrap();
    fs::set_permissions(volume.join("of-another-user"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let (material, key) = (vault.material("tallinn", Role::Mover), new_key());
    for (name, content) in [
        ("ca.crt", &material.ca),
        ("tls.crt", &material.certificate),
        ("tls.key", &material.key),
        ("repository-key", &key),
    ] {
        fs::write(credentials.join(name), content).unwrap();
    }
    let path = |name: &str| folder.join(name).display().to_string();
    let status = Command::new("setpriv")
        .args(["--bounding-set=-all,+dac_read_search", "--inh-caps=-all", env!("CARGO_BIN_EXE_data-embassy")])
        .args(["mover", "backup", "--repository=ns/land/1-tallinn", "--embassy=land", "--claim=data"])
        .args([format!("--vault={}", vault.url()), format!("--namespace={HOME}")])
        .args([format!("--credentials={}", path("credentials")), format!("--volumes={}", path("volumes"))])
        .args([format!("--scratch={}", path("work")), format!("--termination-log={}", path("log"))])
        .env("KUBECONFIG", kubeconfig)
        .status()
        .unwrap();
    let outcome = Outcome::parse(&fs::read_to_string(folder.join("log")).unwrap()).unwrap();
    let Outcome::Backup(done) = outcome else { panic!("{outcome:?}") };
    assert!(status.success());
    assert_eq!((done.files, done.bytes, done.objects), (1, 8, 8));
    let open = || {
        Engine::open(Arc::new(vault.repository("tallinn", Role::Mover, "ns/land/1-tallinn")), &key).unwrap()
    };
    assert_eq!(read_objects(open(), &done.snapshot, 8).unwrap().len(), 8);
    let failure = read_objects(open(), &done.snapshot, 7).unwrap_err();
    assert_eq!(failure.reason(), Reason::ManifestMismatch, "{failure}");
}
