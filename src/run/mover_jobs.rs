//! What a mover Job is started with.

use k8s_openapi::{api::batch::v1::Job, jiff::Timestamp};
use kube::ResourceExt;

use super::error::RunError;
use super::memory::Memory;
use super::movers::vault_of;
use super::round::Round;
use crate::api::epoch::Epoch;
use crate::api::recovery_point::Consistency;
use crate::plan::desired::Owner;
use crate::plan::desired::jobs::MoverIntent;
use crate::plan::desired::jobs::mover;
use crate::plan::failover::volumes;
use crate::plan::manifest::Manifest;
use crate::plan::task::Task;

/// Where a mover finds the repository of an epoch.
pub(super) fn repository_arguments(owner: &Owner, epoch: &Epoch, url: &str) -> Vec<String> {
    let repository = format!("{}/{}/{}", owner.namespace, owner.name, epoch.slug());
    vec![format!("--vault={url}"), format!("--repository={repository}")]
}

/// What a restore of that point must find.
pub(super) fn restore_arguments(manifest: &Manifest) -> Vec<String> {
    let contents = &manifest.contents;
    let mut arguments = vec![
        format!("--snapshot={}", contents.snapshot),
        format!("--content-digest={}", contents.content_digest),
        format!("--bytes={}", contents.bytes),
        format!("--files={}", contents.files),
    ];
    arguments.extend(manifest.claims.iter().map(|claim| format!("--claim={claim}")));
    arguments
}

/// Whose objects are applied, and where.
pub(super) fn activate_arguments(manifest: &Manifest, namespace: &str) -> Vec<String> {
    vec![
        format!("--snapshot={}", manifest.contents.snapshot),
        format!("--objects={}", manifest.contents.objects),
        format!("--namespace={namespace}"),
    ]
}

impl Round {
    /// The Job of a task, at the vault of that address; it waits for a person with the key if this site has none.
    pub(super) fn job(
        &self,
        memory: &Memory,
        task: &Task,
        url: &str,
        has_key: bool,
    ) -> Result<Job, RunError> {
        let mut claims: Vec<String> = self.seen.claims.iter().map(ResourceExt::name_any).collect();
        if matches!(task, Task::Activate { .. }) && self.carrying().next().is_some() {
            // What was begun already may have changed files.
            claims.clear();
        }
        let arguments = self.arguments(memory, task, url, &claims);
        let text = serde_json::to_string(task).map_err(RunError::defect)?;
        let attempt = memory.failures;
        let epoch = task.manifest().point.epoch.to_string();
        let id = if attempt == 0 { task.id() } else { format!("{}-try{attempt}", task.id()) };
        Ok(mover(&MoverIntent {
            owner: &self.owner,
            verb: task.verb(),
            id: &id,
            arguments: &arguments,
            task: &text,
            image: &self.context.settings.image,
            pull_policy: &self.context.settings.pull_policy,
            claims: &claims,
            from_snapshots: task.from_snapshots(),
            stamp: Timestamp::now().as_millisecond(),
            // A volume of its own can be wherever there is one.
            node: self.node_in_use().filter(|_| !task.from_snapshots()).as_deref(),
            unseal: (!has_key).then_some(epoch.as_str()),
        }))
    }

    /// The node of a Pod that uses a protected claim: a `ReadWriteOnce` volume can be mounted nowhere else.
    fn node_in_use(&self) -> Option<String> {
        self.carrying().next()?.spec.as_ref()?.node_name.clone()
    }

    fn arguments(&self, memory: &Memory, task: &Task, url: &str, claims: &[String]) -> Vec<String> {
        let manifest = task.manifest();
        let (namespace, name) = (&self.owner.namespace, &self.owner.name);
        let mut arguments = repository_arguments(&self.owner, &manifest.point.epoch, url);
        if let Some(vault) = vault_of(memory, task).filter(|_| !is_ordered(task)) {
            arguments.extend(self.bandwidth(vault));
        }
        let contents = &manifest.contents;
        match task {
            Task::Backup { .. } => {
                arguments.push(format!("--namespace={namespace}"));
                arguments.push(format!("--embassy={name}"));
                let excluded = &self.embassy.spec.protect.objects.exclude;
                arguments
                    .extend(excluded.iter().map(|kind| format!("--exclude={}/{}", kind.group, kind.kind)));
                arguments.extend(claims.iter().map(|claim| format!("--claim={claim}")));
                let way = vault_of(memory, task).and_then(|vault| memory.ways.get(vault));
                let before = way.and_then(|way| way.last(&manifest.point.epoch));
                let base = before.map(|known| &known.manifest.contents.inventory);
                arguments.extend(base.map(|base| format!("--inventory-base={base}")));
                let wrong = vault_of(memory, task).and_then(|vault| self.checked_at(memory, vault));
                let wrong =
                    wrong.map_or_else(Vec::new, |checked| checked.wrong_objects(&manifest.point.epoch));
                arguments.extend(wrong.iter().map(|object| format!("--without={object}")));
            }
            Task::Restore(_) => {
                arguments.extend(restore_arguments(manifest));
                let held = self.held(memory, manifest);
                arguments.push(held.map_or_else(
                    || "--full-compare".to_owned(),
                    |held| format!("--previous={}", held.contents.snapshot),
                ));
                arguments.extend(self.around_damage(memory, held.into_iter().chain([manifest])));
            }
            Task::Activate { .. } => {
                arguments.extend(activate_arguments(manifest, namespace));
                if !claims.is_empty() {
                    arguments.extend([
                        format!("--bytes={}", contents.bytes),
                        format!("--files={}", contents.files),
                    ]);
                    arguments.extend(manifest.claims.iter().map(|claim| format!("--claim={claim}")));
                }
                arguments.extend(self.around_damage(memory, [manifest]));
            }
            Task::Compare { base, .. } => {
                arguments.push(format!("--snapshot={}", contents.snapshot));
                arguments.push(format!("--base={}", base.contents.snapshot));
            }
        }
        arguments
    }

    /// Where the vault is known to have damage in an epoch, its points are read through their inventories only.
    pub(super) fn around_damage<'a>(
        &self,
        memory: &Memory,
        points: impl IntoIterator<Item = &'a Manifest>,
    ) -> Vec<String> {
        let damaged = |manifest: &&Manifest| {
            let checked = self.checked_for(memory, &manifest.point);
            checked.is_some_and(|checked| !checked.wrong_objects(&manifest.point.epoch).is_empty())
        };
        let points: Vec<&Manifest> = points.into_iter().collect();
        if !points.iter().any(damaged) {
            return vec![];
        }
        points.iter().map(|manifest| format!("--inventory={}", manifest.contents.inventory)).collect()
    }

    /// The point that the volumes hold untouched since a restore: only then times and sizes tell what differs. As read
    /// before this restore was recorded, so that one that did not end compares everything.
    fn held<'a>(&self, memory: &'a Memory, target: &Manifest) -> Option<&'a Manifest> {
        let record = self.seen.record.as_ref()?;
        let at = volumes::clean_at(&record.spec.volumes).filter(|_| !record.spec.reclone)?;
        // A snapshot is known by its name in the repository of its epoch and vault only.
        let (vault, known) = memory.committed(&at.point)?;
        let (target_vault, _) = memory.committed(&target.point)?;
        (vault == target_vault && at.point.epoch == target.point.epoch).then_some(&known.manifest)
    }

    /// A limit holds on the way to another site's vault.
    pub(super) fn bandwidth(&self, vault: &str) -> Vec<String> {
        let wanted = self.embassy.spec.replication.bandwidth.as_ref();
        wanted.filter(|_| vault != self.parties.me).map_or_else(Vec::new, |wanted| {
            let during = wanted.during.iter().map(|during| format!("--bandwidth-during={during}"));
            during.chain([format!("--bandwidth={}", wanted.bytes())]).collect()
        })
    }
}

/// Whether a person waits for it, as for the last copy of a switch: then it is not slowed.
fn is_ordered(task: &Task) -> bool {
    matches!(task, Task::Backup { manifest, .. } if manifest.consistency == Consistency::Final)
}
