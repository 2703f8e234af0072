//! The vault's server: a dumb, append-only store in a folder or a bucket, behind mutual TLS. It knows no cluster and no key.

mod about;
mod bucket;
mod certificates;
mod clock;
mod completeness;
mod condemned;
mod connections;
mod directory;
mod disk;
mod dispatch;
mod embassy;
mod health;
mod housekeeping;
mod ledger;
mod mail;
mod metrics;
mod needs;
mod patience;
mod points;
mod policies;
mod protection;
mod refusal;
mod repository;
mod rights;
mod route;
mod store;
mod sweep;
mod thinnings;
mod upload;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

/// What reads the words of a peer, for the fuzzer.
#[cfg(fuzzing)]
pub mod words {
    pub use super::{completeness::inventory_of, repository::range, route::Route};
}

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::duration;
use crate::trust::{identity::is_site_name, tls::TlsError};

use bucket::Bucket;
use clock::Clock;
use directory::Directory;
use embassy::Embassies;
use metrics::Metrics;
use policies::Policies;
use store::Store;

pub use bucket::BucketArguments;

/// How the vault runs.
#[derive(clap::Args, Debug, Clone)]
pub struct Arguments {
    /// The site that the vault belongs to.
    #[arg(long, env = "SITE")]
    pub site: String,
    /// Folder of the store. One vault at a time.
    #[arg(long)]
    pub root: PathBuf,
    /// Instead of the folder.
    #[command(flatten)]
    pub bucket: BucketArguments,
    /// Folder with `tls.crt`, `tls.key`, `ca.crt` (authorities of the clients) and optionally `site.pub` and
    /// `recipient`. Read again when they change.
    #[arg(long)]
    pub tls: PathBuf,
    /// Address of the vault itself.
    #[arg(long, default_value = "[::]:8443")]
    pub listen: SocketAddr,
    /// Address of `/livez`, `/readyz` and `/metrics`, without TLS.
    #[arg(long, default_value = "[::]:8080")]
    pub health_listen: SocketAddr,
    /// More connections wait until one ends.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_connections: u16,
    /// Largest object of a repository.
    #[arg(long, default_value_t = 512 << 20)]
    pub max_object_bytes: u64,
    /// Nothing younger is freed, whatever the owner's order says: `7d`.
    #[arg(long, default_value = "7d", value_parser = duration::parse)]
    pub immutable_for: Duration,
    /// How often bytes are looked for that may be freed. What may go is announced one round before.
    #[arg(long, default_value = "1d", value_parser = duration::parse)]
    pub sweep_every: Duration,
}

/// Why the vault does not run.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// `--site` is no site's name.
    #[error(
        "--site '{0}' is no site name: at most 40 characters of a-z, 0-9 and '-', beginning with a letter"
    )]
    SiteName(String),
    /// The store is unusable.
    #[error("the store in {} cannot be used: {source}", root.display())]
    Store {
        /// Its folder.
        root: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// Another vault runs on the same folder.
    #[error("another vault uses {}: two would overwrite each other's letters, so stop that one first", .0.display())]
    InUse(PathBuf),
    /// The bucket cannot be used.
    #[error("{0}")]
    Bucket(String),
    /// What is in the bucket can be deleted.
    #[error(
        "bucket '{bucket}' does not keep what it is given: {why}. Give it Object Lock with a default retention in mode COMPLIANCE, or \
         accept that whoever has its keys can delete every recovery point: --accept-unlocked-bucket, value vault.bucket.acceptUnlocked"
    )]
    Unlocked {
        /// The bucket.
        bucket: String,
        /// What it lacks.
        why: String,
    },
    /// A file of `--tls` cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The files of `--tls` do not work.
    #[error("the certificates in {} do not work: {source}", folder.display())]
    Tls {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: TlsError,
    },
    /// An address is taken.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// What all requests share.
pub struct Vault {
    site: String,
    tls: PathBuf,
    max_object: u64,
    store: Arc<dyn Store>,
    /// So long, in seconds, a pack is condemned before it is freed.
    grace: i64,
    embassies: Embassies,
    policies: Policies,
    clock: Clock,
    metrics: Metrics,
    /// Ends waiting for letters.
    stopping: CancellationToken,
}

impl Vault {
    fn open(arguments: &Arguments, metrics: Metrics) -> Result<Self, VaultError> {
        if !is_site_name(&arguments.site) {
            return Err(VaultError::SiteName(arguments.site.clone()));
        }
        let store: Arc<dyn Store> = match &arguments.bucket.bucket {
            None => Arc::new(Directory::open(&arguments.root)?),
            Some(name) => {
                let least = arguments.immutable_for;
                Arc::new(Bucket::open(name, &arguments.bucket, least, &arguments.root)?)
            }
        };
        let failed = |source| match &arguments.bucket.bucket {
            None => VaultError::Store { root: arguments.root.clone(), source },
            Some(name) => VaultError::Bucket(format!("bucket '{name}' cannot be used: {source}")),
        };
        Ok(Self {
            site: arguments.site.clone(),
            tls: arguments.tls.clone(),
            max_object: arguments.max_object_bytes,
            grace: housekeeping::seconds(arguments.sweep_every),
            embassies: Embassies::load(Arc::clone(&store), &metrics).map_err(failed)?,
            policies: Policies::load(Arc::clone(&store)).map_err(failed)?,
            clock: Clock::open(Arc::clone(&store)).map_err(failed)?,
            store,
            metrics,
            stopping: CancellationToken::new(),
        })
    }
}

/// A vault that listens, but does not answer yet.
pub struct Server {
    arguments: Arguments,
    listener: TcpListener,
    health: health::Health,
    metrics: Metrics,
    /// Where the vault listens.
    pub address: SocketAddr,
    /// Where health and metrics are served, from now on.
    pub health_address: SocketAddr,
}

impl Server {
    /// Listens, and serves `/livez` at once: counting a large store takes longer than a probe waits.
    pub async fn bind(arguments: Arguments) -> Result<Self, VaultError> {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let listener = listen(arguments.listen).await?;
        let address = local_address(&listener, arguments.listen)?;
        let plain = listen(arguments.health_listen).await?;
        let health_address = local_address(&plain, arguments.health_listen)?;
        let health = health::Health::start(plain, registry);
        Ok(Self { arguments, listener, health, metrics, address, health_address })
    }

    /// Serves until `shutdown` ends, then finishes the requests that are under way.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), VaultError> {
        let tls = certificates::watch(&self.arguments.tls).await?;
        let (arguments, metrics) = (self.arguments.clone(), self.metrics);
        let opened = tokio::task::spawn_blocking(move || Vault::open(&arguments, metrics)).await;
        let vault = opened.map_err(|error| VaultError::Store {
            root: self.arguments.root.clone(),
            source: io::Error::other(error),
        })??;
        self.health.ready();
        tracing::info!(site = vault.site, address = %self.address, "the vault is open");
        let limit = usize::from(self.arguments.max_connections);
        let vault = Arc::new(vault);
        let Arguments { sweep_every, immutable_for, .. } = self.arguments;
        tokio::spawn(housekeeping::keep(Arc::clone(&vault), sweep_every, immutable_for));
        connections::accept(vault, self.listener, tls.configuration(), limit, shutdown).await;
        Ok(())
    }
}

/// Runs a vault until `shutdown` ends.
pub async fn serve(
    arguments: Arguments,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), VaultError> {
    Server::bind(arguments).await?.run(shutdown).await
}

async fn listen(address: SocketAddr) -> Result<TcpListener, VaultError> {
    TcpListener::bind(address).await.map_err(|source| VaultError::Listen { address, source })
}

fn local_address(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, VaultError> {
    listener.local_addr().map_err(|source| VaultError::Listen { address, source })
}
