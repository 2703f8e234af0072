//! Which hooks are run where, and when a freeze ends. `spec.replication.hooks` and Velero's annotations, which mean what they mean
//! to Velero: per command, the annotation of a Pod goes before the hooks that select it.

use k8s_openapi::{
    api::core::v1::Pod,
    jiff::{SignedDuration, Timestamp},
};
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use crate::api::hooks::{Freeze, FrozenPod, Hook, HookCommand, OnError};

/// Most hooks in Pods of one freeze, which must fit into the record.
const MOST: usize = 512;
/// Longest argument of a hook, in characters.
const LONGEST: usize = 4096;
/// How people read where a hook came from.
const ANNOTATION: &str = "annotation";

/// What is run in one Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What is written down.
    pub frozen: FrozenPod,
    /// The container of `pre`.
    pub container: String,
    /// What is run before the copy.
    pub pre: Option<HookCommand>,
}

/// The hooks of the running Pods, in the order in which they are run.
#[must_use]
pub fn planned(hooks: &[Hook], pods: &[Pod]) -> Vec<Planned> {
    let mut running: Vec<&Pod> = pods.iter().filter(|pod| runs(pod)).collect();
    running.sort_by_key(|pod| pod.name_any());
    running.into_iter().flat_map(|pod| of_pod(hooks, pod)).take(MOST).collect()
}

fn of_pod(hooks: &[Hook], pod: &Pod) -> Vec<Planned> {
    let (pre, post) = (annotated(pod, "pre"), annotated(pod, "post"));
    let mut found = vec![];
    for hook in hooks.iter().filter(|hook| selects(hook, pod)) {
        let own = Hook {
            pre: hook.pre.clone().filter(|_| pre.is_none()),
            post: hook.post.clone().filter(|_| post.is_none()),
            ..hook.clone()
        };
        if own.pre.is_some() || own.post.is_some() {
            let container = container(pod, own.container.as_deref());
            found.push(made(pod, &own.name, (container.clone(), own.pre), (container, own.post)));
        }
    }
    if pre.is_some() || post.is_some() {
        let split = |it: Option<(String, HookCommand)>| match it {
            Some((container, command)) => (container, Some(command)),
            None => (container(pod, None), None),
        };
        found.push(made(pod, ANNOTATION, split(pre), split(post)));
    }
    found
}

fn made(
    pod: &Pod,
    hook: &str,
    (container, pre): (String, Option<HookCommand>),
    (after, post): (String, Option<HookCommand>),
) -> Planned {
    let frozen = FrozenPod {
        hook: hook.to_owned(),
        pod: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        container: after,
        post,
    };
    Planned { frozen, container, pre }
}

fn selects(hook: &Hook, pod: &Pod) -> bool {
    hook.selector.iter().all(|(name, value)| pod.labels().get(name) == Some(value))
}

/// A Pod that has not begun or is ending has no writer that could hold still.
fn runs(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
}

fn container(pod: &Pod, named: Option<&str>) -> String {
    let first = || pod.spec.as_ref()?.containers.first().map(|first| first.name.clone());
    named.map(str::to_owned).or_else(first).unwrap_or_default()
}

/// Velero's annotations: none without a command; what else cannot be read is as if it were not there.
fn annotated(pod: &Pod, phase: &str) -> Option<(String, HookCommand)> {
    let read = |key: &str| pod.annotations().get(key).map(String::as_str).filter(|text| !text.is_empty());
    let of = |prefix: &str| {
        let value = |name: &str| read(&format!("{prefix}hook.backup.velero.io/{name}"));
        let command = command(value("command")?);
        let on_error = if value("on-error") == Some("Continue") { OnError::Continue } else { OnError::Fail };
        let timeout = value("timeout").and_then(seconds).unwrap_or_else(HookCommand::default_timeout);
        Some((container(pod, value("container")), HookCommand { command, timeout, on_error }))
    };
    // Velero's first annotations named no phase and mean the one before the copy.
    of(&format!("{phase}.")).or_else(|| of("").filter(|_| phase == "pre"))
}

/// A JSON array, else the whole text is the name of a program. More than a hook of the spec may hold is no array either, and no
/// program: it fails when it is run.
fn command(text: &str) -> Vec<String> {
    let fits = |parts: &Vec<String>| {
        (1..=64).contains(&parts.len()) && parts.iter().all(|part| part.chars().count() <= LONGEST)
    };
    let array = serde_json::from_str(text).ok().filter(fits);
    array.unwrap_or_else(|| vec![text.chars().take(LONGEST).collect()])
}

/// A duration as Go writes it, in whole seconds.
fn seconds(text: &str) -> Option<String> {
    let duration: SignedDuration = text.parse().ok()?;
    let rounded = duration.as_secs() + i64::from(duration.subsec_nanos() > 0);
    (rounded > 0).then(|| format!("{}s", rounded.min(9_999)))
}

/// What tells whether a container was started anew, or another Pod came, since.
pub fn writers<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> String {
    let of = |pod: &Pod| {
        let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let mut ids: Vec<String> =
            containers.filter_map(|container| container.container_id.clone()).collect();
        ids.sort();
        format!("{} {}\n", pod.uid().unwrap_or_default(), ids.join(" "))
    };
    let mut lines: Vec<String> = pods.into_iter().map(of).collect();
    lines.sort();
    lines.dedup();
    hex::encode(Sha256::digest(lines.concat().as_bytes()))
}

/// How the copy is, for which the writers hold still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copying {
    /// It is not there: not begun, removed, or of an operator that ended.
    Missing,
    /// It reads.
    Reads,
    /// It has ended, and its outcome is not yet recorded.
    Ended,
}

/// Whether its time is over. A clock that was set back ends it too.
#[must_use]
pub fn is_over(freeze: &Freeze, now: Timestamp) -> bool {
    now >= freeze.until.0 || now < freeze.since.0
}

/// The freeze as it is written down before the first command after the copy is run; none while the writers shall hold still.
#[must_use]
pub fn thawing(freeze: &Freeze, copy: Copying, same_writers: bool, now: Timestamp) -> Option<Freeze> {
    if freeze.thawing || (copy == Copying::Reads && !is_over(freeze, now)) {
        return None;
    }
    let outlasted = copy == Copying::Ended && freeze.quiesced && same_writers;
    Some(Freeze { thawing: true, outlasted, ..freeze.clone() })
}

/// Whether the copy of that sequence may be called quiesced: what was seen, not what was meant.
#[must_use]
pub fn proves(freeze: Option<&Freeze>, sequence: i64) -> bool {
    freeze.is_some_and(|freeze| freeze.outlasted && freeze.sequence == Some(sequence))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, annotations: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "labels": {"app": "register"}, "annotations": annotations},
            "spec": {"containers": [{"name": "postgres"}, {"name": "freezer"}]},
            "status": {"phase": "Running", "containerStatuses": [{"name": "postgres", "containerID": "one",
                "image": "", "imageID": "", "ready": true, "restartCount": 0}]}}))
        .unwrap()
    }

    fn hook() -> Hook {
        serde_json::from_value(json!({"name": "own", "selector": {"app": "register"},
            "pre": {"command": ["freeze"]}, "post": {"command": ["thaw"], "timeout": "5s"}}))
        .unwrap()
    }

    fn freeze() -> Freeze {
        let at = |second| Time(Timestamp::from_second(second).unwrap());
        Freeze {
            since: at(100),
            until: at(400),
            sequence: Some(7),
            pods: vec![],
            writers: String::new(),
            quiesced: true,
            thawing: false,
            outlasted: false,
            failure: None,
        }
    }

    #[test]
    fn hooks_run_in_the_running_pods_that_they_select() {
        let mut waiting = pod("c", &json!({}));
        waiting.status.as_mut().unwrap().phase = Some("Pending".to_owned());
        let mut other = pod("d", &json!({}));
        other.metadata.labels = None;
        let found = planned(&[hook()], &[pod("b", &json!({})), waiting, other, pod("a", &json!({}))]);
        let names: Vec<&str> = found.iter().map(|planned| planned.frozen.pod.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(
            (found[0].container.as_str(), found[0].pre.as_ref().unwrap().timeout.as_str()),
            ("postgres", "30s")
        );
        assert!(planned(&[], &[pod("a", &json!({}))]).is_empty());
    }

    #[test]
    fn annotations_mean_what_they_mean_to_velero() {
        let annotated = pod(
            "a",
            &json!({"pre.hook.backup.velero.io/command": "[\"/sbin/fsfreeze\", \"--freeze\", \"/data\"]",
                "pre.hook.backup.velero.io/container": "freezer", "pre.hook.backup.velero.io/timeout": "1m30s",
                "pre.hook.backup.velero.io/on-error": "Continue", "post.hook.backup.velero.io/command": "/bin/thaw",
                "post.hook.backup.velero.io/timeout": "300", "post.hook.backup.velero.io/on-error": "perhaps"}),
        );
        let found = planned(&[hook()], &[annotated]);
        assert_eq!(found.len(), 1, "they go before the hooks of the spec: {found:?}");
        let pre = found[0].pre.clone().unwrap();
        assert_eq!(pre.command, ["/sbin/fsfreeze", "--freeze", "/data"]);
        assert_eq!(
            (found[0].container.as_str(), pre.timeout.as_str(), pre.on_error),
            ("freezer", "90s", OnError::Continue)
        );
        let post = found[0].frozen.post.clone().unwrap();
        assert_eq!(
            (post.command.as_slice(), found[0].frozen.container.as_str()),
            (&["/bin/thaw".to_owned()][..], "postgres")
        );
        assert_eq!((post.timeout.as_str(), post.on_error), ("30s", OnError::Fail), "300 is no duration");
    }

    #[test]
    fn an_annotation_replaces_the_command_of_its_phase_only() {
        let found = planned(&[hook()], &[pod("a", &json!({"hook.backup.velero.io/command": "/bin/freeze"}))]);
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].pre.as_ref(), found[0].frozen.post.as_ref().map(|post| post.limit().as_secs())),
            (None, Some(5))
        );
        assert_eq!(found[1].pre.as_ref().unwrap().command, ["/bin/freeze"]);
        assert_eq!(found[1].frozen.post, None);
    }

    #[test]
    fn a_text_that_is_no_array_is_one_program() {
        assert_eq!(command("fsfreeze --freeze /data"), ["fsfreeze --freeze /data"]);
        assert_eq!(command("[\"broken\""), ["[\"broken\""]);
        assert_eq!(command("[]"), ["[]"]);
    }

    #[test]
    fn a_freeze_holds_only_while_its_copy_reads_and_its_time_lasts() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let freeze = freeze();
        assert_eq!(thawing(&freeze, Copying::Reads, true, at(200)), None);
        for (copy, second) in
            [(Copying::Missing, 200), (Copying::Ended, 200), (Copying::Reads, 400), (Copying::Reads, 99)]
        {
            assert!(thawing(&freeze, copy, true, at(second)).unwrap().thawing, "{copy:?} at {second}");
        }
    }

    #[test]
    fn a_copy_is_quiesced_only_if_the_writers_held_still_to_its_end() {
        let at = Timestamp::from_second(200).unwrap();
        let after = |copy, same, quiesced| {
            let made = thawing(&Freeze { quiesced, ..freeze() }, copy, same, at).unwrap();
            proves(Some(&made), 7)
        };
        assert!(after(Copying::Ended, true, true));
        assert!(!after(Copying::Ended, false, true), "a writer was started anew");
        assert!(!after(Copying::Ended, true, false), "a command had failed");
        assert!(!after(Copying::Missing, true, true), "the copy was lost");
        let early = thawing(&freeze(), Copying::Reads, true, Timestamp::from_second(500).unwrap()).unwrap();
        assert!(!proves(Some(&early), 7), "it was still reading");
        assert!(thawing(&early, Copying::Ended, true, at).is_none(), "what is thawing stays so");
        let ended = thawing(&freeze(), Copying::Ended, true, at).unwrap();
        assert!(!proves(Some(&ended), 8) && !proves(None, 7), "of another copy it says nothing");
    }

    #[test]
    fn a_container_that_was_started_anew_is_another_writer() {
        let (one, mut two) = (pod("a", &json!({})), pod("a", &json!({})));
        assert_eq!(writers([&one, &two]), writers([&one]));
        two.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].container_id =
            Some("two".to_owned());
        assert_ne!(writers([&one]), writers([&two]));
        assert_ne!(writers([&one]), writers([&one, &pod("b", &json!({}))]));
    }
}
