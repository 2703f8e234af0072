//! Why an order has no effect: each refusal has one name, one reason, one message.

use crate::api::{epoch::Epoch, failover::FailoverPhase};

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The record knows an epoch at least as high.
    #[error(
        "epoch {order} is not above {top}, which this site already knows: it has no effect, now or ever. For a new order take epoch {next}"
    )]
    Superseded {
        /// Of the order.
        order: Epoch,
        /// Of the record.
        top: Epoch,
        /// The number to take.
        next: i64,
    },
    /// No site of the `DataEmbassy`.
    #[error("spec.to names {to}, which is none of {me} and {others}: name one of these")]
    UnknownSite {
        /// What it names.
        to: String,
        /// This site.
        me: String,
        /// The other ones.
        others: String,
    },
    /// A forced order at the site that it does not name.
    #[error(
        "a forced order takes effect at the site that shall take over: apply it in {to}, not here in {me}"
    )]
    WrongSite {
        /// Where it belongs.
        to: String,
        /// Where it is.
        me: String,
    },
    /// A planned order at a site that has no role to give.
    #[error(
        "a planned order takes effect at the active site, and this one is {role}: apply it {place}, or force the takeover at the target if that site is down"
    )]
    NotActive {
        /// Role here.
        role: &'static str,
        /// Where the register runs, as far as is known here.
        place: String,
    },
    /// The register runs here already.
    #[error("the register runs at this site already: nothing to do")]
    AlreadyActive,
    /// The order was made on older knowledge.
    #[error(
        "the order names ticket {named}, but this site is at {current}: something happened since. Look at kubectl embassy status, and order again with the current ticket if it is still right"
    )]
    TicketStale {
        /// In the order.
        named: String,
        /// Of the record.
        current: String,
    },
    /// What a person attests is not what the other site last said.
    #[error(
        "the order attests that {peer} is fenced, but its last report does not say so: fence it there first (annotation dataembassy.io/fence: \"true\"), or attest PoweredOff if it is off"
    )]
    AttestationContradicted {
        /// The other site.
        peer: String,
    },
    /// More would be lost than the limit.
    #[error(
        "the newest copy here is {age} old, more than the limit of {limit}: set spec.maxDataLoss in the order if losing that much is right"
    )]
    DataLossExceeded {
        /// Age of the copy.
        age: String,
        /// The limit.
        limit: String,
    },
    /// Mail that is in reach was not read yet.
    #[error("reading the mail to its end first; this takes seconds")]
    MailUnread,
    /// The volumes are not whole and nothing in reach can make them whole.
    #[error(
        "the volumes here hold no complete copy and no recovery point is in reach: bring the vault back, or start from another copy. Nothing empty or partial is served"
    )]
    Incomplete,
    /// A planned order needs the other site.
    #[error(
        "{peer} has not reported lately: a planned switch needs both sites. Restore the link, and order again when kubectl embassy status shows its reports"
    )]
    PeerSilent {
        /// The other site.
        peer: String,
    },
    /// Two embassies: neither reads the other's recovery points.
    #[error(
        "this site and {to} share no vault, so nothing can be handed over between them: move the role home first, and from there to {to}"
    )]
    NoCommonVault {
        /// The other embassy.
        to: String,
    },
    /// The other site is not ready to take over.
    #[error("{peer} is {role}{held}, not a free Standby: see its own status, and order again when it is")]
    TargetNotReady {
        /// The other site.
        peer: String,
        /// Its role.
        role: &'static str,
        /// `, held` or nothing.
        held: &'static str,
    },
    /// The other site's operator could not read the handover.
    #[error(
        "{peer} runs an older version of this operator, which could not read the handover: upgrade it first, then order again"
    )]
    OlderVersion {
        /// The other site.
        peer: String,
    },
    /// This site is held.
    #[error(
        "this site is held by a fence and hands nothing over: lift the fence first (kubectl embassy status says which), then order again"
    )]
    Held,
    /// A person keeps this site fenced.
    #[error(
        "the annotation dataembassy.io/fence of the DataEmbassy still says \"true\": set it to \"lift\" first, so that the order does not contradict it"
    )]
    FenceStands,
    /// The `DataEmbassy` is suspended.
    #[error("the DataEmbassy is suspended: set spec.suspend: false, and the order goes on")]
    Suspended,
}

impl Refusal {
    /// For `status.reason`.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Superseded { .. } => "Superseded",
            Self::UnknownSite { .. } => "UnknownSite",
            Self::WrongSite { .. } => "WrongSite",
            Self::NotActive { .. } => "NotActive",
            Self::AlreadyActive => "AlreadyActive",
            Self::TicketStale { .. } => "TicketStale",
            Self::AttestationContradicted { .. } => "AttestationContradicted",
            Self::DataLossExceeded { .. } => "DataLossExceeded",
            Self::MailUnread => "MailUnread",
            Self::Incomplete => "Incomplete",
            Self::PeerSilent { .. } => "PeerSilent",
            Self::NoCommonVault { .. } => "NoCommonVault",
            Self::TargetNotReady { .. } => "TargetNotReady",
            Self::OlderVersion { .. } => "OlderVersion",
            Self::Held => "Held",
            Self::FenceStands => "FenceStands",
            Self::Suspended => "Suspended",
        }
    }

    /// Whether the order is over or only waits.
    #[must_use]
    pub const fn phase(&self) -> FailoverPhase {
        match self {
            Self::Superseded { .. } => FailoverPhase::Superseded,
            // What waits for these is under way, or was asked for while a person holds everything. All else is over: an
            // order that nobody remembers must not take effect when a link heals a week later.
            Self::MailUnread | Self::Incomplete | Self::Suspended => FailoverPhase::Pending,
            _ => FailoverPhase::Rejected,
        }
    }
}
