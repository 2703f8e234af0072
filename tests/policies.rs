//! The network policies, judged by an evaluator that is not ours (cyclonus), flow by flow: those of a protected namespace in each
//! state, and the chart's own. Packets are judged in the end-to-end tests.

#![cfg(test)]

use std::{collections::BTreeMap, env, fs, path::Path, process::Command};

use data_embassy::{
    api::{MOVER_LABEL, data_embassy::Network},
    plan::desired::{
        Owner,
        network::{Destination, NetworkIntent, policies},
    },
};
use serde_json::{Value, json};
use tempfile::TempDir;

fn program(name: &str) -> Command {
    let folder =
        env::var("TESTBED_BIN").expect("TESTBED_BIN must name the folder with the test clusters' programs");
    Command::new(Path::new(&folder).join(name))
}

/// A Pod: its namespace, its labels.
fn pod(namespace: &str, labels: &[(&str, &str)]) -> Value {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    json!({
        "Internal": {
            "PodLabels": labels,
            "NamespaceLabels": {"kubernetes.io/metadata.name": namespace},
            "Namespace": namespace,
        },
        "IP": "192.168.0.9",
    })
}

fn outside(address: &str) -> Value {
    json!({"IP": address})
}

struct Flow {
    what: &'static str,
    from: Value,
    to: Value,
    port: u16,
    protocol: &'static str,
    allowed: bool,
}

fn flow(what: &'static str, from: Value, to: Value, port: u16, allowed: bool) -> Flow {
    Flow { what, from, to, port, protocol: "TCP", allowed }
}

/// Lets cyclonus judge each flow and compares.
fn judge(state: &str, manifests: &[String], flows: &[Flow]) {
    let folder = TempDir::new().unwrap();
    let place = folder.path().join("policies");
    fs::create_dir(&place).unwrap();
    for (index, manifest) in manifests.iter().enumerate() {
        fs::write(place.join(format!("{index}.yaml")), manifest).unwrap();
    }
    // The evaluator takes no empty folder; a policy elsewhere changes nothing here.
    let elsewhere = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "none", "namespace": "elsewhere"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    });
    fs::write(place.join("elsewhere.yaml"), elsewhere.to_string()).unwrap();
    let traffic: Vec<Value> = flows
        .iter()
        .map(|flow| {
            json!({
                "Source": flow.from, "Destination": flow.to, "ResolvedPort": flow.port, "ResolvedPortName": "",
                "Protocol": flow.protocol,
            })
        })
        .collect();
    let file = folder.path().join("traffic.json");
    fs::write(&file, serde_json::to_string(&traffic).unwrap()).unwrap();
    let output = program("cyclonus")
        .args(["analyze", "--mode", "query-traffic", "--policy-path"])
        .arg(&place)
        .arg("--traffic-path")
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let verdicts: Vec<bool> =
        text.lines().filter(|line| line.contains("IS ALLOWED?")).map(|line| line.contains("TRUE")).collect();
    assert_eq!(verdicts.len(), flows.len(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let wrong: Vec<&str> = flows
        .iter()
        .zip(verdicts)
        .filter(|(flow, allowed)| flow.allowed != *allowed)
        .map(|(flow, _)| flow.what)
        .collect();
    assert!(wrong.is_empty(), "{state}: judged otherwise than expected: {wrong:?}");
    println!("{state}: {} flows as expected", flows.len());
}

fn made(network: &Network, open: bool) -> Vec<String> {
    let owner = Owner { namespace: "registers".to_owned(), name: "land".to_owned() };
    let mover = [
        Destination::Address("10.0.0.1".parse().unwrap(), 6443),
        Destination::Pods {
            namespace: "data-embassy-system".to_owned(),
            labels: BTreeMap::from([("app.kubernetes.io/component".to_owned(), "vault".to_owned())]),
            port: 8443,
        },
    ];
    policies(&NetworkIntent { owner: &owner, network, open, mover: &mover })
        .iter()
        .map(|policy| serde_yaml::to_string(policy).unwrap())
        .collect()
}

fn register() -> Value {
    pod("registers", &[("app", "register")])
}

fn portal() -> Value {
    pod("registers", &[("app", "portal")])
}

fn mover() -> Value {
    pod("registers", &[(MOVER_LABEL, "land")])
}

fn stranger() -> Value {
    pod("outside", &[("app", "stranger")])
}

fn dns() -> Value {
    pod("kube-system", &[("k8s-app", "kube-dns")])
}

fn vault() -> Value {
    pod("data-embassy-system", &[("app.kubernetes.io/component", "vault")])
}

/// What holds in every isolated state: the mover has its way and no other.
fn movers_way() -> Vec<Flow> {
    vec![
        flow("mover to the vault", mover(), vault(), 8443, true),
        flow("mover to the vault's health port", mover(), vault(), 8080, false),
        flow("mover to the API server", mover(), outside("10.0.0.1"), 6443, true),
        flow("mover to another port there", mover(), outside("10.0.0.1"), 22, false),
        flow("mover to the world", mover(), outside("203.0.113.9"), 443, false),
        flow("a stranger to the mover", stranger(), mover(), 8080, false),
    ]
}

#[test]
fn a_closed_namespace() {
    let mut flows = movers_way();
    flows.extend([
        flow("the namespace to itself", portal(), register(), 5432, false),
        flow("a stranger to the register", stranger(), register(), 5432, false),
        flow("the register to DNS", register(), dns(), 53, false),
        flow("the register to the world", register(), outside("203.0.113.9"), 443, false),
    ]);
    judge("closed", &made(&Network::default(), false), &flows);
    judge(
        "closed without isolation",
        &made(&Network { isolate: false, ..Network::default() }, false),
        &flows,
    );
}

#[test]
fn an_open_isolated_namespace() {
    let mut flows = movers_way();
    flows.extend([
        flow("the namespace to itself", portal(), register(), 5432, true),
        flow("a stranger to the register", stranger(), register(), 5432, false),
        flow("the register to DNS by TCP", register(), dns(), 53, true),
        Flow { protocol: "UDP", ..flow("the register to DNS by UDP", register(), dns(), 53, true) },
        flow("the register to another port of DNS", register(), dns(), 9153, false),
        flow("the register to the vault", register(), vault(), 8443, false),
        flow("the register to the world", register(), outside("203.0.113.9"), 443, false),
    ]);
    judge("open", &made(&Network::default(), true), &flows);
}

#[test]
fn the_users_own_rules() {
    let network: Network = serde_json::from_value(json!({
        "isolate": true,
        "ingress": [{
            "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "outside"}}}],
            "ports": [{"protocol": "TCP", "port": 5432}],
        }],
        "egress": [{
            "to": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.64/26"]}}],
            "ports": [{"protocol": "TCP", "port": 443}],
        }],
    }))
    .unwrap();
    let flows = [
        flow("the one who is let in", stranger(), register(), 5432, true),
        flow("on another port", stranger(), register(), 22, false),
        flow("another stranger", pod("elsewhere", &[]), register(), 5432, false),
        flow("out to what is allowed", register(), outside("203.0.113.9"), 443, true),
        flow("out to the exception", register(), outside("203.0.113.70"), 443, false),
        flow("out to another port", register(), outside("203.0.113.9"), 80, false),
    ];
    judge("with the user's rules", &made(&network, true), &flows);
    let shut = [
        flow("the one who is let in", stranger(), register(), 5432, false),
        flow("out to what is allowed", register(), outside("203.0.113.9"), 443, false),
    ];
    judge("with the user's rules, closed", &made(&network, false), &shut);
}

#[test]
fn an_open_namespace_without_isolation() {
    let flows = [
        flow("a stranger to the register", stranger(), register(), 5432, true),
        flow("the register to the world", register(), outside("203.0.113.9"), 443, true),
    ];
    judge("open without isolation", &made(&Network { isolate: false, ..Network::default() }, true), &flows);
}

/// The chart's own policies with these values, or why it refuses them.
fn chart_with(values: &[&str]) -> Result<Vec<String>, String> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/data-embassy");
    let output = program("helm")
        .args(["template", "data-embassy", "--namespace", "data-embassy-system", "--set", "site=luxembourg"])
        .args(values.iter().flat_map(|value| ["--set", value]))
        .args(["--show-only", "templates/network-policies.yaml", "--show-only", "templates/vault.yaml"])
        .arg(chart)
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let all = text.split("\n---\n").filter(|document| document.contains("kind: NetworkPolicy"));
    Ok(all.map(str::to_owned).collect())
}

/// A Pod of the operator's own namespace.
fn own(component: &str) -> Value {
    pod(
        "data-embassy-system",
        &[("app.kubernetes.io/name", "data-embassy"), ("app.kubernetes.io/component", component)],
    )
}

#[test]
fn a_vault_in_a_bucket_reaches_its_object_store_alone() {
    let bucket = [
        "vault.bucket.name=vault",
        "vault.bucket.endpoint=https://s3.example.lu:9000",
        "vault.bucket.credentialsSecret=keys",
        "vault.bucket.caBundle=PEM",
    ];
    let store = ["networkPolicies.bucketDestinations={203.0.113.0/24}"];
    let flows = [
        flow("to the object store", own("vault"), outside("203.0.113.9"), 9000, true),
        flow("to another port of it", own("vault"), outside("203.0.113.9"), 443, false),
        flow("to another address", own("vault"), outside("198.51.100.7"), 9000, false),
        flow("to DNS", own("vault"), dns(), 53, true),
        flow("home to the vault", outside("198.51.100.7"), own("vault"), 8443, true),
    ];
    judge("a vault in a bucket", &chart_with(&[&bucket[..], &store].concat()).unwrap(), &flows);
    for (values, says) in [
        (&bucket[..1], "vault.bucket.endpoint is missing"),
        (&bucket[..2], "vault.bucket.credentialsSecret is missing"),
        (&bucket[..3], "vault.bucket.caBundle is missing"),
        (&["vault.replicas=2"], "vault.replicas must be 1 without vault.bucket"),
    ] {
        let refused = chart_with(values).unwrap_err();
        assert!(refused.contains(says), "{refused}");
    }
}

#[test]
fn the_operators_own_namespace() {
    let manifests = chart_with(&["networkPolicies.vaultSources={198.51.100.0/24}"]).unwrap();
    let flows = [
        flow("home to the vault", outside("198.51.100.7"), own("vault"), 8443, true),
        flow("another address to the vault", outside("203.0.113.9"), own("vault"), 8443, false),
        flow("a mover to the vault", mover(), own("vault"), 8443, true),
        flow("a stranger to the vault", stranger(), own("vault"), 8443, false),
        flow("a stranger to the vault's health port", stranger(), own("vault"), 8080, false),
        flow("the controller to the vault", own("controller"), own("vault"), 8443, true),
        flow("the controller to the API server", own("controller"), outside("10.0.0.1"), 6443, true),
        flow("a stranger to the controller", stranger(), own("controller"), 8080, false),
        flow("the vault to the world", own("vault"), outside("203.0.113.9"), 443, false),
        flow("the vault to DNS", own("vault"), dns(), 53, false),
    ];
    judge("the operator's namespace", &manifests, &flows);
}
