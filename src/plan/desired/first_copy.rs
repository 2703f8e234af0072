//! The Pod beside the volumes from which a person takes a first copy out by hand. It waits; what it is to do is run in it.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, EmptyDirVolumeSource, Pod, PodSpec, Volume},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Owner, jobs};

/// Its only container.
pub const CONTAINER: &str = "mover";
/// The program in the image of the operator.
const PROGRAM: &str = "/data-embassy";
/// A safety net: whoever takes the copy out removes the Pod.
const LONGEST: i64 = 14 * 86_400;

/// What decides the Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstCopyIntent<'a> {
    /// For whom.
    pub owner: &'a Owner,
    /// Image of the operator itself.
    pub image: &'a str,
    /// Such as `IfNotPresent`.
    pub pull_policy: &'a str,
    /// Protected claims.
    pub claims: &'a [String],
    /// Node where the claims are in use: a `ReadWriteOnce` volume can be mounted there only.
    pub node: Option<&'a str>,
}

/// The Pod. It is no mover to the operator, which neither waits for it nor lets it through a fence: a takeover removes it, and
/// the copy goes on later. It has no token, no key and, in an isolated namespace, no network.
#[must_use]
pub fn pod(intent: &FirstCopyIntent) -> Pod {
    let (mut volumes, mut mounts) =
        jobs::claim_mounts(intent.claims.iter().map(|claim| (claim.as_str(), claim.clone())), true);
    mounts.push(jobs::mount("scratch", jobs::SCRATCH, false));
    volumes.push(Volume {
        name: "scratch".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    });
    let container = Container {
        name: CONTAINER.to_owned(),
        image: Some(intent.image.to_owned()),
        image_pull_policy: Some(intent.pull_policy.to_owned()),
        args: Some(["mover", "first-copy", "--wait"].map(str::to_owned).to_vec()),
        volume_mounts: Some(mounts),
        resources: Some(jobs::resources()),
        security_context: Some(jobs::security(jobs::Verb::Backup)),
        ..Container::default()
    };
    Pod {
        metadata: ObjectMeta {
            labels: Some(BTreeMap::from([(
                "dataembassy.io/first-copy".to_owned(),
                intent.owner.name.clone(),
            )])),
            ..intent.owner.metadata("first-copy")
        },
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            restart_policy: Some("Never".to_owned()),
            termination_grace_period_seconds: Some(5),
            active_deadline_seconds: Some(LONGEST),
            enable_service_links: Some(false),
            affinity: intent.node.map(jobs::on_node),
            containers: vec![container],
            volumes: Some(volumes),
            ..PodSpec::default()
        }),
        status: None,
    }
}

/// What is run in it.
#[must_use]
pub fn command(claims: &[String]) -> Vec<String> {
    let mut command: Vec<String> =
        [PROGRAM, "mover", "first-copy", "--termination-log=/dev/null"].map(str::to_owned).to_vec();
    command.extend(claims.iter().map(|claim| format!("--claim={claim}")));
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::MOVER_LABEL;

    #[test]
    fn it_reads_the_volumes_and_has_nothing_else() {
        let owner = Owner { namespace: "registers".to_owned(), name: "land".to_owned() };
        let claims = ["data".to_owned()];
        let made = pod(&FirstCopyIntent {
            owner: &owner,
            image: "data-embassy:dev",
            pull_policy: "Never",
            claims: &claims,
            node: Some("node-a"),
        });
        assert_eq!(made.metadata.name.as_deref(), Some("land-first-copy"));
        assert!(!made.metadata.labels.as_ref().unwrap().contains_key(MOVER_LABEL));
        let spec = made.spec.unwrap();
        assert_eq!(spec.automount_service_account_token, Some(false));
        let mounts = spec.containers[0].volume_mounts.as_ref().unwrap();
        let writable: Vec<_> = mounts.iter().filter(|mount| mount.read_only != Some(true)).collect();
        assert_eq!(writable.len(), 1, "only scratch space: {writable:?}");
        assert!(spec.volumes.unwrap().iter().all(|volume| volume.secret.is_none()));
        assert_eq!(command(&claims).last().unwrap(), "--claim=data");
    }
}
