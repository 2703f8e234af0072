//! `data-embassy controller`: speaks for one site.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use clap::Args;
use futures::{Stream, StreamExt, channel::mpsc};
use k8s_openapi::api::{
    batch::v1::Job,
    coordination::v1::Lease,
    core::v1::{Node, Pod},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        Controller, Predicate, PredicateConfig, WatchStreamExt,
        controller::Action,
        predicates,
        reflector::{self, ObjectRef},
        watcher,
    },
};
use prometheus_client::registry::Registry;
use tokio::sync::{Mutex, RwLock, watch};

use super::context::{Context, Settings};
use super::drill_leftovers;
use super::embassy;
use super::error::RunError;
use super::health::{self, Health};
use super::hold_leftovers;
use super::keeper::Keeper;
use super::lease;
use super::memory::Background;
use super::metrics::Metrics;
use super::sites;
use super::telemetry::LogFormat;
use crate::api::DataEmbassy;
use crate::api::Drill;
use crate::api::EMBASSY_LABEL;
use crate::api::Failover;
use crate::api::FailoverRecord;
use crate::api::duration;
use crate::cluster::Cluster;
use crate::cluster::ClusterError;

/// Arguments of the controller.
#[derive(Args, Debug, Clone)]
pub struct Arguments {
    /// The Site that this cluster is.
    #[arg(long)]
    pub site: String,
    /// Between reports that say nothing new, such as 30s.
    #[arg(long, default_value = "30s", value_parser = duration::parse)]
    pub report_interval: Duration,
    /// How log lines are written.
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Image of the mover, usually the operator's own.
    #[arg(long)]
    pub image: String,
    /// Pull policy of that image.
    #[arg(long, default_value = "IfNotPresent")]
    pub image_pull_policy: String,
    /// What stands behind `svc` in the names of this cluster's Services.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Where the vault of this site is reached from within the cluster; without it the site is no embassy.
    #[arg(long)]
    pub vault_url: Option<String>,
    /// A name or an address under which other sites reach the vault of this site.
    #[arg(long = "vault-host")]
    pub vault_hosts: Vec<String>,
    /// Where the probes and Prometheus ask.
    #[arg(long, default_value = "[::]:8080")]
    pub health_listen: SocketAddr,
    /// The operator's own namespace.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Name of this replica.
    #[arg(long, env = "POD_NAME")]
    pub pod: String,
}

/// Why the controller cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// No cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The probes cannot be served.
    #[error("cannot serve the probes: {0}")]
    Health(#[from] std::io::Error),
    /// Another replica took over.
    #[error("another replica holds the lease now: this one ends and starts again as a candidate")]
    LeaseLost,
}

/// Runs until `shutdown` ends.
pub async fn run(
    arguments: Arguments,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ControllerError> {
    let health = Health::new(vec!["keys", "lease"]);
    let (metrics, mut registry) = (Metrics::default(), Registry::default());
    metrics.register(&mut registry);
    let served = health::serve(arguments.health_listen, health.clone(), registry, std::future::pending());
    let cluster = Cluster::infer().await?;
    let leases: Api<Lease> = Api::namespaced(cluster.calls.clone(), &arguments.namespace);
    let me = arguments.pod.clone();
    let ended = tokio::select! {
        () = shutdown => Ok(()),
        ended = served => Ok(ended?),
        ended = work(arguments, cluster, metrics, health) => ended,
    };
    // Whatever was under way has ended: the next replica may act at once.
    let _ = tokio::time::timeout(Duration::from_secs(3), lease::release(&leases, &me)).await;
    ended
}

async fn work(
    arguments: Arguments,
    cluster: Cluster,
    metrics: Metrics,
    health: Health,
) -> Result<(), ControllerError> {
    let keeper = keeper(&arguments, &cluster);
    let keys = loop {
        health.beat();
        match keeper.keys().await {
            Ok(keys) => break keys,
            Err(error) => tracing::warn!(%error, "no keys yet; trying again"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    health.is_ready("keys");
    let (held, mut holds) = watch::channel(false);
    let leases: Api<Lease> = Api::namespaced(cluster.calls.clone(), &arguments.namespace);
    // The renewals end with whatever ends the work.
    let holding = Background(tokio::spawn(lease::hold(leases, arguments.pod.clone(), held)));
    // A candidate is ready too: it must not hold up a rolling update.
    health.is_ready("lease");
    while !*holds.borrow_and_update() {
        health.beat();
        let _ = tokio::time::timeout(Duration::from_secs(5), holds.changed()).await;
    }
    tracing::info!(site = arguments.site, "holds the lease: speaking for this site");
    let (wake, woken) = mpsc::channel(256);
    let context = Arc::new(Context {
        client: cluster.calls.clone(),
        streams: cluster.watches.clone(),
        settings: Settings {
            site: arguments.site,
            namespace: arguments.namespace,
            report_interval: arguments.report_interval,
            image: arguments.image,
            cluster_domain: arguments.cluster_domain.clone(),
            pull_policy: arguments.image_pull_policy,
        },
        keeper,
        keys: RwLock::new(Arc::new(keys)),
        memories: Mutex::new(HashMap::new()),
        introductions: Mutex::new(BTreeMap::new()),
        wake,
        renewals: super::renewal::Renewals::default(),
        metrics,
    });
    let lost = async {
        while *holds.borrow_and_update() {
            let _ = holds.changed().await;
        }
    };
    let result = tokio::select! {
        () = lost => Err(ControllerError::LeaseLost),
        () = look_after_sites(Arc::clone(&context), health.clone()) => Ok(()),
        () = reconcile_embassies(context, &cluster, woken) => Ok(()),
    };
    drop(holding);
    result
}

fn keeper(arguments: &Arguments, cluster: &Cluster) -> Keeper {
    let vault = arguments.vault_url.clone().map(|url| {
        let host = url.trim_start_matches("https://").split(':').next().unwrap_or_default().to_owned();
        let mut hosts = vec![host];
        hosts.extend(arguments.vault_hosts.iter().cloned());
        (url, hosts)
    });
    Keeper::new(&cluster.calls, &arguments.namespace, &arguments.site, vault)
}

/// Sites and the site's own certificates, again and again.
async fn look_after_sites(context: Arc<Context>, health: Health) {
    let mut renewed = (Instant::now(), SystemTime::now());
    loop {
        health.beat();
        if renewal_is_due(renewed.0.elapsed(), renewed.1.elapsed().ok()) {
            match context.keeper.keys().await {
                Ok(keys) => *context.keys.write().await = Arc::new(keys),
                Err(error) => tracing::warn!(%error, "cannot renew certificates; trying again"),
            }
            renewed = (Instant::now(), SystemTime::now());
        }
        if let Err(error) = sites::look(&context).await {
            tracing::warn!(%error, "cannot look after the sites; trying again");
        }
        if let Err(error) = drill_leftovers::remove(&context).await {
            tracing::warn!(%error, "cannot look for what is left of drills; trying again");
        }
        if let Err(error) = hold_leftovers::let_go(&context).await {
            tracing::warn!(%error, "cannot look for writers that hold still; trying again");
        }
        tokio::time::sleep(pause(&context).await).await;
    }
}

/// Every hour, and at once when the clock was set: certificates from before may be over, or not begun.
fn renewal_is_due(since: Duration, by_clock: Option<Duration>) -> bool {
    let jumped = by_clock.is_none_or(|by_clock| by_clock.abs_diff(since) > Duration::from_mins(1));
    since > Duration::from_hours(1) || jumped
}

/// A site that waits for its first contact looks more often.
async fn pause(context: &Context) -> Duration {
    let waiting = context
        .sites()
        .await
        .is_ok_and(|sites| sites.values().any(|site| super::round::pinned_key(Some(site)).is_none()));
    if waiting { Duration::from_secs(2) } else { sites::INTERVAL.min(context.settings.report_interval) }
}

async fn reconcile_embassies(
    context: Arc<Context>,
    cluster: &Cluster,
    woken: mpsc::Receiver<ObjectRef<DataEmbassy>>,
) {
    let client = &cluster.watches;
    let (store, writer) = reflector::store();
    let embassies = watcher(Api::<DataEmbassy>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        // Our own status is no news to us.
        .predicate_filter(
            predicates::generation.combine(predicates::annotations),
            PredicateConfig::default(),
        );
    let by_namespace = {
        let store = store.clone();
        move |namespace: Option<String>| {
            let all = store.state();
            let of_it = all.iter().filter(|embassy| embassy.namespace() == namespace);
            of_it.map(|embassy| ObjectRef::from_obj(embassy.as_ref())).collect::<Vec<_>>()
        }
    };
    let everyone = {
        let store = store.clone();
        move || store.state().iter().map(|embassy| ObjectRef::from_obj(embassy.as_ref())).collect::<Vec<_>>()
    };
    let all = watcher::Config::default();
    let ours = watcher::Config::default().labels(EMBASSY_LABEL);
    let (order, record, drill) = (by_namespace.clone(), by_namespace.clone(), by_namespace.clone());
    let (job, pod) = (by_namespace.clone(), by_namespace);
    let settings = kube::runtime::controller::Config::default();
    Controller::for_stream(embassies, store)
        .watches_stream(touched::<Failover>(client, all.clone()), move |o| order(o.namespace()))
        .watches_stream(touched::<FailoverRecord>(client, all.clone()), move |o| record(o.namespace()))
        .watches_stream(touched::<Drill>(client, all.clone()), move |o| drill(o.namespace()))
        .watches_stream(touched::<Job>(client, ours), move |o| job(o.namespace()))
        .watches_stream(touched::<Pod>(client, all.clone()), move |o| pod(o.namespace()))
        .watches_stream(touched::<Node>(client, all), move |_| everyone())
        .reconcile_on(woken)
        .with_config(settings.debounce(Duration::from_millis(100)).concurrency(8))
        .run(reconcile, on_error, context)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "reconcile");
            }
        })
        .await;
}

/// Metadata of what changed, deletions included; watches only say when to look.
fn touched<K>(
    client: &Client,
    config: watcher::Config,
) -> impl Stream<Item = Result<PartialObjectMeta<K>, watcher::Error>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    watcher(Api::<PartialObjectMeta<K>>::all(client.clone()), config).default_backoff().touched_objects()
}

async fn reconcile(embassy: Arc<DataEmbassy>, context: Arc<Context>) -> Result<Action, RunError> {
    // The copy that a watch brought may be old; decisions stand on what is.
    let namespace = embassy.namespace().unwrap_or_default();
    let api: Api<DataEmbassy> = Api::namespaced(context.client.clone(), &namespace);
    let live =
        api.get_opt(&embassy.name_any()).await.map_err(|e| RunError::Cluster("read the DataEmbassy", e))?;
    let Some(live) = live else { return Ok(Action::await_change()) };
    let next = Box::pin(embassy::reconcile(Arc::new(live), context)).await?;
    Ok(Action::requeue(next))
}

#[allow(clippy::needless_pass_by_value)] // the controller's signature
fn on_error(embassy: Arc<DataEmbassy>, error: &RunError, context: Arc<Context>) -> Action {
    if !matches!(error, RunError::Conflict) {
        context.metrics.errors.inc();
        let namespace = embassy.namespace().unwrap_or_default();
        tracing::warn!(namespace, name = embassy.name_any(), %error, "reconcile failed; trying again");
    }
    Action::requeue(error.delay())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_looked_at_every_hour_and_when_the_clock_was_set() {
        let (minute, hour, year) =
            (Duration::from_mins(1), Duration::from_hours(1), Duration::from_hours(8760));
        assert!(!renewal_is_due(minute, Some(minute)));
        assert!(renewal_is_due(hour + minute, Some(hour + minute)));
        assert!(renewal_is_due(minute, Some(year)), "set forward");
        assert!(renewal_is_due(minute, None), "set back");
    }
}
