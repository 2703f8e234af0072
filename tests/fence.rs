//! The fence on a real API server, against the real controllers: whatever wants a Pod in a fenced namespace gets none, and
//! everything comes back as it was, once.

#![cfg(test)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use data_embassy::{
    act::fence,
    api::{DataEmbassy, FENCED_LABEL, FORMER_REPLICAS, definitions},
    observe::cluster::{Seen, mounts, see},
    plan::desired::{Owner, fence as plan},
};
use k8s_openapi::{
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::{CronJob, Job},
        core::v1::{Namespace, Node, PersistentVolumeClaim, Pod, ServiceAccount},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::{conditions::is_crd_established, wait::await_condition},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::api_server::ApiServer;

const NAMESPACE: &str = "land";

/// The controllers that make Pods, and those that take them away.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,statefulset-controller,daemonset-controller,\
    job-controller,cronjob-controller,horizontal-pod-autoscaler-controller,serviceaccount-controller,\
    garbage-collector-controller";

/// A running kube-controller-manager.
struct Controllers(Child);

impl Controllers {
    fn start(server: &ApiServer, folder: &Path) -> Self {
        let kubeconfig = server.kubeconfig(folder);
        let log = fs::File::create(folder.join("controllers.log")).unwrap();
        let binary = PathBuf::from(std::env::var_os("TESTBED_BIN").unwrap()).join("kube-controller-manager");
        let child = Command::new(binary)
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--controllers={CONTROLLERS}"))
            .args(["--leader-elect=false", "--secure-port=0", "--horizontal-pod-autoscaler-sync-period=1s"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Controllers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Bench {
    server: ApiServer,
    owner: Owner,
    embassy: DataEmbassy,
    _controllers: Controllers,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        let server = ApiServer::start().await;
        let folder = tempfile::tempdir().unwrap();
        let controllers = Controllers::start(&server, folder.path());
        let client = &server.client;
        install(client).await;
        let namespace = json!({"metadata": {"name": NAMESPACE}});
        make::<Namespace>(Api::all(client.clone()), namespace).await;
        let owner = Owner { namespace: NAMESPACE.to_owned(), name: "land".to_owned() };
        make::<ServiceAccount>(api(client), json!({"metadata": {"name": "land-mover"}})).await;
        let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}});
        make::<PersistentVolumeClaim>(api(client), claim).await;
        let spec = json!({"metadata": {"name": "land"}, "spec": {
            "home": "tallinn", "embassies": ["luxembourg"], "residency": {"allow": ["EE", "LU"]},
            "replication": {"rpo": "1h", "driver": {"builtin": {"copyMethod": "Direct"}}}}});
        let embassy = serde_json::from_value(with_type::<DataEmbassy>(spec)).unwrap();
        Self { owner, embassy, _controllers: controllers, folder, server }
    }

    fn client(&self) -> &Client {
        &self.server.client
    }

    async fn look(&self) -> Seen {
        Box::pin(see(self.client(), &self.owner, &self.embassy)).await.unwrap()
    }

    /// As a reconcile does it, with what one look saw.
    async fn close(&self, seen: &Seen) {
        fence::label(self.client(), NAMESPACE, true).await.unwrap();
        fence::scale(self.client(), NAMESPACE, &plan::stop(&seen.workloads)).await.unwrap();
        fence::evict(self.client(), NAMESPACE, &seen.pods).await.unwrap();
    }

    async fn close_until_empty(&self) {
        wait("no Pod is left", async || {
            let seen = self.look().await;
            self.close(&seen).await;
            seen.pods.is_empty()
        })
        .await;
    }

    async fn open(&self) {
        fence::label(self.client(), NAMESPACE, false).await.unwrap();
        let seen = self.look().await;
        fence::scale(self.client(), NAMESPACE, &plan::resume(&seen.workloads)).await.unwrap();
    }

    /// Waits until each of these has as many Pods as `wanted` says.
    async fn pods(&self, apps: &[&str], wanted: impl Fn(&str, usize) -> bool) {
        let mut counts = vec![];
        for _ in 0..300 {
            counts.clear();
            for app in apps {
                counts.push((*app, self.pods_of(app).await));
            }
            if counts.iter().all(|(app, count)| wanted(app, *count)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let log = fs::read_to_string(self.folder.path().join("controllers.log")).unwrap_or_default();
        let log: Vec<&str> = log.lines().rev().take(15).collect();
        panic!("not within a minute: {counts:?}; the controllers' last words:\n{}", log.join("\n"));
    }

    /// An API server takes a moment to know a new label, more on a busy machine; a Pod let in meanwhile is seen and deleted
    /// like any other.
    async fn until_refused(&self) {
        let pods: Api<Pod> = api(self.client());
        wait("the policy knows the label", async || {
            let intruder = json!({"metadata": {"name": "intruder"}, "spec": pod_spec("Always")});
            let Err(message) = try_make::<Pod>(pods.clone(), intruder).await else {
                pods.delete("intruder", &DeleteParams::default()).await.unwrap();
                return false;
            };
            message.contains("is fenced: its register is")
        })
        .await;
    }

    /// How many Pods a workload has.
    async fn pods_of(&self, app: &str) -> usize {
        let selector = ListParams::default().labels(&format!("app={app}"));
        api::<Pod>(self.client()).list(&selector).await.unwrap().items.len()
    }

    async fn field<K>(&self, name: &str, pointer: &str) -> Value
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + serde::Serialize,
    {
        let object = serde_json::to_value(api::<K>(self.client()).get(name).await.unwrap()).unwrap();
        object.pointer(pointer).cloned().unwrap_or_default()
    }
}

fn api<K>(client: &Client) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), NAMESPACE)
}

fn with_type<K: Resource<DynamicType = ()>>(mut object: Value) -> Value {
    object["apiVersion"] = json!(K::api_version(&()));
    object["kind"] = json!(K::kind(&()));
    object
}

async fn try_make<K>(api: Api<K>, object: Value) -> Result<K, String>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    let object: K = serde_json::from_value(with_type::<K>(object)).unwrap();
    api.create(&PostParams::default(), &object).await.map_err(|error| error.to_string())
}

async fn make<K>(api: Api<K>, object: Value) -> K
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    try_make(api, object).await.unwrap()
}

async fn wait(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..300 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("not within a minute: {what}");
}

/// The kinds, and the fence as the chart ships it.
async fn install(client: &Client) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in definitions::all() {
        let name = definition.name_any();
        crds.create(&PostParams::default(), &definition).await.unwrap();
        let established = await_condition(crds.clone(), &name, is_crd_established());
        tokio::time::timeout(Duration::from_mins(1), established).await.unwrap().unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/data-embassy/templates/fence.yaml");
    let text: String = fs::read_to_string(path).unwrap().lines().filter(|line| !line.contains("{{")).fold(
        String::new(),
        |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        },
    );
    for document in serde_yaml::from_multiple::<Value>(&text).unwrap() {
        if document["kind"] == "ValidatingAdmissionPolicy" {
            make::<ValidatingAdmissionPolicy>(Api::all(client.clone()), document).await;
        } else {
            make::<ValidatingAdmissionPolicyBinding>(Api::all(client.clone()), document).await;
        }
    }
}

fn pod_spec(restart: &str) -> Value {
    json!({
        "restartPolicy": restart,
        "automountServiceAccountToken": false,
        "containers": [{"name": "c", "image": "none", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    })
}

fn workload(app: &str, restart: &str, spec: &Value) -> Value {
    let template = json!({"metadata": {"labels": {"app": app}}, "spec": pod_spec(restart)});
    let mut object = json!({"metadata": {"name": app, "labels": {"app": app}}, "spec": spec});
    object["spec"]["template"] = template;
    object
}

fn selected(app: &str, mut spec: Value) -> Value {
    spec["selector"] = json!({"matchLabels": {"app": app}});
    workload(app, "Always", &spec)
}

/// A node without a kubelet: Pods that are bound to it stay as the test writes them.
async fn make_node(client: &Client, name: &str, boot_id: &str) {
    let nodes: Api<Node> = Api::all(client.clone());
    make::<Node>(nodes.clone(), json!({"metadata": {"name": name}})).await;
    // A node begins with a taint that the node controller, which is not here, would take off.
    let untainted = json!({"spec": {"taints": null}});
    nodes.patch(name, &PatchParams::default(), &Patch::Merge(untainted)).await.unwrap();
    let system = [
        "architecture",
        "containerRuntimeVersion",
        "kernelVersion",
        "kubeProxyVersion",
        "kubeletVersion",
        "machineID",
        "operatingSystem",
        "osImage",
        "systemUUID",
    ];
    let mut info: Value = system.iter().map(|field| ((*field).to_owned(), json!("x"))).collect();
    info["bootID"] = json!(boot_id);
    let status = json!({"status": {"nodeInfo": info, "conditions": [{"type": "Ready", "status": "True"}]}});
    nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

/// One of each kind that makes Pods.
async fn make_workloads(client: &Client) {
    make::<Deployment>(api(client), selected("portal", json!({"replicas": 2}))).await;
    make::<ReplicaSet>(api(client), selected("reader", json!({"replicas": 1}))).await;
    make::<StatefulSet>(api(client), selected("register", json!({"replicas": 1, "serviceName": "register"})))
        .await;
    make::<DaemonSet>(api(client), selected("cache", json!({}))).await;
    make::<Job>(api(client), workload("reindex", "Never", &json!({"backoffLimit": 0}))).await;
    let job = workload("nightly", "Never", &json!({}));
    let spec = json!({"schedule": "* * * * *", "jobTemplate": {"spec": job["spec"]}});
    make::<CronJob>(api(client), json!({"metadata": {"name": "nightly"}, "spec": spec})).await;
    let bare = json!({"metadata": {"name": "bare", "labels": {"app": "bare"}}, "spec": pod_spec("Always")});
    make::<Pod>(api(client), bare).await;
}

const APPS: [&str; 6] = ["portal", "reader", "register", "cache", "reindex", "bare"];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_gets_a_pod_in_a_fenced_namespace_and_all_comes_back_once() {
    let bench = Bench::start().await;
    let client = bench.client();
    make_node(client, "node-a", "boot-1").await;
    make_workloads(client).await;
    bench.pods(&APPS, |app, count| count == if app == "portal" { 2 } else { 1 }).await;

    // The operator dies when only the first workload was stopped; another one goes on from what it sees.
    let seen = bench.look().await;
    fence::label(client, NAMESPACE, true).await.unwrap();
    fence::scale(client, NAMESPACE, &plan::stop(&seen.workloads)[..1]).await.unwrap();
    bench.until_refused().await;
    bench.close_until_empty().await;
    // Long enough for a controller to try, and for the CronJob's minute to come.
    let hpa = json!({"metadata": {"name": "portal"}, "spec": {"minReplicas": 3, "maxReplicas": 5,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "portal"}}});
    make::<k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler>(api(client), hpa).await;
    let applied = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 4}});
    let gitops = PatchParams::apply("gitops").force();
    let deployments: Api<Deployment> = api(client);
    deployments.patch("portal", &gitops, &Patch::Apply(&applied)).await.unwrap();
    let until = tokio::time::Instant::now() + Duration::from_secs(65);
    while tokio::time::Instant::now() < until {
        let seen = bench.look().await;
        assert!(
            seen.pods.is_empty(),
            "{:?}",
            seen.pods.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
        );
        bench.close(&seen).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let portal = bench.look().await.workloads.into_iter().find(|w| w.name == "portal").unwrap();
    assert_eq!((portal.replicas, portal.former), (0, Some(2)), "the scale of before the fence is kept");
    assert_eq!(bench.field::<Job>("reindex", "/status/failed").await, Value::Null, "no failure is counted");

    bench.open().await;
    bench.pods(&APPS[..5], |_, count| count >= 1).await;
    wait("the autoscaler acts again", async || {
        bench.field::<Deployment>("portal", "/spec/replicas").await == json!(3)
    })
    .await;
    for (kind, name) in [("replicas", "register"), ("replicas", "reader")] {
        let pointer = format!("/spec/{kind}");
        let value = if name == "register" {
            bench.field::<StatefulSet>(name, &pointer).await
        } else {
            bench.field::<ReplicaSet>(name, &pointer).await
        };
        assert_eq!(value, json!(1));
    }
    assert_eq!(bench.field::<CronJob>("nightly", "/spec/suspend").await, json!(false));
    assert_eq!(bench.field::<DaemonSet>("cache", "/spec/template/spec/nodeSelector").await, Value::Null);
    let left = bench.look().await.workloads.into_iter().filter(|w| w.former.is_some()).count();
    assert_eq!(left, 0, "no former scale is left to be restored a second time");

    // A scale that somebody chose while the namespace was open is what the next fence keeps.
    deployments.patch("portal", &gitops, &Patch::Apply(&applied)).await.unwrap();
    wait("the new scale", async || bench.field::<Deployment>("portal", "/spec/replicas").await == json!(4))
        .await;
    bench.close_until_empty().await;
    let pointer = format!("/metadata/annotations/{}", FORMER_REPLICAS.replace('/', "~1"));
    assert_eq!(bench.field::<Deployment>("portal", &pointer).await, json!("4"));
}

/// A Pod that a kubelet would report as running.
async fn make_running(client: &Client, name: &str, node: &str) {
    let mut spec = pod_spec("Always");
    spec["nodeName"] = json!(node);
    make::<Pod>(api(client), json!({"metadata": {"name": name}, "spec": spec})).await;
    let state = json!({"name": "c", "image": "none", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}});
    let status = json!({"status": {"phase": "Running", "containerStatuses": [state]}});
    api::<Pod>(client).patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

/// A node, and the account without which the API server takes no Pod.
async fn make_place_for_pods(client: &Client) {
    make_node(client, "node-a", "boot-1").await;
    wait("the default account", async || {
        api::<ServiceAccount>(client).get_opt("default").await.unwrap().is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_fenced_namespace_a_pod_is_gone_only_when_its_node_says_so() {
    let bench = Bench::start().await;
    let client = bench.client();
    make_place_for_pods(client).await;
    let pods: Api<Pod> = api(client);
    make_running(client, "register-0", "node-a").await;
    fence::label(client, NAMESPACE, true).await.unwrap();

    bench.until_refused().await;
    // What only pretends to be a mover is none; a label that was put on afterwards changes nothing.
    let label = json!({"metadata": {"labels": {"dataembassy.io/mover": "land"}}});
    pods.patch("register-0", &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    let seen = bench.look().await;
    assert!(seen.movers.is_empty() && seen.pods.iter().any(|pod| mounts(pod, &seen.claims)));

    let forced = DeleteParams::default().grace_period(0);
    let refused = pods.delete("register-0", &forced).await.unwrap_err().to_string();
    assert!(refused.contains("may still run on node-a") && refused.contains("out-of-service"), "{refused}");
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "register-0"},
        "deleteOptions": {"gracePeriodSeconds": 0}});
    let refused = send(client, http::Method::POST, "register-0/eviction", &eviction).await.unwrap_err();
    assert!(refused.contains("Evict it with its grace period"), "{refused}");
    let debugging = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "none"}]}});
    let debugged = pods
        .patch_ephemeral_containers("register-0", &PatchParams::default(), &Patch::Strategic(debugging))
        .await
        .unwrap_err()
        .to_string();
    assert!(debugged.contains("no container may be added"), "{debugged}");

    // The fence's own deletion leaves the Pod until its node has stopped it.
    bench.close(&bench.look().await).await;
    assert_eq!(bench.look().await.pods.len(), 1, "being deleted is not gone");
    // A control plane that gave the Pod up has not seen its containers end.
    let given_up = json!({"status": {"phase": "Failed"}});
    pods.patch_status("register-0", &PatchParams::default(), &Patch::Merge(given_up)).await.unwrap();
    assert_eq!(bench.look().await.pods.len(), 1, "a phase is not the end of a container");
    let ended = json!({"name": "c", "image": "none", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 0}}});
    let status = json!({"status": {"containerStatuses": [ended]}});
    pods.patch_status("register-0", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    assert!(bench.look().await.pods.is_empty(), "its node said that it ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_counts_until_it_is_heard_of_or_declared_off() {
    let bench = Bench::start().await;
    let client = bench.client();
    make_place_for_pods(client).await;
    make_running(client, "register-0", "node-a").await;
    let nodes: Api<Node> = Api::all(client.clone());
    let ready = async |status: &str| {
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        nodes.patch_status("node-a", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    };
    let carriers = async |known: &std::collections::BTreeMap<String, String>| {
        let seen = bench.look().await;
        let holding: Vec<String> = seen.pods.iter().filter_map(|pod| pod.spec.clone()?.node_name).collect();
        plan::carriers(known, &holding, &seen.nodes)
    };
    let known = carriers(&std::collections::BTreeMap::new()).await;
    assert_eq!(known.get("node-a").map(String::as_str), Some("boot-1"));
    ready("Unknown").await;
    // Before any fence somebody takes the Pod away by force, as people do with a dead node.
    api::<Pod>(client).delete("register-0", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(bench.look().await.pods.is_empty());
    assert_eq!(carriers(&known).await, known, "the container may still run on the silent node");
    let taints = json!({"spec": {"taints": [
        {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}]}});
    nodes.patch("node-a", &PatchParams::default(), &Patch::Merge(taints)).await.unwrap();
    assert!(carriers(&known).await.is_empty(), "a person declared the node off");
    nodes
        .patch("node-a", &PatchParams::default(), &Patch::Merge(json!({"spec": {"taints": null}})))
        .await
        .unwrap();
    assert_eq!(carriers(&known).await, known);
    ready("True").await;
    assert!(carriers(&known).await.is_empty(), "its kubelet reports again");
    assert!(!bench.look().await.namespace.unwrap().labels().contains_key(FENCED_LABEL));
}

async fn send(client: &Client, method: http::Method, path: &str, body: &Value) -> Result<Value, String> {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("/api/v1/namespaces/{NAMESPACE}/pods/{path}"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(body).unwrap())
        .unwrap();
    client.request::<Value>(request).await.map_err(|error| error.to_string())
}
