//! What becomes of an order, for its status: told from the record, so that a restart of the operator loses nothing.

use super::{
    orders::judge,
    view::{Order, View},
};
use crate::api::{
    failover::FailoverPhase,
    failover_record::{FailoverRecordSpec, Role},
};

/// How far an order is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// See `FailoverPhase`.
    pub phase: FailoverPhase,
    /// `PascalCase`, from a closed set.
    pub reason: &'static str,
    /// What happens, and what to do next.
    pub message: String,
}

fn progress(phase: FailoverPhase, reason: &'static str, message: impl Into<String>) -> Progress {
    Progress { phase, reason, message: message.into() }
}

/// How far `order` is at this site.
#[must_use]
pub fn of(view: &View, order: &Order) -> Progress {
    if let Some(progress) = begun(view, order) {
        return progress;
    }
    match judge(view, order) {
        Ok(_) => progress(
            FailoverPhase::Progressing,
            "Preparing",
            "bringing the volumes to the newest copy in reach",
        ),
        Err(refusal) => progress(refusal.phase(), refusal.reason(), refusal.to_string()),
    }
}

/// An order that the record already bears.
fn begun(view: &View, order: &Order) -> Option<Progress> {
    let record: &FailoverRecordSpec = &view.record;
    let epoch = &order.epoch;
    let target = view.document(&epoch.site).filter(|document| document.epoch == *epoch);
    let name = |what: &str| format!("{what} ({epoch})");
    Some(match record.role {
        Role::Active if record.epoch == *epoch => {
            progress(FailoverPhase::Completed, "Active", name("the register runs here"))
        }
        Role::Promoting if record.epoch == *epoch => {
            progress(FailoverPhase::Progressing, "Starting", name("starting the register here"))
        }
        Role::Demoting if record.intent.as_ref() == Some(epoch) => progress(
            FailoverPhase::Progressing,
            "HandingOver",
            "stopping the register here and copying it to the last byte",
        ),
        Role::Demoted if record.intent.as_ref() == Some(epoch) => progress(
            FailoverPhase::Progressing,
            "HandedOver",
            format!("waiting for {} to take over from {}", epoch.site, handover(record)),
        ),
        Role::Demoted if record.abort.as_ref() == Some(epoch) => progress(
            FailoverPhase::Progressing,
            "AskingBack",
            format!("waiting for {} to let the switch pass", given_to(record)),
        ),
        _ => match target?.role {
            Role::Active => {
                progress(FailoverPhase::Completed, "Active", format!("the register runs in {}", epoch.site))
            }
            _ => progress(FailoverPhase::Progressing, "Starting", format!("{} is taking over", epoch.site)),
        },
    })
}

fn given_to(record: &FailoverRecordSpec) -> &str {
    record.intent.as_ref().map_or("the other site", |intent| intent.site.as_str())
}

fn handover(record: &FailoverRecordSpec) -> String {
    record.handover.as_ref().map_or_else(String::new, |point| format!("recovery point {}", point.point))
}
