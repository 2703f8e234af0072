//! The first copy, straight from the volumes into a folder: a Pod beside them reads and encrypts, and what it writes comes here
//! through the API server.

use std::time::{Duration, Instant};

use data_embassy::{
    api::failover_record::Role,
    carry::{
        Progress,
        export::{self, Signer},
        failure::Failure as CarryFailure,
        folder::{Folder, Shelf},
        line::serve,
        list::List,
    },
    mover::outcome::{Outcome, Reason},
    observe::cluster::{mounts, selects},
    plan::desired::{
        Owner,
        first_copy::{CONTAINER, FirstCopyIntent, command, pod},
    },
    run::repository_keys,
    trust::signing::SiteKey,
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::{
    Api, Client, ResourceExt,
    api::{AttachParams, DeleteParams, ListParams, PostParams},
};
use tokio::{runtime::Handle, time::sleep};
use tokio_util::io::SyncIoBridge;

use super::{
    Failure,
    carry::{Sites, shown},
    export::Arguments,
    register::Register,
};

/// Bytes under way in the API server's stream.
const BUFFER: usize = 1 << 20;
/// How long a Pod may take to start or to go.
const PATIENCE: Duration = Duration::from_mins(5);

/// Takes it. The Pod is removed whatever comes of it.
pub async fn take(
    client: &Client,
    arguments: &Arguments,
    sites: &Sites,
    folder: Folder,
    signing: SiteKey,
) -> Result<List, Failure> {
    let register = Register::read(client, &arguments.register).await?;
    if register.record.role != Role::Active || register.record.epoch.site != sites.local {
        return Err(format!(
            "{} does not run {} now, so what its volumes hold is not the register: run this at the site that does",
            sites.local, register.name
        )
        .into());
    }
    let owner = Owner { namespace: register.namespace.clone(), name: register.name.clone() };
    let epoch = register.record.epoch.clone();
    let key = repository_keys::own(&sites.keeper(), &owner, &epoch).await?;
    let shelf = Shelf { namespace: owner.namespace.clone(), embassy: owner.name.clone(), epoch };
    let pods: Api<Pod> = register.api();
    let (wanted, claims) = wanted(client, arguments, &register, &owner).await?;
    let name = wanted.name_any();
    remove(&pods, &name).await?;
    pods.create(&PostParams::default(), &wanted).await?;
    let site = sites.local.clone();
    let taken = async {
        started(&pods, &name).await?;
        let parameters = AttachParams::default()
            .container(CONTAINER)
            .stdin(true)
            .stdout(true)
            .stderr(false)
            .max_stdin_buf_size(BUFFER)
            .max_stdout_buf_size(BUFFER);
        let mut process = pods.exec(&name, command(&claims), &parameters).await?;
        let (from, to) = (process.stdout(), process.stdin());
        let (Some(from), Some(to)) = (from, to) else { return Err("the API server gives no stream".into()) };
        let runtime = Handle::current();
        let from = SyncIoBridge::new_with_handle(from, runtime.clone());
        let to = SyncIoBridge::new_with_handle(to, runtime);
        shown("first copy", move |progress| {
            copy(&folder, &shelf, &key, from, to, (&site, &signing), progress)
        })
        .await
    }
    .await;
    remove(&pods, &name).await?;
    taken
}

fn copy(
    folder: &Folder,
    shelf: &Shelf,
    key: &str,
    from: impl std::io::Read,
    to: impl std::io::Write,
    (site, signing): (&str, &SiteKey),
    progress: &Progress,
) -> Result<List, CarryFailure> {
    export::prepare_first_copy(folder, shelf, progress)?;
    let said = serve(folder, shelf, key, from, to, progress)?;
    match Outcome::parse(&said) {
        Ok(Outcome::Backup(_)) => {}
        // Its pieces are there all the same, and the next copy sends what changed.
        Ok(Outcome::Failed(failed)) if failed.reason == Reason::SourceChanged => {
            eprintln!("note: {}", failed.message);
        }
        Ok(Outcome::Failed(failed)) => return Err(CarryFailure::Mover(failed.message)),
        Ok(_) | Err(_) => {
            return Err(CarryFailure::Mover(format!("it ended with words that mean nothing: {said}")));
        }
    }
    export::first_copy(folder, shelf, &Signer { site, key: signing }, progress)
}

/// The Pod, and the claims that it mounts.
async fn wanted(
    client: &Client,
    arguments: &Arguments,
    register: &Register,
    owner: &Owner,
) -> Result<(Pod, Vec<String>), Failure> {
    let all = ListParams::default();
    let claims = register.api::<PersistentVolumeClaim>().list(&all).await?.items;
    let selector = &register.embassy.spec.protect.volumes.selector;
    let claims: Vec<PersistentVolumeClaim> =
        claims.into_iter().filter(|claim| selects(selector, claim)).collect();
    if claims.is_empty() {
        return Err(format!("{} protects no volume, so there is nothing to carry", register.name).into());
    }
    let pods = register.api::<Pod>().list(&all).await?.items;
    let runs = |pod: &&Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        mounts(pod, &claims) && !matches!(phase, Some("Succeeded" | "Failed"))
    };
    let node = pods.iter().find(runs).and_then(|pod| pod.spec.as_ref()?.node_name.clone());
    let namespace = &arguments.operator_namespace;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let controller = deployments.get("data-embassy-controller").await?;
    let template = controller.spec.and_then(|spec| spec.template.spec);
    let container = template.and_then(|spec| spec.containers.into_iter().next());
    let container = container.ok_or_else(|| format!("the operator in {namespace} has no container"))?;
    let names: Vec<String> = claims.iter().map(ResourceExt::name_any).collect();
    let made = pod(&FirstCopyIntent {
        owner,
        image: container.image.as_deref().unwrap_or_default(),
        pull_policy: container.image_pull_policy.as_deref().unwrap_or("IfNotPresent"),
        claims: &names,
        node: node.as_deref(),
    });
    Ok((made, names))
}

async fn started(pods: &Api<Pod>, name: &str) -> Result<(), Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        let phase = pods.get(name).await?.status.and_then(|status| status.phase).unwrap_or_default();
        match phase.as_str() {
            "Running" => return Ok(()),
            "Succeeded" | "Failed" => {
                return Err(format!("Pod {name} ended before it began: see its events").into());
            }
            _ if Instant::now() > until => {
                return Err(format!("Pod {name} does not start: kubectl describe pod {name} says why").into());
            }
            _ => sleep(Duration::from_millis(500)).await,
        }
    }
}

async fn remove(pods: &Api<Pod>, name: &str) -> Result<(), Failure> {
    match pods.delete(name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let until = Instant::now() + PATIENCE;
    while pods.get_opt(name).await?.is_some() {
        if Instant::now() > until {
            return Err(
                format!("Pod {name} does not go: delete it by hand, and run the same command again").into()
            );
        }
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}
