//! Holds the Lease of this site's operator, so that one replica acts at a time.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, api::PostParams};
use tokio::sync::watch;

use crate::plan::lease::{LeaseState, LeaseStep, step};

/// How long a holder may be silent before another replica takes over.
const DURATION: Duration = Duration::from_secs(15);
/// Between renewals.
const RENEWAL: Duration = Duration::from_secs(5);
/// The holder stops acting when it could not renew for so long: before anybody else may take over.
const GIVE_UP: Duration = Duration::from_secs(10);
/// Between looks of a replica that does not hold it.
const CANDIDACY: Duration = Duration::from_secs(1);
const NAME: &str = "data-embassy-controller";

/// Keeps trying to hold the Lease and tells through `held` whether this replica does. Never returns.
pub async fn hold(api: Api<Lease>, me: String, held: watch::Sender<bool>) {
    let mut candidate = Candidate { api, me, seen: None, renewed: None };
    loop {
        // The time of sending counts, not that of the answer: a slow answer must not lengthen the hold.
        let asked = Instant::now();
        match tokio::time::timeout(RENEWAL, candidate.advance()).await {
            Ok(Ok(true)) => candidate.renewed = Some(asked),
            Ok(Ok(false)) => candidate.renewed = None,
            Ok(Err(error)) => tracing::warn!(error = %error, "cannot renew the lease; trying again"),
            Err(_) => tracing::warn!("renewing the lease took too long; trying again"),
        }
        let holds = candidate.renewed.is_some_and(|at| at.elapsed() < GIVE_UP);
        held.send_if_modified(|value| std::mem::replace(value, holds) != holds);
        // A candidate looks more often: after a restart every second without an operator counts.
        let pause = if holds { RENEWAL } else { CANDIDACY };
        tokio::time::sleep(pause.saturating_sub(asked.elapsed())).await;
    }
}

/// Gives the Lease back at the end, so that the next replica need not wait for it to lapse.
pub async fn release(api: &Api<Lease>, me: &str) {
    let Ok(Some(mut lease)) = api.get_opt(NAME).await else { return };
    let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(me)) else {
        return;
    };
    spec.holder_identity = None;
    lease.metadata.managed_fields = None;
    if let Err(error) = api.replace(NAME, &PostParams::default(), &lease).await {
        tracing::debug!(%error, "the lease was not given back; it lapses by itself");
    }
}

struct Candidate {
    api: Api<Lease>,
    me: String,
    /// The resourceVersion seen last, and since when.
    seen: Option<(String, Instant)>,
    renewed: Option<Instant>,
}

impl Candidate {
    /// One look and at most one write; whether this replica holds the Lease afterwards.
    async fn advance(&mut self) -> Result<bool, kube::Error> {
        let found = self.api.get_opt(NAME).await?;
        let state = found.as_ref().map(|lease| self.state(lease));
        let written = match (step(state.as_ref(), &self.me), found) {
            (LeaseStep::Wait, _) => return Ok(false),
            (_, None) => self.api.create(&PostParams::default(), &self.lease(ObjectMeta::default(), 0)).await,
            (taken, Some(lease)) => {
                let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
                let transitions = transitions + i32::from(taken == LeaseStep::Take);
                // The resourceVersion in the metadata makes this a compare-and-swap.
                let lease = self.lease(lease.metadata, transitions);
                self.api.replace(NAME, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn state(&mut self, lease: &Lease) -> LeaseState {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => Instant::now(),
        };
        self.seen = Some((version, since));
        let spec = lease.spec.as_ref();
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|s| u64::try_from(s).ok());
        LeaseState {
            holder: spec.and_then(|spec| spec.holder_identity.clone()),
            duration: seconds.map_or(DURATION, Duration::from_secs),
            unchanged_for: since.elapsed(),
        }
    }

    fn lease(&self, metadata: ObjectMeta, transitions: i32) -> Lease {
        let now = MicroTime(Timestamp::now());
        Lease {
            metadata: ObjectMeta { name: Some(NAME.to_owned()), managed_fields: None, ..metadata },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.me.clone()),
                lease_duration_seconds: Some(15),
                renew_time: Some(now),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }
}
