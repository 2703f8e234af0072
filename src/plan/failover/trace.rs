//! What an operator did and what it stood on, as one line of its log: enough to decide it again, elsewhere and later.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Action, View};
use crate::api::failover_record::{DataPoint, FailoverRecordSpec};

/// One step of one site.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trace {
    /// `namespace/name` of the `DataEmbassy`.
    pub embassy: String,
    /// What the decision stood on; none for what no view led to.
    pub view: Option<View>,
    /// SHA-256 of the view's JSON.
    pub digest: String,
    /// What was done.
    pub did: Did,
}

/// A step, after it was done or, for an act that takes long, when it was begun.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Did {
    /// Wrote the first record.
    Begin(Box<FailoverRecordSpec>),
    /// Took over what its own mail says, since that was ahead of the record.
    Adopt(Box<FailoverRecordSpec>),
    /// Wrote the record with a new revision.
    Write(Box<FailoverRecordSpec>),
    /// Let nothing run.
    Fence,
    /// Ran the register.
    Start,
    /// Brought the volumes to that point.
    Restore {
        /// The target.
        point: DataPoint,
        /// Whether what the volumes held was given up.
        discard: bool,
    },
    /// Made a point of the volumes.
    Backup {
        /// The site in whose direction.
        towards: String,
    },
}

impl Did {
    /// The act of a decision; none for one that writes or waits.
    #[must_use]
    pub fn act(action: &Action) -> Option<Self> {
        match action {
            Action::Fence => Some(Self::Fence),
            Action::Start => Some(Self::Start),
            Action::Restore { point, discard } => {
                Some(Self::Restore { point: point.data.clone(), discard: *discard })
            }
            Action::Backup(towards) => Some(Self::Backup { towards: towards.clone() }),
            Action::Nothing | Action::Wait(_) | Action::Write(..) | Action::Note(_) => None,
        }
    }

    /// In one word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Begin(_) => "Begin",
            Self::Adopt(_) => "Adopt",
            Self::Write(_) => "Write",
            Self::Fence => "Fence",
            Self::Start => "Start",
            Self::Restore { .. } => "Restore",
            Self::Backup { .. } => "Backup",
        }
    }

    /// The record that it wrote.
    #[must_use]
    pub const fn record(&self) -> Option<&FailoverRecordSpec> {
        match self {
            Self::Begin(record) | Self::Adopt(record) | Self::Write(record) => Some(record),
            _ => None,
        }
    }
}

impl Trace {
    /// The trace of a step.
    #[must_use]
    pub fn of(embassy: String, view: Option<&View>, did: Did) -> Self {
        let view = view.map(|view| View { record: brief(&view.record), ..view.clone() });
        let digest = digest(view.as_ref());
        let did = match did {
            Did::Begin(record) => Did::Begin(Box::new(brief(&record))),
            Did::Adopt(record) => Did::Adopt(Box::new(brief(&record))),
            Did::Write(record) => Did::Write(Box::new(brief(&record))),
            act => act,
        };
        Self { embassy, view, digest, did }
    }

    /// As it stands in the log.
    #[must_use]
    pub fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether the digest is that of the view.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.digest == digest(self.view.as_ref())
    }
}

/// Without the history and the hooks' commands, on which no decision stands.
#[must_use]
pub fn brief(record: &FailoverRecordSpec) -> FailoverRecordSpec {
    FailoverRecordSpec { history: vec![], freeze: None, ..record.clone() }
}

fn digest(view: Option<&View>) -> String {
    let text = view.and_then(|view| serde_json::to_string(view).ok()).unwrap_or_default();
    hex::encode(Sha256::digest(text))
}
