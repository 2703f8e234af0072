//! Copies of snapshots. Their Job is there first, suspended; snapshots are taken, volumes are made of them, then it starts. All of it belongs
//! to the Job and goes with it, so that a restart or a deletion in between leaves nothing.

use futures::{SinkExt, StreamExt};
use k8s_openapi::{api::batch::v1::Job, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, reflector::ObjectRef, watcher},
};
use tokio::task::JoinHandle;

use super::context::Context;
use super::error::RunError;
use super::memory::Memory;
use super::movers::credentials;
use super::round::Round;
use crate::act;
use crate::api::DataEmbassy;
use crate::api::FailoverRecord;
use crate::api::SNAPSHOT_LABEL;
use crate::api::volume_snapshot::VolumeSnapshot;
use crate::observe;
use crate::plan::desired::jobs::{Verb, is_unstarted};
use crate::plan::manifest::Manifest;
use crate::plan::snapshots::{Progress, progress, snapshots, unfit_class, volumes};
use crate::plan::task::Task;

/// Waits for news of the snapshots of a Job; ends with this handle.
pub struct Watching {
    job: String,
    task: JoinHandle<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watching {
    fn start(context: &Context, job: &Job, target: ObjectRef<DataEmbassy>) -> Self {
        let (job, mut wake) = (job.clone(), context.wake.clone());
        let name = job.name_any();
        let news = news(context.streams.clone(), &job);
        let task = tokio::spawn(async move {
            let mut news = std::pin::pin!(news);
            while let Some(seen) = news.next().await {
                if seen.is_ok() {
                    let _ = wake.send(target.clone()).await;
                }
            }
        });
        Self { job: name, task }
    }
}

fn news(
    client: Client,
    job: &Job,
) -> impl futures::Stream<Item = Result<VolumeSnapshot, watcher::Error>> + Send + use<> {
    let of_it = watcher::Config::default().labels(&format!("{SNAPSHOT_LABEL}={}", job.name_any()));
    let api: Api<VolumeSnapshot> = Api::namespaced(client, &job.namespace().unwrap_or_default());
    watcher(api, of_it).default_backoff().touched_objects()
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
        let classes = observe::snapshots::classes(&self.context.client).await;
        let Some(classes) = classes.map_err(|error| RunError::Cluster("read VolumeSnapshotClasses", error))?
        else {
            return Ok(Some(
                "this cluster knows no VolumeSnapshots: install the snapshot controller and its definitions, or \
                 set spec.replication.driver.builtin.copyMethod: Direct"
                    .to_owned(),
            ));
        };
        let known = classes.iter().map(|it| (it.name.as_str(), it.is_default, it.deletion_policy.as_str()));
        Ok(unfit_class(wanted.class_name.as_deref(), known))
    }

    /// How far the snapshots of a Job are.
    pub(super) fn snapshot_progress(&self, job: &Job, manifest: &Manifest) -> Progress {
        let longest = self.embassy.spec.replication.longest_freeze();
        progress(job, &manifest.claims, &self.seen.snapshots, longest, Timestamp::now())
    }

    /// Asks for the snapshots of a Job that is there.
    pub(super) async fn take_snapshots(
        &self,
        memory: &mut Memory,
        job: &Job,
        manifest: &Manifest,
    ) -> Result<(), RunError> {
        if memory.snapshots.as_ref().is_none_or(|watching| watching.job != job.name_any()) {
            let target = ObjectRef::new(&self.owner.name).within(&self.owner.namespace);
            memory.snapshots = Some(Watching::start(&self.context, job, target));
        }
        let class = self.embassy.spec.replication.snapshots().and_then(|wanted| wanted.class_name);
        let wanted = snapshots(job, &manifest.claims, class.as_deref());
        match act::snapshots::make(&self.context.client, &wanted).await {
            Ok(()) => Ok(()),
            Err(error) => self.give_up(memory, job, error.to_string()).await,
        }
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
        let manifest = task.manifest();
        match self.snapshot_progress(job, manifest) {
            Progress::Taking | Progress::Taken => self.take_snapshots(memory, job, manifest).await,
            Progress::Failed(why) => self.give_up(memory, job, why).await,
            Progress::Ready => {
                let Some((access, key)) = self.provisions(memory, &task).await? else { return Ok(()) };
                let credentials = credentials(access, key);
                let made = volumes(job, &manifest.claims, &self.seen.claims, &self.seen.snapshots);
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
