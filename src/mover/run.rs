//! One run: from arguments to an outcome in the termination log, whatever happens in between.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};

use super::{
    activate::{activate, read_objects},
    arguments::{
        ActivateArguments, Arguments, BackupArguments, CommonArguments, CompareArguments, RestoreArguments,
        VaultArguments, VerbArguments, VerifyArguments,
    },
    backup::{BackupParameters, backup},
    capture::capture,
    compare::{CompareParameters, compare},
    count::assert_whole,
    engine::{Engine, Store, StoreError},
    failure::Failure,
    first_copy, inventory,
    outcome::Outcome,
    restore::{Expected, RestoreParameters, restore},
    unseal,
    verify::{self, verify},
};
use crate::plan::drill::objects::{Rehearsal, rehearsed};
use crate::trust::tls::Material;
use crate::vault::client::{RepositoryClient, Throttle};

/// Runs a verb to its outcome.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    // The engine reports each step; its warnings suffice.
    log::set_max_level(log::LevelFilter::Warn);
    let report = Arc::new(Report::new(arguments.verb.termination_log()));
    if let Err(error) = report.clone().on_termination() {
        tracing::warn!(%error, "a stop of the Pod will not be reported");
    }
    // In a thread of its own, so that even a panic of a library ends in an outcome.
    let done = thread::spawn(move || perform(&arguments.verb)).join();
    let outcome = match done {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(failure)) => Outcome::failed(failure.reason(), &failure.to_string()),
        Err(_) => {
            let failure = Failure::Internal("the mover crashed; its log says where, report it".to_owned());
            Outcome::failed(failure.reason(), &failure.to_string())
        }
    };
    report.finish(&outcome)
}

fn perform(verb: &VerbArguments) -> Result<Outcome, Failure> {
    match verb {
        VerbArguments::Backup(arguments) => run_backup(arguments),
        VerbArguments::Restore(arguments) => run_restore(arguments),
        VerbArguments::Activate(arguments) => run_activate(arguments),
        VerbArguments::Verify(arguments) => run_verify(arguments),
        VerbArguments::Compare(arguments) => run_compare(arguments),
        VerbArguments::FirstCopy(arguments) => first_copy::run(arguments),
    }
}

fn run_backup(arguments: &BackupArguments) -> Result<Outcome, Failure> {
    let common = &arguments.common;
    tracing::info!(embassy = arguments.embassy, namespace = arguments.namespace, "starting a backup");
    let objects = common.scratch.join("objects");
    let object_count = with_cluster(async |client| {
        capture(&client, &arguments.namespace, &arguments.exclude, &objects).await
    })?;
    let (store, key) = repository(common)?;
    let parameters = BackupParameters {
        volumes: common.volumes.clone(),
        claims: arguments.claims.clone(),
        objects: Some(objects),
        object_count,
        inventory_base: arguments.inventory_base.clone(),
    };
    let engine = Engine::open_or_create(store, &key)?;
    let engine = inventory::around(engine, arguments.inventory_base.as_deref(), &arguments.without)?;
    Ok(Outcome::Backup(backup(engine, &parameters)?))
}

fn run_restore(arguments: &RestoreArguments) -> Result<Outcome, Failure> {
    let (store, key) = repository(&arguments.common)?;
    let parameters = RestoreParameters {
        volumes: arguments.common.volumes.clone(),
        claims: arguments.claims.clone(),
        snapshot: arguments.snapshot.clone(),
        expected: Expected {
            content_digest: arguments.content_digest.clone(),
            bytes: arguments.bytes,
            files: arguments.files,
        },
        previous: arguments.previous.clone().filter(|_| !arguments.full_compare),
    };
    let engine = inventory::only(Engine::open(store, &key)?, &arguments.inventories)?;
    Ok(Outcome::Restore(restore(engine, &parameters)?))
}

fn run_activate(arguments: &ActivateArguments) -> Result<Outcome, Failure> {
    assert_whole(&arguments.common.volumes, &arguments.claims, arguments.files, arguments.bytes)?;
    let (store, key) = repository(&arguments.common)?;
    let engine = inventory::only(Engine::open(store, &key)?, &arguments.inventories)?;
    let captured = read_objects(engine, &arguments.snapshot, arguments.objects)?;
    let objects = match &arguments.drill_of {
        None => captured,
        Some(source) => {
            let (target, exclude) = (&arguments.namespace, &arguments.exclude);
            rehearsed(captured, &Rehearsal { source, target, exclude, serve: arguments.serve.as_ref() })
        }
    };
    let done = with_cluster(async |client| activate(&client, &arguments.namespace, objects).await)?;
    Ok(Outcome::Activate(done))
}

fn run_verify(arguments: &VerifyArguments) -> Result<Outcome, Failure> {
    let repository_keys = arguments
        .repository_keys
        .iter()
        .map(|epoch| {
            Ok((epoch.clone(), credential(&arguments.vault, &format!("repository-key-{}", epoch.slug()))?))
        })
        .collect::<Result<_, Failure>>()?;
    let done = verify(&verify::Parameters {
        vault: arguments.vault.url.clone(),
        material: material(&arguments.vault)?,
        namespace: arguments.namespace.clone(),
        embassy: arguments.embassy.clone(),
        keys: arguments.keys.iter().map(|key| (key.site.clone(), key.key.clone())).collect(),
        seen: verify::Seen {
            points: arguments.seen_points.iter().map(|seen| (seen.of.clone(), seen.head.clone())).collect(),
            mail: arguments.seen_mail.iter().map(|seen| (seen.of.clone(), seen.head.clone())).collect(),
        },
        repository_keys,
        depth: arguments.depth,
    })?;
    Ok(Outcome::Verify(Box::new(done)))
}

fn run_compare(arguments: &CompareArguments) -> Result<Outcome, Failure> {
    let (store, key) = repository(&arguments.common)?;
    let parameters = CompareParameters { snapshot: arguments.snapshot.clone(), base: arguments.base.clone() };
    Ok(Outcome::Compare(compare(Engine::open(store, &key)?, &parameters)?))
}

/// The vault's repository and the key to it.
fn repository(common: &CommonArguments) -> Result<(Arc<dyn Store>, String), Failure> {
    let material = material(&common.vault)?;
    let mut client =
        RepositoryClient::new(&common.vault.url, &common.repository, &material).map_err(StoreError::from)?;
    if let Some(limit) = common.bandwidth {
        let hours = common.bandwidth_during.clone();
        let holds = move || hours.as_ref().is_none_or(|hours| hours.contain(Timestamp::now()));
        client = client.with_throttle(Throttle::new(move || holds().then_some(limit)));
    }
    let store: Arc<dyn Store> = Arc::new(client);
    let key = match &common.unseal {
        Some(folder) => unseal::wait(folder, |key| Engine::open(store.clone(), key).map(drop))?,
        None => credential(&common.vault, "repository-key")?,
    };
    Ok((store, key))
}

fn material(vault: &VaultArguments) -> Result<Material, Failure> {
    Ok(Material {
        ca: credential(vault, "ca.crt")?,
        certificate: credential(vault, "tls.crt")?,
        key: credential(vault, "tls.key")?,
    })
}

fn credential(vault: &VaultArguments, name: &str) -> Result<String, Failure> {
    let path = vault.credentials.join(name);
    fs::read_to_string(&path).map_err(|error| {
        Failure::Internal(format!("cannot read {}: {error}; check the Job's Secret", path.display()))
    })
}

/// Runs something that needs the API server of this cluster.
fn with_cluster<T, F>(work: impl FnOnce(Client) -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    runtime()?.block_on(async {
        let client = Client::try_default().await;
        let client = client.map_err(|error| Failure::Internal(format!("found no API server: {error}")))?;
        work(client).await
    })
}

pub(super) fn runtime() -> Result<Runtime, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Internal(format!("cannot start: {error}")))
}

/// The one report of a run; whoever finishes first writes it.
struct Report {
    path: PathBuf,
    written: Mutex<bool>,
}

impl Report {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), written: Mutex::new(false) }
    }

    /// Reports an interruption and ends the process when the Pod is stopped. A restore is continued by the next run.
    fn on_termination(self: Arc<Self>) -> Result<(), Failure> {
        let runtime = runtime()?;
        let entered = runtime.enter();
        let mut stopped = signal(SignalKind::terminate())
            .map_err(|error| Failure::Internal(format!("cannot wait for signals: {error}")))?;
        drop(entered);
        thread::spawn(move || {
            runtime.block_on(stopped.recv());
            let failure = Failure::Interrupted;
            let _ = self.finish(&Outcome::failed(failure.reason(), &failure.to_string()));
            std::process::exit(1);
        });
        Ok(())
    }

    fn finish(&self, outcome: &Outcome) -> ExitCode {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *written, true) {
            tracing::info!(outcome = %serde_json::to_string(outcome).unwrap_or_default(), "finished");
            if let Err(error) = outcome.write(&self.path) {
                tracing::error!(%error, path = %self.path.display(), "cannot write the outcome");
                return ExitCode::FAILURE;
            }
        }
        if outcome.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
