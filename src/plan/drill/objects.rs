//! Which captured objects a drill applies, and how they are changed so that nothing outside of it notices.

use serde_json::{Value, json};

/// Kinds that would draw traffic, open the network or do work again, by group and kind; a kind alone counts in every group.
const LEFT_OUT: [(&str, &str); 7] = [
    // Network policies only add up: one of the register's would open what the drill closes.
    ("*", "NetworkPolicy"),
    ("cilium.io", "*"),
    ("crd.projectcalico.org", "*"),
    ("*", "Ingress"),
    ("gateway.networking.k8s.io", "*"),
    ("networking.istio.io", "*"),
    // It ran already, and what it did is in the volumes.
    ("batch", "Job"),
];

/// Where and of what the drill is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearsal<'a> {
    /// The protected namespace.
    pub source: &'a str,
    /// The namespace of the drill.
    pub target: &'a str,
    /// Further kinds that are left out, as `Kind` or `group/Kind`.
    pub exclude: &'a [String],
}

/// The objects to apply.
#[must_use]
pub fn rehearsed(objects: Vec<Value>, rehearsal: &Rehearsal) -> Vec<Value> {
    let kept = objects.into_iter().filter(|object| !is_left_out(object, rehearsal.exclude));
    kept.map(|object| tamed(object, rehearsal)).collect()
}

fn is_left_out(object: &Value, exclude: &[String]) -> bool {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let kind = object["kind"].as_str().unwrap_or_default();
    let name = if group.is_empty() { kind.to_owned() } else { format!("{group}/{kind}") };
    LEFT_OUT.iter().any(|(of, out)| (*of == "*" || *of == group) && (*out == "*" || *out == kind))
        || exclude.iter().any(|excluded| excluded.trim_start_matches('/') == name)
}

fn tamed(mut object: Value, rehearsal: &Rehearsal) -> Value {
    match object["kind"].as_str() {
        Some("CronJob") => object["spec"]["suspend"] = json!(true),
        Some("Service") => inside_only(&mut object),
        Some("RoleBinding") => rebind(&mut object, rehearsal),
        _ => {}
    }
    object
}

/// A Service that nobody outside of the cluster is led to.
fn inside_only(service: &mut Value) {
    let Some(spec) = service["spec"].as_object_mut() else { return };
    if spec.get("type").is_some_and(|kind| kind == "LoadBalancer" || kind == "NodePort") {
        spec.insert("type".to_owned(), json!("ClusterIP"));
    }
    for field in [
        "externalIPs",
        "loadBalancerIP",
        "loadBalancerClass",
        "loadBalancerSourceRanges",
        "allocateLoadBalancerNodePorts",
        "healthCheckNodePort",
        "externalTrafficPolicy",
    ] {
        spec.remove(field);
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        port.as_object_mut().map(|port| port.remove("nodePort"));
    }
}

/// The register's ServiceAccounts are those of the drill.
fn rebind(binding: &mut Value, rehearsal: &Rehearsal) {
    for subject in binding["subjects"].as_array_mut().into_iter().flatten() {
        if subject["namespace"] == rehearsal.source {
            subject["namespace"] = json!(rehearsal.target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rehearse(objects: Value) -> Vec<Value> {
        let Value::Array(objects) = objects else { panic!() };
        let exclude = ["cert-manager.io/Certificate".to_owned(), "/ConfigMap".to_owned()];
        rehearsed(objects, &Rehearsal { source: "land", target: "land-drill-1", exclude: &exclude })
    }

    #[test]
    fn what_opens_the_network_or_draws_traffic_is_left_out() {
        let kept = rehearse(json!([
            {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"},
            {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy"},
            {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress"},
            {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"},
            {"apiVersion": "batch/v1", "kind": "Job"},
            {"apiVersion": "cert-manager.io/v1", "kind": "Certificate"},
            {"apiVersion": "v1", "kind": "ConfigMap"},
            {"apiVersion": "apps/v1", "kind": "StatefulSet"},
            {"apiVersion": "v1", "kind": "Secret"},
        ]));
        let kinds: Vec<&str> = kept.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["StatefulSet", "Secret"]);
    }

    #[test]
    fn nothing_runs_by_the_clock_and_nobody_is_led_in() {
        let kept = rehearse(json!([
            {"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"suspend": false}},
            {"apiVersion": "v1", "kind": "Service", "spec": {"type": "LoadBalancer", "externalIPs": ["192.0.2.1"],
                "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30080}]}},
            {"apiVersion": "v1", "kind": "Service", "spec": {"clusterIP": "None", "ports": [{"port": 5432}]}},
        ]));
        assert_eq!(kept[0]["spec"], json!({"suspend": true}));
        assert_eq!(kept[1]["spec"], json!({"type": "ClusterIP", "ports": [{"port": 80}]}));
        assert_eq!(kept[2]["spec"], json!({"clusterIP": "None", "ports": [{"port": 5432}]}));
    }

    #[test]
    fn rights_are_given_to_the_accounts_of_the_drill() {
        let kept = rehearse(
            json!([{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "subjects": [
                {"kind": "ServiceAccount", "name": "db", "namespace": "land"},
                {"kind": "ServiceAccount", "name": "tool", "namespace": "ops"},
                {"kind": "Group", "name": "clerks"},
            ]}]),
        );
        assert_eq!(kept[0]["subjects"][0]["namespace"], "land-drill-1");
        assert_eq!(kept[0]["subjects"][1]["namespace"], "ops");
        assert_eq!(kept[0]["subjects"][2].get("namespace"), None);
    }
}
