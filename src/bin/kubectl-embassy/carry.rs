//! What export, import and check share: whose keys count, how the vault is reached, how far it is.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use data_embassy::{
    api::{Site, site::VaultAccess, size},
    carry::{Progress, failure::Failure as CarryFailure, way::Way},
    run::keeper::{self, Access, Keeper},
    trust::{
        authorities::Authorities,
        identity::Role,
        signing::{PublicKey, SiteKey},
        tls::{Forward, Material},
    },
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::ListParams};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
};

use super::{Failure, invite};

/// Where the vault listens in its Pod.
const VAULT_PORT: u16 = 8443;
/// How long the certificates live that an import issues to itself. It can be run again.
const LIFE: Duration = Duration::from_hours(24);
/// Between two lines about how far it is.
const EVERY: Duration = Duration::from_secs(5);

/// The site that this cluster is, and all whose keys it knows.
pub struct Sites {
    client: Client,
    operator_namespace: String,
    /// Its name.
    pub local: String,
    /// Pinned signing keys.
    pub keys: BTreeMap<String, PublicKey>,
    vaults: BTreeMap<String, VaultAccess>,
}

impl Sites {
    /// Reads the Sites.
    pub async fn read(client: &Client, operator_namespace: &str) -> Result<Self, Failure> {
        let local = invite::local_site(client).await?.name_any();
        let sites = Api::<Site>::all(client.clone()).list(&ListParams::default()).await?.items;
        let pinned = |site: &Site| {
            let status = site.status.as_ref().and_then(|status| status.public_key.as_ref());
            site.spec.public_key.as_ref().or(status)?.parse().ok()
        };
        let keys = sites.iter().filter_map(|site| Some((site.name_any(), pinned(site)?))).collect();
        let vaults =
            sites.iter().filter_map(|site| Some((site.name_any(), site.spec.vault.clone()?))).collect();
        let operator_namespace = operator_namespace.to_owned();
        Ok(Self { client: client.clone(), operator_namespace, local, keys, vaults })
    }

    /// This site's signing key.
    pub async fn signing_key(&self) -> Result<SiteKey, Failure> {
        let secret = self.keeper().get(keeper::SITE_KEYS).await?;
        let secret = secret.ok_or_else(|| {
            format!(
                "there is no Secret {} in {}: name the operator's namespace with --operator-namespace",
                keeper::SITE_KEYS,
                self.operator_namespace
            )
        })?;
        Ok(SiteKey::from_pem(&keeper::field(&secret, keeper::SITE_KEYS, "signing.pem")?)?)
    }

    /// The Secrets of the operator's namespace.
    pub fn keeper(&self) -> Keeper {
        Keeper::new(&self.client, &self.operator_namespace, &self.local, None)
    }

    /// The vault that is meant: the named one, else this site's own, else the only other one.
    pub async fn vault(&self, named: Option<&str>) -> Result<String, Failure> {
        if let Some(named) = named {
            if named != self.local && !self.vaults.contains_key(named) {
                return Err(
                    format!("--vault {named}: this cluster has no Site {named} with spec.vault").into()
                );
            }
            return Ok(named.to_owned());
        }
        if self.keeper().get(keeper::AUTHORITY).await?.is_some() {
            return Ok(self.local.clone());
        }
        let mut others = self.vaults.keys();
        match (others.next(), others.next()) {
            (Some(only), None) => Ok(only.clone()),
            (None, _) => Err(format!(
                "{} has no vault and knows none: apply an invitation first (docs/install.md)",
                self.local
            )
            .into()),
            (Some(_), Some(_)) => {
                let all = self.vaults.keys().cloned().collect::<Vec<_>>().join(", ");
                Err(format!("which vault? Name one of {all} with --vault").into())
            }
        }
    }

    /// The way to a vault, to read there or to write as `author`. At this site's own vault it issues itself certificates of the
    /// author's name, as an invitation would.
    pub async fn way(&self, vault: &str, author: Option<&str>) -> Result<Way, Failure> {
        let runtime = Handle::current();
        if vault != self.local {
            if let Some(author) = author.filter(|author| *author != self.local) {
                return Err(format!(
                    "{vault} takes what {author} wrote from {author} only, and this is {}: run the import in {author}'s or in \
                     {vault}'s cluster",
                    self.local
                )
                .into());
            }
            let known = &self.vaults[vault];
            let keeper = self.keeper();
            let secret = &known.client_tls_secret_ref.name;
            let access = keeper.access(secret, vault, &known.url, &known.ca_bundle).await?;
            let Access { url, operator, mover } = access;
            return Ok(Way { url, operator, mover, forward: None, runtime });
        }
        let authorities = invite::authorities(&self.client, &self.operator_namespace).await?;
        let author = author.unwrap_or(&self.local);
        let forward = forward(&self.client, &self.operator_namespace).await?;
        Ok(Way {
            url: format!("https://{}:{}", forward.host, forward.address.port()),
            operator: issued(&authorities, author, Role::Operator)?,
            mover: issued(&authorities, author, Role::Mover)?,
            forward: Some(forward),
            runtime,
        })
    }
}

fn issued(authorities: &Authorities, site: &str, role: Role) -> Result<Material, Failure> {
    let issued = authorities.issuing.issue_client_for(site, role, LIFE)?;
    Ok(Material {
        ca: authorities.bundle(),
        certificate: issued.certificate_pem,
        key: issued.key_pem.to_string(),
    })
}

/// A local port that leads into the vault's Pod, for as long as this program runs.
async fn forward(client: &Client, namespace: &str) -> Result<Forward, Failure> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let selector = "app.kubernetes.io/name=data-embassy,app.kubernetes.io/component=vault";
    let running = "status.phase=Running";
    let found = pods.list(&ListParams::default().labels(selector).fields(running)).await?.items;
    if found.is_empty() {
        return Err(format!("the vault does not run in {namespace}: kubectl -n {namespace} get pods").into());
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let pods = pods.clone();
            tokio::spawn(async move {
                if let Err(error) = carry_over(&pods, selector, connection).await {
                    eprintln!("a connection to the vault's Pod broke: {error}");
                }
            });
        }
    });
    Ok(Forward { host: format!("data-embassy-vault.{namespace}.svc"), address })
}

/// One connection; the Pod is looked up anew, since it may be another one by now.
async fn carry_over(pods: &Api<Pod>, selector: &str, mut connection: TcpStream) -> Result<(), Failure> {
    let running = ListParams::default().labels(selector).fields("status.phase=Running");
    let found = pods.list(&running).await?.items;
    let pod = found.first().ok_or("the vault does not run")?.name_any();
    let mut forwarder = pods.portforward(&pod, &[VAULT_PORT]).await?;
    let mut stream = forwarder.take_stream(VAULT_PORT).ok_or("the API server forwards no port")?;
    // How a connection ends says nothing: each request has its own answer.
    let _ = tokio::io::copy_bidirectional(&mut connection, &mut stream).await;
    Ok(())
}

/// Runs blocking work beside the runtime, and says how far it is.
pub async fn shown<T: Send + 'static>(
    what: &str,
    work: impl FnOnce(&Progress) -> Result<T, CarryFailure> + Send + 'static,
) -> Result<T, Failure> {
    let progress = Arc::new(Progress::default());
    let seen = progress.clone();
    let mut work = tokio::task::spawn_blocking(move || work(&progress));
    let mut said = String::new();
    loop {
        tokio::select! {
            done = &mut work => return Ok(done.map_err(|error| error.to_string())??),
            () = tokio::time::sleep(EVERY) => {
                let line = line(&seen);
                if line != said {
                    eprintln!("{what}: {line}");
                }
                said = line;
            }
        }
    }
}

fn line(progress: &Progress) -> String {
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (files, size) = (read(&progress.files), bytes(read(&progress.bytes)));
    let moved = bytes(read(&progress.moved));
    match read(&progress.all_files) {
        0 => format!("{files} files, {size}; {moved} over the line"),
        all => {
            format!(
                "{files} of {all} files, {size} of {}; {moved} over the line",
                bytes(read(&progress.all_bytes))
            )
        }
    }
}

/// As people read it.
pub fn bytes(bytes: u64) -> String {
    size::format(i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// What a list has, in words.
pub fn told(list: &data_embassy::carry::list::List) -> String {
    let what = match &list.point {
        Some(point) => format!("recovery points of {} up to {point}", list.shelf().whose()),
        None => format!("a first copy of {} for epoch {}", list.shelf().whose(), list.epoch),
    };
    format!("{what}: {} files, {}", list.files.len(), bytes(list.files.iter().map(|file| file.size).sum()))
}
