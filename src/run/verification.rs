//! The verification of this site's own vault on schedule, and the durable memory of how far it went.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::{ByteString, api::batch::v1::Job, jiff::Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::RunError;
use super::keeper::field;
use super::memory::Memory;
use super::movers::ended;
use super::repository_keys;
use super::round::{Round, pinned_key};
use crate::act;
use crate::api::epoch::{Epoch, PointRef};
use crate::api::replication::Depth;
use crate::mover::outcome::Outcome;
use crate::mover::outcome::VerifyDone;
use crate::plan::desired::Owner;
use crate::plan::desired::jobs::MoverIntent;
use crate::plan::desired::jobs::Verb;
use crate::plan::desired::jobs::mover;
use crate::plan::schedule;
use crate::plan::task::VERIFICATION;
use crate::plan::verification::Checked;
use crate::trust::chain::ChainHead;

/// What was damaged is looked at again so soon, whatever the schedule says: somebody may have mended it.
const AGAIN: Duration = Duration::from_hours(1);
/// As if copies were due every so often: how retries after a failure slow down.
const PACE: Duration = Duration::from_hours(1);
const FIELD: &str = "seen";

/// What is kept in memory of the verification of one embassy.
#[derive(Debug, Default)]
pub struct Verification {
    remembered: Option<Remembered>,
    failures: u32,
    retry_at: Option<Instant>,
    /// Why the last one did not end.
    pub trouble: Option<String>,
}

/// What is kept durably, in a Secret of the operator's namespace and so out of the vault's hands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Remembered {
    /// The last manifest of each epoch that was verified.
    points: BTreeMap<Epoch, ChainHead>,
    /// The last letter of each site that was verified.
    mail: BTreeMap<String, ChainHead>,
    /// The last result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<Checked>,
}

/// Name of the Secret: embassies of any name and namespace stay apart.
fn secret_name(owner: &Owner) -> String {
    let digest = Sha256::digest(format!("{}/{}", owner.namespace, owner.name).as_bytes());
    format!("data-embassy-seen-{}", hex::encode(&digest[..8]))
}

impl Round {
    /// Whether this site keeps a vault: then it is verified here.
    fn keeps_vault(&self) -> bool {
        !self.parties.at_home()
    }

    /// What a schedule may depend on.
    #[must_use]
    pub fn whose(&self) -> String {
        format!("{}/{}", self.owner.namespace, self.owner.name)
    }

    /// The last verification of a vault, done here or reported by its site.
    #[must_use]
    pub fn checked_at<'a>(&self, memory: &'a Memory, vault: &str) -> Option<&'a Checked> {
        self.embassy.spec.replication.verification.as_ref()?;
        if vault == self.parties.me {
            memory.verification.remembered.as_ref()?.last.as_ref()
        } else {
            memory.report(&self.parties, vault)?.verification.as_ref()
        }
    }

    /// The last verification of the vault that holds a point. One that this process never read was written to the only vault.
    #[must_use]
    pub fn checked_for<'a>(&self, memory: &'a Memory, point: &PointRef) -> Option<&'a Checked> {
        let vaults = self.parties.vaults();
        let only = vaults.first().filter(|_| vaults.len() == 1).map(String::as_str);
        let vault = memory.committed(point).map(|(vault, _)| vault).or(only)?;
        self.checked_at(memory, vault)
    }

    /// The verification that matters most: one that found damage, or else the one that is longest ago.
    #[must_use]
    pub fn checked<'a>(&self, memory: &'a Memory) -> Option<&'a Checked> {
        let vaults = self.parties.vaults();
        let all = vaults.iter().filter_map(|vault| self.checked_at(memory, vault));
        all.min_by_key(|checked| (checked.is_sound(), checked.time.0))
    }

    /// Whether the newest point of all is damaged at its vault.
    #[must_use]
    pub fn newest_is_damaged(&self, memory: &Memory) -> bool {
        let newest = memory.newest(|_| true).map(|manifest| &manifest.point);
        newest
            .is_some_and(|point| self.checked_for(memory, point).is_some_and(|checked| checked.costs(point)))
    }

    /// Reads what verifications found, and begins one when it is due.
    pub async fn verify_vault(&self, memory: &mut Memory) -> Result<(), RunError> {
        if !self.keeps_vault() {
            return Ok(());
        }
        let Some(wanted) = &self.embassy.spec.replication.verification else {
            for job in &self.seen.verifications {
                act::movers::remove(&self.context.client, job).await?;
            }
            return Ok(());
        };
        if memory.verification.remembered.is_none() {
            memory.verification.remembered = Some(self.remembered().await?);
        }
        for job in self.seen.verifications.iter().filter(|job| ended(job)) {
            match self.outcome(job) {
                Ok(Outcome::Verify(done)) => self.conclude_verification(memory, *done).await?,
                Ok(Outcome::Failed(failed)) => {
                    self.verification_failed(memory, failed.reason.as_str(), failed.message).await;
                }
                Ok(_) => {}
                Err(message) => self.verification_failed(memory, "Interrupted", message).await,
            }
            act::movers::remove(&self.context.client, job).await?;
        }
        let idle = self.seen.verifications.is_empty()
            && self.reaches(&self.parties.me)
            && !self.embassy.spec.suspend;
        if idle && self.verification_due_in(memory).is_some_and(|due| due.is_zero()) {
            self.start_verification(memory, wanted.depth).await?;
        }
        Ok(())
    }

    /// When the next one is due; none if there is nothing to verify, or no schedule that can be read.
    #[must_use]
    pub fn verification_due_in(&self, memory: &Memory) -> Option<Duration> {
        let wanted = self.embassy.spec.replication.verification.as_ref().filter(|_| self.keeps_vault())?;
        let now = Timestamp::now();
        let next = |after| schedule::next_of(&wanted.schedule, &self.whose(), after).ok();
        next(now)?;
        let remembered = memory.verification.remembered.as_ref()?;
        if memory.points().next().is_none() && remembered.points.is_empty() {
            return None;
        }
        let due = match &remembered.last {
            None => Duration::ZERO,
            Some(last) => {
                let until =
                    |moment: Timestamp| Duration::try_from(moment.duration_since(now)).unwrap_or_default();
                let scheduled = until(next(last.time.0)?);
                let again = schedule::due_in(Some(last.time.0), now, AGAIN);
                if last.is_sound() { scheduled } else { scheduled.min(again) }
            }
        };
        let retry = memory.verification.retry_at.map(|at| at.saturating_duration_since(Instant::now()));
        Some(due.max(retry.unwrap_or_default()))
    }

    async fn remembered(&self) -> Result<Remembered, RunError> {
        let name = secret_name(&self.owner);
        let Some(secret) = self.context.keeper.get(&name).await? else { return Ok(Remembered::default()) };
        let text = field(&secret, &name, FIELD)?;
        serde_json::from_str(&text).map_err(|error| {
            RunError::again(&format!(
                "Secret {name} cannot be read ({error}): it remembers what was verified before. Restore it from its \
                 backup; if that is lost, delete it, and a vault that was taken back in time is not noticed this once"
            ))
        })
    }

    async fn conclude_verification(&self, memory: &mut Memory, done: VerifyDone) -> Result<(), RunError> {
        let VerifyDone { checked, points, mail } = done;
        let mut remembered = memory.verification.remembered.clone().unwrap_or_default();
        let was_sound = remembered.last.as_ref().is_none_or(Checked::is_sound);
        remembered.points.extend(points);
        remembered.mail.extend(mail);
        remembered.last = Some(checked.clone());
        let text = serde_json::to_string(&remembered).map_err(RunError::defect)?;
        self.context
            .keeper
            .put(&secret_name(&self.owner), BTreeMap::from([(FIELD.to_owned(), text)]))
            .await?;
        tracing::info!(
            namespace = self.owner.namespace, name = self.owner.name, depth = %checked.depth,
            files = checked.files, bytes = checked.bytes, points = checked.points,
            damaged = checked.damaged_files, "vault verified"
        );
        match (checked.is_sound(), was_sound) {
            (false, _) => {
                let first = checked.damage.first().map_or_else(String::new, ToString::to_string);
                let note =
                    format!("{} files of the vault are damaged, the first: {first}", checked.damaged_files);
                self.event(true, "Damaged", "Verify", &note).await;
            }
            (true, false) => {
                let note = "nothing is damaged any more: all files of the vault are what was signed";
                self.event(false, "ReadBack", "Verify", note).await;
            }
            (true, true) => {}
        }
        memory.verification = Verification { remembered: Some(remembered), ..Verification::default() };
        Ok(())
    }

    async fn verification_failed(&self, memory: &mut Memory, reason: &str, message: String) {
        let state = &mut memory.verification;
        state.failures += 1;
        state.retry_at = Some(Instant::now() + schedule::retry_after(state.failures, PACE));
        tracing::warn!(
            namespace = self.owner.namespace,
            name = self.owner.name,
            reason,
            message,
            "verification failed"
        );
        self.context.metrics.failure(&self.owner, reason);
        self.event(true, reason, "Verify", &format!("verification failed: {message}")).await;
        state.trouble = Some(message);
    }

    async fn start_verification(&self, memory: &Memory, depth: Depth) -> Result<(), RunError> {
        let access = self.links.get(&self.parties.me).and_then(|link| link.access.as_ref());
        let Some(access) = access else { return Ok(()) };
        let mut credentials = BTreeMap::from([
            ("ca.crt".to_owned(), access.mover.ca.clone()),
            ("tls.crt".to_owned(), access.mover.certificate.clone()),
            ("tls.key".to_owned(), access.mover.key.clone()),
        ]);
        let mut arguments = vec![
            format!("--vault={}", access.url),
            format!("--namespace={}", self.owner.namespace),
            format!("--embassy={}", self.owner.name),
            format!("--depth={depth}"),
            format!("--key={}={}", self.parties.me, self.context.keys().await.signing.public()),
        ];
        // Only home and this site ever write to this vault.
        let home = pinned_key(self.sites.get(&self.parties.home));
        arguments.extend(home.map(|key| format!("--key={}={key}", self.parties.home)));
        let seen = self.seen_so_far(memory);
        let of = |whose: &dyn std::fmt::Display, head: &ChainHead| {
            format!("{whose}={}:{}", head.sequence, head.digest)
        };
        arguments.extend(seen.points.iter().map(|(epoch, head)| format!("--seen-point={}", of(epoch, head))));
        arguments.extend(seen.mail.iter().map(|(site, head)| format!("--seen-mail={}", of(site, head))));
        if depth == Depth::Deep {
            for epoch in seen.points.keys() {
                if let Some(key) = repository_keys::find(&self.context.keeper, &self.owner, epoch).await? {
                    arguments.push(format!("--repository-key={epoch}"));
                    credentials.insert(format!("repository-key-{}", epoch.slug()), key);
                }
            }
        }
        let job = self.verification_job(&arguments);
        tracing::info!(namespace = self.owner.namespace, name = self.owner.name, %depth, "verification started");
        let credentials =
            credentials.into_iter().map(|(name, value)| (name, ByteString(value.into_bytes()))).collect();
        Ok(act::movers::start(&self.context.client, &job, credentials).await?)
    }

    fn verification_job(&self, arguments: &[String]) -> Job {
        mover(&MoverIntent {
            owner: &self.owner,
            verb: Verb::Verify,
            id: &Timestamp::now().as_second().to_string(),
            arguments,
            task: VERIFICATION,
            image: &self.context.settings.image,
            pull_policy: &self.context.settings.pull_policy,
            claims: &[],
            from_snapshots: false,
            stamp: Timestamp::now().as_millisecond(),
            node: None,
            unseal: None,
        })
    }

    /// The farthest that this operator ever saw: what it remembers durably, and what it read since it started.
    fn seen_so_far(&self, memory: &Memory) -> Remembered {
        let mut seen = memory.verification.remembered.clone().unwrap_or_default();
        let Some(way) = memory.ways.get(&self.parties.me) else { return seen };
        for (point, committed) in &way.points {
            let head = ChainHead { sequence: point.sequence, digest: committed.digest.clone() };
            further(&mut seen.points, point.epoch.clone(), head);
        }
        for (site, mailbox) in [(&self.parties.me, &way.own), (&self.parties.home, &way.met)] {
            let head = mailbox.as_ref().map(|mailbox| mailbox.head.clone()).filter(|head| head.sequence > 0);
            if let Some(head) = head {
                further(&mut seen.mail, site.clone(), head);
            }
        }
        seen
    }
}

fn further<K: Ord>(seen: &mut BTreeMap<K, ChainHead>, of: K, head: ChainHead) {
    match seen.get(&of) {
        Some(known) if known.sequence >= head.sequence => {}
        _ => drop(seen.insert(of, head)),
    }
}
