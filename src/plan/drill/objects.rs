//! Which captured objects a drill applies, and how they are changed so that nothing outside of it notices.

use serde_json::{Value, json};

use crate::api::reading::Serve;

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
    /// Which workloads serve readers, where it is no rehearsal.
    pub serve: Option<&'a Serve>,
}

/// Kinds that run Pods.
const WORKLOADS: [&str; 5] =
    ["Deployment", "StatefulSet", "ReplicaSet", "DaemonSet", "ReplicationController"];

/// The objects to apply.
#[must_use]
pub fn rehearsed(objects: Vec<Value>, rehearsal: &Rehearsal) -> Vec<Value> {
    let kept = objects.into_iter().filter(|object| !is_left_out(object, rehearsal.exclude));
    let tamed = kept.map(|object| tamed(object, rehearsal));
    match rehearsal.serve {
        None => tamed.collect(),
        Some(serve) => tamed.filter_map(|object| for_readers(object, serve)).collect(),
    }
}

/// Of the workloads only those that serve, and with volumes that they cannot write.
fn for_readers(mut object: Value, serve: &Serve) -> Option<Value> {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    if kind == "CronJob" {
        return None;
    }
    if !WORKLOADS.contains(&kind.as_str()) {
        return Some(object);
    }
    let labels = &object["metadata"]["labels"];
    if !serve.selector.iter().all(|(name, value)| labels[name.as_str()] == value.as_str()) {
        return None;
    }
    if let Some(replicas) = serve.replicas.filter(|_| kind != "DaemonSet") {
        object["spec"]["replicas"] = json!(replicas);
    }
    let templates = object["spec"]["volumeClaimTemplates"].as_array().cloned().unwrap_or_default();
    let mut claims: Vec<String> =
        templates.iter().filter_map(|claim| claim["metadata"]["name"].as_str()).map(str::to_owned).collect();
    let pod = &mut object["spec"]["template"]["spec"];
    for volume in pod["volumes"].as_array_mut().into_iter().flatten() {
        if volume["persistentVolumeClaim"].is_object() {
            claims.extend(volume["name"].as_str().map(str::to_owned));
        }
    }
    for field in ["containers", "initContainers"] {
        let Some(containers) = pod.get_mut(field).and_then(Value::as_array_mut) else { continue };
        for mount in containers.iter_mut().filter_map(|it| it["volumeMounts"].as_array_mut()).flatten() {
            if claims.iter().any(|claim| mount["name"] == claim.as_str()) {
                mount["readOnly"] = json!(true);
            }
        }
    }
    Some(object)
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
        let of = Rehearsal { source: "land", target: "land-drill-1", exclude: &exclude, serve: None };
        rehearsed(objects, &of)
    }

    #[test]
    fn readers_are_served_by_the_named_workloads_on_volumes_that_they_cannot_write() {
        let serve = Serve { selector: [("reads".to_owned(), "true".to_owned())].into(), replicas: Some(2) };
        let pod = json!({"volumes": [{"name": "files", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "tmp", "emptyDir": {}}],
            "initContainers": [{"volumeMounts": [{"name": "files"}]}],
            "containers": [{"volumeMounts": [{"name": "files"}, {"name": "rows"}, {"name": "tmp"}]}, {}]});
        let objects = json!([
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"labels": {"app": "writer"}}},
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"labels": {"reads": "true"}}, "spec": {"replicas": 0,
                "volumeClaimTemplates": [{"metadata": {"name": "rows"}}], "template": {"spec": pod}}},
            {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"labels": {"reads": "true"}}},
            {"apiVersion": "v1", "kind": "Service"},
        ]);
        let Value::Array(objects) = objects else { panic!() };
        let of = Rehearsal { source: "land", target: "land-drill-1", exclude: &[], serve: Some(&serve) };
        let kept = rehearsed(objects, &of);
        let kinds: Vec<&str> = kept.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["StatefulSet", "Service"]);
        assert_eq!(kept[0]["spec"]["replicas"], 2);
        let pod = &kept[0]["spec"]["template"]["spec"];
        let mounts = &pod["containers"][0]["volumeMounts"];
        assert_eq!((&mounts[0]["readOnly"], &mounts[1]["readOnly"]), (&json!(true), &json!(true)));
        assert_eq!(mounts[2].get("readOnly"), None, "scratch stays writable");
        assert_eq!(pod["initContainers"][0]["volumeMounts"][0]["readOnly"], true);
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
