//! An order: written with the right epoch and ticket, judged before it is given, followed to its end.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use data_embassy::api::{
    Failover,
    failover::{Attestation, FailoverKind, FailoverPhase, FailoverSpec, PeerState},
};
use kube::{Api, ResourceExt, api::PostParams};

use super::{
    Failure,
    follow::{Step, follow},
    register::{Register, patiently},
    verdict,
};

/// What a person attests with a forced order.
#[derive(Args)]
pub struct AttestationArguments {
    /// Forced: what is known of the other site.
    #[arg(long, value_enum, default_value_t = Peer::PoweredOff)]
    peer: Peer,
    /// Forced: who says so.
    #[arg(long)]
    by: Option<String>,
    /// Forced: why it is so.
    #[arg(long)]
    reason: Option<String>,
}

#[derive(ValueEnum, Clone, Copy)]
enum Peer {
    /// It is off, and stays off until it can reach the vault.
    PoweredOff,
    /// A person fenced it, and its fence is complete.
    Fenced,
}

impl AttestationArguments {
    /// As in the order; both words must be given.
    pub fn given(&self) -> Result<Attestation, Failure> {
        let (Some(by), Some(reason)) = (&self.by, &self.reason) else {
            return Err(
                "only a person can know that the other site does not run: say who you are with --by, and why it is \
                 so with --reason"
                    .into(),
            );
        };
        let peer = match self.peer {
            Peer::PoweredOff => PeerState::PoweredOff,
            Peer::Fenced => PeerState::Fenced,
        };
        Ok(Attestation { peer, by: by.clone(), reason: reason.clone() })
    }
}

/// What a forced order says more than a planned one.
pub struct Force {
    /// What is attested.
    pub attestation: Attestation,
    /// The newest copy may be this old.
    pub max_data_loss: Option<String>,
}

/// The order that moves the role to `to`, above all that any site is known to know. A forced one leaves a number free, so that
/// a planned one that nobody knows of here cannot tie with it.
pub fn order(register: &Register, to: &str, force: Option<Force>) -> Failover {
    let forced = force.is_some();
    let number = register.highest_number().saturating_add(if forced { 2 } else { 1 });
    let word = if forced { "forced" } else { "planned" };
    let (attestation, max_data_loss) =
        force.map_or((None, None), |force| (Some(force.attestation), force.max_data_loss));
    let mut order = Failover::new(
        &format!("{}-{word}-{number}", register.name),
        FailoverSpec {
            embassy: register.name.clone(),
            to: to.to_owned(),
            epoch: number,
            mode: if forced { FailoverKind::Forced } else { FailoverKind::Planned },
            acknowledge_data_loss: forced.then_some(true),
            attestation,
            ticket: forced.then(|| register.record.ticket()),
            max_data_loss,
        },
    );
    order.metadata.namespace = Some(register.namespace.clone());
    order
}

/// Refuses what the operator here would reject, in its own words and before anything is written.
pub fn check(register: &Register, order: &Failover) -> Result<(), Failure> {
    verdict::of(register, order).map_err(|refusal| format!("nothing was done: {refusal}").into())
}

/// Writes the order and follows it.
pub async fn give(register: &Register, order: &Failover) -> Result<ExitCode, Failure> {
    let orders: Api<Failover> = register.api();
    let name = order.name_any();
    match patiently(async || orders.create(&PostParams::default(), order).await).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            return Err(format!(
                "order {name} exists already: see kubectl -n {} get failover {name}. Delete it if it has ended, then \
                 order again",
                register.namespace
            )
            .into());
        }
        Err(error) => return Err(error.into()),
    }
    println!("order {name} written; it goes on without this command (kubectl get failovers)");
    follow(async || step(&orders, &name).await).await
}

async fn step(orders: &Api<Failover>, name: &str) -> Result<Step, Failure> {
    let status = orders.get(name).await?.status.unwrap_or_default();
    let Some(phase) = status.phase else {
        return Ok(Step::Going("waiting for the operator here to read the order".to_owned()));
    };
    let text = format!("{phase:?}: {}", status.message.unwrap_or_default());
    Ok(match phase {
        FailoverPhase::Completed => {
            Step::Done(format!("{text}; data lost: {}", status.data_loss.as_deref().unwrap_or("none")))
        }
        FailoverPhase::Rejected | FailoverPhase::Superseded => Step::Failed(text),
        FailoverPhase::Pending | FailoverPhase::Progressing => Step::Going(text),
    })
}
