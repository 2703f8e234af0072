//! What is taken off an object so that another cluster accepts it: everything that a cluster, not a person, wrote.

use serde_json::{Map, Value, json};

use crate::api::{FENCED_LABEL, FORMER_REPLICAS, FORMER_SUSPEND};

const METADATA: [&str; 12] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
    // Another cluster has other uids: the garbage collector would delete the object at once.
    "ownerReferences",
    // Put there by controllers of this cluster, which may not exist in another.
    "finalizers",
    "namespace",
    "generateName",
];

const ANNOTATIONS: [&str; 4] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
    "control-plane.alpha.kubernetes.io/leader",
    "kubernetes.io/service-account.uid",
];

const JOB_LABELS: [&str; 4] =
    ["controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];

/// Strips an object, and gives a stopped workload its former scale back.
pub fn strip(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else { return };
    fields.remove("status");
    if let Some(metadata) = map(fields, "metadata") {
        metadata.retain(|name, _| !METADATA.contains(&name.as_str()));
        drop_from(metadata, "annotations", &ANNOTATIONS);
    }
    resume(object);
    match object["kind"].as_str() {
        Some("Service") => service(object),
        Some("Job") => job(object),
        // Names of tokens that this cluster made.
        Some("ServiceAccount") => drop(object.as_object_mut().and_then(|fields| fields.remove("secrets"))),
        _ => {}
    }
}

/// A fence stops workloads; what is captured is what they were before.
fn resume(object: &mut Value) {
    if let Some(former) = take_annotation(object, FORMER_REPLICAS) {
        if object["kind"] == "DaemonSet" {
            if let Some(spec) = object.pointer_mut("/spec/template/spec").and_then(Value::as_object_mut) {
                drop_from(spec, "nodeSelector", &[FENCED_LABEL]);
            }
        } else {
            replace(object, "replicas", json!(former));
        }
    }
    if let Some(former) = take_annotation(object, FORMER_SUSPEND) {
        replace(object, "suspend", json!(former == 0));
    }
}

/// Another value for a field that a fence has written. Whoever may write annotations must not make objects that no cluster takes.
fn replace(object: &mut Value, field: &str, value: Value) {
    let spec = object.as_object_mut().and_then(|fields| map(fields, "spec"));
    if let Some(old) = spec.and_then(|spec| spec.get_mut(field)) {
        *old = value;
    }
}

fn take_annotation(object: &mut Value, name: &str) -> Option<i64> {
    let metadata = map(object.as_object_mut()?, "metadata")?;
    let former = metadata.get("annotations")?.get(name)?.as_str()?.parse().ok()?;
    drop_from(metadata, "annotations", &[name]);
    Some(former)
}

fn service(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|fields| map(fields, "spec")) else { return };
    // `None` makes the service headless: a decision, not an address.
    if spec.get("clusterIP").is_some_and(|address| address != "None") {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    spec.remove("healthCheckNodePort");
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        port.remove("nodePort");
    }
}

fn job(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else { return };
    if let Some(metadata) = map(fields, "metadata") {
        drop_from(metadata, "labels", &JOB_LABELS);
    }
    let Some(spec) = map(fields, "spec") else { return };
    if spec.get("manualSelector") == Some(&Value::Bool(true)) {
        return;
    }
    spec.remove("selector");
    let template = map(spec, "template").and_then(|template| map(template, "metadata"));
    if let Some(metadata) = template {
        metadata.remove("creationTimestamp");
        drop_from(metadata, "labels", &JOB_LABELS);
    }
}

fn map<'a>(fields: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    fields.get_mut(name)?.as_object_mut()
}

fn drop_from(fields: &mut Map<String, Value>, name: &str, keys: &[&str]) {
    let Some(inner) = map(fields, name) else { return };
    inner.retain(|key, _| !keys.contains(&key.as_str()));
    if inner.is_empty() {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(mut object: Value) -> Value {
        strip(&mut object);
        object
    }

    #[test]
    fn what_the_cluster_wrote_goes_and_what_people_wrote_stays() {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "settings", "namespace": "registers", "uid": "u", "resourceVersion": "1",
                "creationTimestamp": "t", "managedFields": [], "ownerReferences": [{"uid": "v"}],
                "labels": {"app": "land"},
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "kept"},
            },
            "data": {"a": "b"}, "status": {},
        });
        let expected = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "settings", "labels": {"app": "land"}, "annotations": {"note": "kept"}},
            "data": {"a": "b"},
        });
        assert_eq!(stripped(object), expected);
    }

    #[test]
    fn a_fenced_workload_is_captured_as_it_was() {
        let object = json!({
            "kind": "StatefulSet", "metadata": {"name": "db", "annotations": {FORMER_REPLICAS: "3"}},
            "spec": {"replicas": 0},
        });
        let made = stripped(object);
        assert_eq!(made["spec"]["replicas"], 3);
        assert_eq!(made["metadata"], json!({"name": "db"}));
        for (former, suspend) in [("1", false), ("0", true)] {
            let object = json!({
                "kind": "CronJob", "metadata": {"name": "report", "annotations": {FORMER_SUSPEND: former}},
                "spec": {"suspend": true},
            });
            assert_eq!(stripped(object)["spec"]["suspend"], suspend);
        }
    }

    #[test]
    fn an_annotation_of_the_fence_makes_no_field_that_was_not_there() {
        for spec in [json!(null), json!("text"), json!({"other": 1})] {
            let annotations = json!({FORMER_REPLICAS: "3", FORMER_SUSPEND: "1"});
            let object = json!({"kind": "ConfigMap", "metadata": {"annotations": annotations}, "spec": spec});
            assert_eq!(stripped(object)["spec"], spec);
        }
        let object = json!({"kind": "ConfigMap", "metadata": {"annotations": {FORMER_REPLICAS: "3"}}});
        assert_eq!(stripped(object), json!({"kind": "ConfigMap", "metadata": {}}));
    }

    #[test]
    fn a_fenced_daemon_set_is_captured_with_its_own_nodes() {
        let template = |selector: Value| json!({"template": {"spec": {"nodeSelector": selector}}});
        let object = json!({
            "kind": "DaemonSet", "metadata": {"name": "cache", "annotations": {FORMER_REPLICAS: "1"}},
            "spec": template(json!({"disk": "fast", FENCED_LABEL: "true"})),
        });
        let made = stripped(object);
        assert_eq!(made["spec"], template(json!({"disk": "fast"})), "a DaemonSet has no replicas");
        assert_eq!(made["metadata"], json!({"name": "cache"}));
    }

    #[test]
    fn a_service_loses_its_addresses_but_stays_headless() {
        let spec = json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "healthCheckNodePort": 30001,
                          "ports": [{"port": 80, "nodePort": 30000}]});
        let made = stripped(json!({"kind": "Service", "spec": spec}));
        assert_eq!(made["spec"], json!({"ports": [{"port": 80}]}));
        let spec = json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]});
        assert_eq!(stripped(json!({"kind": "Service", "spec": spec}))["spec"], spec);
    }

    #[test]
    fn a_job_can_be_created_again() {
        let labels = json!({"controller-uid": "u", "batch.kubernetes.io/job-name": "j", "app": "land"});
        let object = json!({
            "kind": "Job", "metadata": {"name": "j", "labels": labels},
            "spec": {"selector": {"matchLabels": {"controller-uid": "u"}},
                     "template": {"metadata": {"labels": labels}, "spec": {}}},
        });
        let kept = json!({"labels": {"app": "land"}});
        let made = stripped(object);
        assert_eq!(made["spec"], json!({"template": {"metadata": kept, "spec": {}}}));
    }
}
