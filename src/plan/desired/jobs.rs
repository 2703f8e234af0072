//! Mover Jobs: short-lived Pods that read or write the protected volumes.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{
            Affinity, Capabilities, Container, EmptyDirVolumeSource, NodeAffinity, NodeSelector,
            NodeSelectorRequirement, NodeSelectorTerm, PersistentVolumeClaimVolumeSource, PodSpec,
            PodTemplateSpec, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext,
            Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};

use sha2::{Digest, Sha256};

use super::{Owner, rbac};
use crate::api::MOVER_LABEL;
use crate::plan::snapshots;
use crate::plan::task::TASK_ANNOTATION;

/// Where the protected claims are mounted, one folder each.
pub const VOLUMES_ROOT: &str = "/volumes";
/// Where the mover finds its key and certificates.
pub const CREDENTIALS: &str = "/etc/data-embassy/mover";
/// The volume of that.
const CREDENTIALS_VOLUME: &str = "credentials";
/// Where a mover without a key waits for it: memory only.
pub const UNSEAL: &str = "/run/data-embassy/unseal";
/// Annotation of the Pod of such a mover: the epoch whose key it waits for.
pub const UNSEAL_ANNOTATION: &str = "dataembassy.io/unseal";
/// Scratch space: captured objects and the repository's index cache.
pub const SCRATCH: &str = "/work";

/// What a mover Pod is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Capture the objects and copy the volumes into the vault.
    Backup,
    /// Bring the volumes to a recovery point.
    Restore,
    /// Apply the captured objects of a recovery point.
    Activate,
    /// Read all that the vault holds.
    Verify,
    /// Say what a recovery point holds that an earlier one does not.
    Compare,
}

impl Verb {
    /// The subcommand of `data-embassy mover`, also part of the Job's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Activate => "activate",
            Self::Verify => "verify",
            Self::Compare => "compare",
        }
    }

    const fn writes_volumes(self) -> bool {
        matches!(self, Self::Restore)
    }

    const fn mounts_volumes(self) -> bool {
        matches!(self, Self::Backup | Self::Restore | Self::Activate)
    }

    const fn talks_to_api_server(self) -> bool {
        matches!(self, Self::Backup | Self::Activate)
    }
}

/// What decides a mover Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoverIntent<'a> {
    /// For whom.
    pub owner: &'a Owner,
    /// What it does.
    pub verb: Verb,
    /// What makes the Job's name unique: epoch and sequence, such as `1-tallinn-42`.
    pub id: &'a str,
    /// Further arguments of the subcommand.
    pub arguments: &'a [String],
    /// What it is for, as the annotation says it.
    pub task: &'a str,
    /// Image of the operator itself.
    pub image: &'a str,
    /// Such as `IfNotPresent`.
    pub pull_policy: &'a str,
    /// Protected claims.
    pub claims: &'a [String],
    /// Volumes made of snapshots are mounted in their place.
    pub from_snapshots: bool,
    /// Milliseconds since 1970: the Secret of a Job that was removed may still be there when another one of its name is made.
    pub stamp: i64,
    /// Node where the claims are in use: a `ReadWriteOnce` volume can be mounted there only.
    pub node: Option<&'a str>,
    /// The epoch whose key a person must bring, where this site has none.
    pub unseal: Option<&'a str>,
}

/// Longest name of a Job: its Pods bear it as a label.
const LONGEST_NAME: usize = 63;

/// Name of the Job. A long one is cut and told apart by a digest.
#[must_use]
pub fn name(owner: &Owner, verb: Verb, id: &str) -> String {
    let full = format!("{}-{}-{id}", owner.name, verb.as_str());
    if full.len() <= LONGEST_NAME {
        return full;
    }
    let digest = hex::encode(&Sha256::digest(full.as_bytes())[..6]);
    let kept: String = full.chars().take(LONGEST_NAME - digest.len() - 1).collect();
    format!("{}-{digest}", kept.trim_end_matches('-'))
}

/// Name of the Secret that the Pod of a mover Job mounts.
#[must_use]
pub fn secret_of(job: &Job) -> Option<&str> {
    let volumes = job.spec.as_ref()?.template.spec.as_ref()?.volumes.as_ref()?;
    let volume = volumes.iter().find(|volume| volume.name == CREDENTIALS_VOLUME)?;
    volume.secret.as_ref()?.secret_name.as_deref()
}

/// Whether a mover Job was created and not started: its operator ended in between.
#[must_use]
pub fn is_unstarted(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false)
}

/// The Job. It begins suspended, since its Secret can only belong to it once it is there. It is never retried by itself: the
/// operator reads why it failed and decides.
#[must_use]
pub fn mover(intent: &MoverIntent) -> Job {
    let mut labels = intent.owner.labels();
    labels.insert(MOVER_LABEL.to_owned(), intent.owner.name.clone());
    let name = name(intent.owner, intent.verb, intent.id);
    Job {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(intent.owner.namespace.clone()),
            labels: Some(labels.clone()),
            annotations: Some(BTreeMap::from([(TASK_ANNOTATION.to_owned(), intent.task.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            suspend: Some(true),
            backoff_limit: Some(0),
            // A safety net only: the operator removes a Job as soon as its outcome is recorded.
            ttl_seconds_after_finished: Some(86_400),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    annotations: intent
                        .unseal
                        .map(|epoch| BTreeMap::from([(UNSEAL_ANNOTATION.to_owned(), epoch.to_owned())])),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(intent, &name)),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn pod(intent: &MoverIntent, job: &str) -> PodSpec {
    let claims = if intent.verb.mounts_volumes() { intent.claims } else { &[] };
    let mounted = claims.iter().enumerate().map(|(place, claim)| {
        let volume = if intent.from_snapshots { snapshots::name(job, place) } else { claim.clone() };
        (claim.as_str(), volume)
    });
    let (mut volumes, mut mounts) = claim_mounts(mounted, !intent.verb.writes_volumes());
    mounts.push(mount(CREDENTIALS_VOLUME, CREDENTIALS, true));
    volumes.push(Volume {
        name: CREDENTIALS_VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(format!("{job}-{}", intent.stamp)),
            default_mode: Some(0o400),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    });
    mounts.push(mount("scratch", SCRATCH, false));
    volumes.push(Volume {
        name: "scratch".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    });
    if intent.unseal.is_some() {
        mounts.push(mount("unseal", UNSEAL, false));
        volumes.push(Volume {
            name: "unseal".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: Some(Quantity("1Mi".to_owned())),
            }),
            ..Volume::default()
        });
    }
    PodSpec {
        service_account_name: Some(rbac::service_account_name(intent.owner)),
        automount_service_account_token: Some(intent.verb.talks_to_api_server()),
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(5),
        enable_service_links: Some(false),
        affinity: intent.node.map(on_node),
        containers: vec![container(intent, mounts)],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// The claims, one folder each: by the name of the folder, the claim that is mounted there.
pub(super) fn claim_mounts<'a>(
    claims: impl IntoIterator<Item = (&'a str, String)>,
    read_only: bool,
) -> (Vec<Volume>, Vec<VolumeMount>) {
    let (mut volumes, mut mounts) = (vec![], vec![]);
    for (index, (folder, claim)) in claims.into_iter().enumerate() {
        let volume = format!("claim-{index}");
        mounts.push(mount(&volume, &format!("{VOLUMES_ROOT}/{folder}"), read_only));
        volumes.push(Volume {
            name: volume,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim,
                read_only: None,
            }),
            ..Volume::default()
        });
    }
    (volumes, mounts)
}

fn container(intent: &MoverIntent, mounts: Vec<VolumeMount>) -> Container {
    let mut arguments = vec!["mover".to_owned(), intent.verb.as_str().to_owned()];
    arguments.extend_from_slice(intent.arguments);
    arguments.extend(intent.unseal.map(|_| format!("--unseal={UNSEAL}")));
    Container {
        name: "mover".to_owned(),
        image: Some(intent.image.to_owned()),
        image_pull_policy: Some(intent.pull_policy.to_owned()),
        args: Some(arguments),
        volume_mounts: Some(mounts),
        resources: Some(resources()),
        security_context: Some(security(intent.verb)),
        termination_message_policy: Some("File".to_owned()),
        ..Container::default()
    }
}

/// What a mover may take of its node.
pub(super) fn resources() -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(quantities(&[("cpu", "50m"), ("memory", "128Mi")])),
        limits: Some(quantities(&[("memory", "768Mi")])),
        claims: None,
    }
}

/// Root with just the capabilities that copying other people's files needs; none where no volume is mounted.
pub(super) fn security(verb: Verb) -> SecurityContext {
    let capabilities: &[&str] = match verb {
        Verb::Backup | Verb::Activate => &["DAC_READ_SEARCH"],
        Verb::Restore => &["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"],
        Verb::Compare | Verb::Verify => &[],
    };
    SecurityContext {
        run_as_user: Some(0),
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: Some(capabilities.iter().map(ToString::to_string).collect()),
        }),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..SecurityContext::default()
    }
}

pub(super) fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    }
}

pub(super) fn on_node(node: &str) -> Affinity {
    let term = NodeSelectorTerm {
        match_fields: Some(vec![NodeSelectorRequirement {
            key: "metadata.name".to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![node.to_owned()]),
        }]),
        match_expressions: None,
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term],
            }),
            preferred_during_scheduling_ignored_during_execution: None,
        }),
        ..Affinity::default()
    }
}

fn quantities(pairs: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Quantity((*value).to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(verb: Verb) -> Job {
        made(verb, false)
    }

    fn made(verb: Verb, from_snapshots: bool) -> Job {
        let owner = Owner { namespace: "registers".to_owned(), name: "land".to_owned() };
        let claims = ["data".to_owned(), "archive".to_owned()];
        let intent = MoverIntent {
            owner: &owner,
            verb,
            id: "1-tallinn-7",
            arguments: &["--epoch=1-tallinn".to_owned()],
            task: "{}",
            image: "data-embassy:dev",
            pull_policy: "IfNotPresent",
            claims: &claims,
            from_snapshots,
            stamp: 1,
            node: Some("node-a"),
            unseal: None,
        };
        let made = mover(&intent);
        assert_eq!(made.metadata.name.as_deref().unwrap(), format!("land-{}-1-tallinn-7", verb.as_str()));
        made
    }

    fn job(verb: Verb) -> PodSpec {
        whole(verb).spec.unwrap().template.spec.unwrap()
    }

    fn mounts(pod: &PodSpec) -> Vec<(String, bool)> {
        let mounts = pod.containers[0].volume_mounts.as_ref().unwrap();
        mounts.iter().map(|m| (m.mount_path.clone(), m.read_only == Some(true))).collect()
    }

    #[test]
    fn a_job_waits_for_its_secret_and_one_that_still_waits_is_known() {
        let mut made = whole(Verb::Backup);
        assert!(
            is_unstarted(&made),
            "its Pod would wait for ever if the operator ended before the Secret is there"
        );
        assert_eq!(secret_of(&made), Some("land-backup-1-tallinn-7-1"));
        made.spec.as_mut().unwrap().suspend = Some(false);
        assert!(!is_unstarted(&made));
    }

    #[test]
    fn names_fit_a_label_and_stay_apart() {
        let owner = Owner { namespace: "registers".to_owned(), name: "l".repeat(52) };
        let names: Vec<String> =
            ["1-tallinn-7", "1-tallinn-8"].iter().map(|id| name(&owner, Verb::Backup, id)).collect();
        assert!(names.iter().all(|name| name.len() <= 63) && names[0] != names[1], "{names:?}");
    }

    #[test]
    fn a_backup_cannot_write_the_volumes() {
        let made = mounts(&job(Verb::Backup));
        assert!(made.contains(&("/volumes/data".to_owned(), true)));
        assert!(made.contains(&("/volumes/archive".to_owned(), true)));
    }

    #[test]
    fn a_copy_of_snapshots_mounts_them_where_the_claims_would_be() {
        let pod = made(Verb::Backup, true).spec.unwrap().template.spec.unwrap();
        let claim = |volume: &Volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone());
        let claims: Vec<String> = pod.volumes.as_ref().unwrap().iter().filter_map(claim).collect();
        assert_eq!(claims, ["land-backup-1-tallinn-7-0", "land-backup-1-tallinn-7-1"]);
        assert_eq!(mounts(&pod)[0], ("/volumes/data".to_owned(), true));
    }

    #[test]
    fn a_restore_has_no_token_and_writes_only_volumes_and_scratch() {
        let pod = job(Verb::Restore);
        assert_eq!(pod.automount_service_account_token, Some(false));
        let writable: Vec<_> = mounts(&pod).into_iter().filter(|(_, read_only)| !read_only).collect();
        assert_eq!(writable.len(), 3, "{writable:?}");
    }

    #[test]
    fn a_comparison_sees_no_volume_and_an_activation_cannot_write_one() {
        assert!(mounts(&job(Verb::Compare)).iter().all(|(path, _)| !path.starts_with(VOLUMES_ROOT)));
        assert_eq!(job(Verb::Compare).automount_service_account_token, Some(false));
        let seen = mounts(&job(Verb::Activate));
        assert!(seen.iter().any(|(path, read_only)| path == "/volumes/data" && *read_only), "{seen:?}");
        assert!(seen.iter().all(|(path, read_only)| !path.starts_with(VOLUMES_ROOT) || *read_only));
    }

    #[test]
    fn a_verification_has_no_token_and_sees_no_volume() {
        let pod = job(Verb::Verify);
        assert_eq!(pod.automount_service_account_token, Some(false));
        assert!(mounts(&pod).iter().all(|(path, _)| !path.starts_with(VOLUMES_ROOT)));
    }

    #[test]
    fn a_mover_without_a_key_waits_for_it_in_memory_only() {
        let owner = Owner { namespace: "registers".to_owned(), name: "land".to_owned() };
        let made = mover(&MoverIntent {
            owner: &owner,
            verb: Verb::Restore,
            id: "1-tallinn-7",
            arguments: &[],
            task: "{}",
            image: "data-embassy:dev",
            pull_policy: "IfNotPresent",
            claims: &[],
            from_snapshots: false,
            stamp: 1,
            node: None,
            unseal: Some("1/tallinn"),
        });
        let template = made.spec.unwrap().template;
        assert_eq!(template.metadata.unwrap().annotations.unwrap()[UNSEAL_ANNOTATION], "1/tallinn");
        let pod = template.spec.unwrap();
        assert!(pod.containers[0].args.as_ref().unwrap().contains(&format!("--unseal={UNSEAL}")));
        let volumes = pod.volumes.unwrap();
        let volume = volumes.iter().find(|volume| volume.name == "unseal").unwrap();
        assert_eq!(volume.empty_dir.as_ref().unwrap().medium.as_deref(), Some("Memory"));
    }

    #[test]
    fn a_mover_runs_where_the_volume_is_in_use() {
        let affinity = job(Verb::Backup).affinity.unwrap().node_affinity.unwrap();
        let terms = affinity.required_during_scheduling_ignored_during_execution.unwrap().node_selector_terms;
        assert_eq!(terms[0].match_fields.as_ref().unwrap()[0].values.as_ref().unwrap(), &["node-a"]);
    }
}
