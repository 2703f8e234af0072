//! Copies of snapshots. Their Job is there first, suspended; snapshots are taken, volumes are made of them, then it starts. All of it belongs
//! to the Job and goes with it, so that a restart or a deletion in between leaves nothing.

use std::fmt::Debug;

use futures::{SinkExt, StreamExt, channel::mpsc::Sender};
use k8s_openapi::{NamespaceResourceScope, api::batch::v1::Job, jiff::Timestamp};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{WatchStreamExt, reflector::ObjectRef, watcher},
};
use serde::de::DeserializeOwned;

use super::context::{Context, target};
use super::error::RunError;
use super::memory::{Background, Memory};
use super::movers::credentials;
use super::round::Round;
use crate::act;
use crate::act::snapshots::SnapshotError;
use crate::api::DataEmbassy;
use crate::api::FailoverRecord;
use crate::api::SNAPSHOT_LABEL;
use crate::api::volume_snapshot::{VolumeGroupSnapshot, VolumeSnapshot};
use crate::observe;
use crate::plan::desired::jobs::{Verb, is_unstarted};
use crate::plan::manifest::Manifest;
use crate::plan::snapshots::{Progress, Taken, group, snapshots, unfit_class};
use crate::plan::task::{Source, Task};

/// Waits for news of the snapshots of a Job; ends with this handle.
pub struct Watching {
    job: String,
    _task: Background,
}

impl Watching {
    fn start(context: &Context, job: &Job, source: Source, target: ObjectRef<DataEmbassy>) -> Self {
        let (client, wake) = (context.streams.clone(), context.wake.clone());
        let task = match source {
            Source::GroupSnapshot => {
                tokio::spawn(news::<VolumeGroupSnapshot>(client, job.clone(), wake, target))
            }
            _ => tokio::spawn(news::<VolumeSnapshot>(client, job.clone(), wake, target)),
        };
        Self { job: job.name_any(), _task: Background(task) }
    }
}

async fn news<K>(
    client: Client,
    job: Job,
    mut wake: Sender<ObjectRef<DataEmbassy>>,
    target: ObjectRef<DataEmbassy>,
) where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + 'static,
{
    let of_it = watcher::Config::default().labels(&format!("{SNAPSHOT_LABEL}={}", job.name_any()));
    let api: Api<K> = Api::namespaced(client, &job.namespace().unwrap_or_default());
    let mut news = std::pin::pin!(watcher(api, of_it).default_backoff().touched_objects());
    while let Some(seen) = news.next().await {
        if seen.is_ok() {
            let _ = wake.send(target.clone()).await;
        }
    }
}

/// Whether a Job waits for its snapshots, as its task still asks for.
pub(super) fn waits(job: &Job, record: &FailoverRecord) -> bool {
    is_unstarted(job)
        && Task::of(job).is_some_and(|task| task.from_snapshots() && task.is_current(&record.spec))
}

impl Round {
    /// Why this cluster can take no snapshots for this embassy; none if it can, or if none are wanted.
    pub(super) async fn unfit_for_snapshots(&self) -> Result<Option<String>, RunError> {
        let Some(wanted) = self.embassy.spec.replication.snapshots() else { return Ok(None) };
        let of_groups = wanted.group_class_name.is_some();
        let classes = observe::snapshots::classes(&self.context.client, of_groups).await;
        let Some(classes) =
            classes.map_err(|error| RunError::Cluster("read the classes of snapshots", error))?
        else {
            let kind = if of_groups { "VolumeGroupSnapshots" } else { "VolumeSnapshots" };
            return Ok(Some(format!(
                "this cluster knows no {kind}: install the snapshot controller and their definitions, or set \
                 spec.replication.driver.builtin.copyMethod: Direct"
            )));
        };
        Ok(unfit_class(&wanted, &classes))
    }

    /// What a copy of the running register reads.
    pub(super) fn source(&self) -> Source {
        match self.embassy.spec.replication.snapshots() {
            None => Source::Volumes,
            Some(wanted) if wanted.group_class_name.is_some() => Source::GroupSnapshot,
            Some(_) => Source::Snapshots,
        }
    }

    fn taken<'a>(&'a self, job: &'a Job, manifest: &'a Manifest, source: Source) -> Taken<'a> {
        let (snapshots, groups) = (&self.seen.snapshots, &self.seen.groups);
        Taken { job, claims: &manifest.claims, source, snapshots, groups }
    }

    /// How far the snapshots of a Job are.
    pub(super) fn snapshot_progress(&self, job: &Job, manifest: &Manifest, source: Source) -> Progress {
        let longest = self.embassy.spec.replication.longest_freeze();
        self.taken(job, manifest, source).progress(longest, Timestamp::now())
    }

    /// Asks for the snapshots of a Job that is there, those that are not there yet, and waits for news of them.
    pub(super) async fn take_snapshots(
        &self,
        memory: &mut Memory,
        job: &Job,
        manifest: &Manifest,
        source: Source,
    ) -> Result<(), RunError> {
        if memory.snapshots.as_ref().is_none_or(|watching| watching.job != job.name_any()) {
            memory.snapshots = Some(Watching::start(&self.context, job, source, target(&self.owner)));
        }
        if self.taken(job, manifest, source).are_asked_for() {
            return Ok(());
        }
        match self.ask_for_snapshots(job, manifest, source).await {
            Ok(()) => Ok(()),
            Err(error) => self.give_up(memory, job, error.to_string()).await,
        }
    }

    async fn ask_for_snapshots(
        &self,
        job: &Job,
        manifest: &Manifest,
        source: Source,
    ) -> Result<(), SnapshotError> {
        let client = &self.context.client;
        let wanted = self.embassy.spec.replication.snapshots().unwrap_or_default();
        if let (Source::GroupSnapshot, Some(class)) = (source, &wanted.group_class_name) {
            act::snapshots::gather(client, &self.owner.name, &self.seen.claims).await?;
            return act::snapshots::make(client, &[group(job, &self.owner.name, class)]).await;
        }
        act::snapshots::make(client, &snapshots(job, &manifest.claims, wanted.class_name.as_deref())).await
    }

    /// Takes a copy that waits for its snapshots a step further.
    pub(super) async fn provide_snapshots(
        &self,
        memory: &mut Memory,
        record: &FailoverRecord,
    ) -> Result<(), RunError> {
        let Some(job) = self.seen.jobs.iter().find(|job| waits(job, record)) else {
            memory.snapshots = None;
            return Ok(());
        };
        let Some(task) = Task::of(job) else { return Ok(()) };
        let Task::Backup { manifest, source, .. } = &task else { return Ok(()) };
        match self.snapshot_progress(job, manifest, *source) {
            Progress::Taking | Progress::Taken => self.take_snapshots(memory, job, manifest, *source).await,
            Progress::Failed(why) => self.give_up(memory, job, why).await,
            Progress::Ready => {
                let Some((access, key)) = self.provisions(memory, &task).await? else { return Ok(()) };
                let credentials = credentials(access, key);
                let made = self.taken(job, manifest, *source).volumes(&self.seen.claims);
                if let Err(error) = act::snapshots::make(&self.context.client, &made).await {
                    return self.give_up(memory, job, error.to_string()).await;
                }
                memory.snapshots = None;
                Ok(act::movers::provide(&self.context.client, job, credentials).await?)
            }
        }
    }

    /// Nothing but this copy may depend on what became of its snapshots.
    async fn give_up(&self, memory: &mut Memory, job: &Job, why: String) -> Result<(), RunError> {
        memory.snapshots = None;
        self.failed(memory, Verb::Backup, "SnapshotFailed", why).await;
        Ok(act::movers::remove(&self.context.client, job).await?)
    }
}
