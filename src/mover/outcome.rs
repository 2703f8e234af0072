//! What a mover run reports to the operator: one line of JSON in the Pod's termination log.

use std::{cmp::Reverse, collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::verify::Seen;
use crate::api::epoch::Epoch;
use crate::plan::manifest::Contents;
use crate::plan::verification::{Checked, narrow};
use crate::trust::chain::ChainHead;

/// Longest failure message, in bytes; the kubelet keeps 4096 bytes of a termination log.
const LONGEST_MESSAGE: usize = 1500;
/// Longest result of a verification, in bytes.
const LONGEST_RESULT: usize = 3900;
/// Most damaged files that a result names.
const MOST_DAMAGE: usize = 8;
/// Most ranges of points.
const MOST_RANGES: usize = 16;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// A snapshot was written; it counts once its manifest is published.
    Backup(BackupDone),
    /// The volumes hold what the snapshot holds, on disk.
    Restore(RestoreDone),
    /// The captured objects are applied.
    Activate(ActivateDone),
    /// Everything was read; what is wrong is named.
    Verify(Box<VerifyDone>),
    /// What one snapshot holds that an earlier one does not.
    Compare(CompareDone),
    /// Nothing may be concluded but this.
    Failed(Failed),
}

/// Facts about a new snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupDone {
    /// Its id.
    pub snapshot: String,
    /// Id of its tree.
    pub tree: String,
    /// Bytes of all files; a file with several hard links counts once.
    pub bytes: u64,
    /// Number of names of regular files.
    pub files: u64,
    /// Number of captured objects.
    pub objects: u64,
    /// Digest over the volumes, the same for their exact copies.
    pub content_digest: String,
    /// Name of its inventory in the repository.
    pub inventory: String,
    /// Bytes sent to the vault.
    pub uploaded_bytes: u64,
}

impl From<BackupDone> for Contents {
    fn from(done: BackupDone) -> Self {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        Self {
            snapshot: done.snapshot,
            bytes: number(done.bytes),
            files: number(done.files),
            objects: number(done.objects),
            content_digest: done.content_digest,
            inventory: done.inventory,
        }
    }
}

/// Facts about a finished restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreDone {
    /// Bytes of all files, as in the backup.
    pub bytes: u64,
    /// Number of names of regular files.
    pub files: u64,
    /// Bytes that differed and were written.
    pub written_bytes: u64,
    /// Digest of what was restored.
    pub content_digest: String,
}

/// Facts about a finished activation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActivateDone {
    /// Number of applied objects.
    pub applied: u64,
}

/// Facts about a finished verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyDone {
    /// What was found.
    pub checked: Checked,
    /// How far each sound chain of manifests goes now, where it goes further than before.
    pub points: BTreeMap<Epoch, ChainHead>,
    /// How far each sound chain of letters goes now, where it goes further than before.
    pub mail: BTreeMap<String, ChainHead>,
}

impl VerifyDone {
    /// Cut to what a termination log holds: fewer named files (the log has all), wider ranges of points, and heads that are
    /// left for the next time.
    #[must_use]
    pub fn fitting(mut self, seen: &Seen) -> Self {
        self.points.retain(|epoch, head| seen.points.get(epoch) != Some(head));
        self.mail.retain(|site, head| seen.mail.get(site) != Some(head));
        let checked = &mut self.checked;
        if checked.damage.len() > MOST_DAMAGE {
            // What the newest points need is named first: the next copy must not build on it.
            checked.damage.sort_by_key(|damage| Reverse(damage.newest()));
        }
        checked.damage.truncate(MOST_DAMAGE);
        checked.damage.iter_mut().for_each(|damage| narrow(&mut damage.points, 2));
        narrow(&mut checked.affected, MOST_RANGES);
        let too_long = |done: &Self| serde_json::to_vec(done).is_ok_and(|text| text.len() > LONGEST_RESULT);
        while too_long(&self) && self.shorten() {}
        self
    }

    /// Leaves something out; says whether there was anything.
    fn shorten(&mut self) -> bool {
        let checked = &mut self.checked;
        if checked.damage.len() > 1 {
            return checked.damage.pop().is_some();
        }
        if self.points.pop_first().is_some() {
            return true;
        }
        // The oldest epochs change least.
        let shortened = checked.reached.len() > 1;
        if shortened {
            checked.reached.remove(0);
        }
        shortened
    }
}

/// What a snapshot holds that an earlier one does not. Directories do not count by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompareDone {
    /// Files that the earlier one has not.
    pub added: u64,
    /// Files with another content or another owner, mode or time.
    pub changed: u64,
    /// Files that only the earlier one has.
    pub removed: u64,
    /// Bytes of the chunks that are not where they were.
    pub bytes: u64,
    /// When the first of the added and changed files was written, in seconds of Unix time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<i64>,
    /// When the last of them was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<i64>,
    /// Names of some of them, with their claim before them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// For machines.
    pub reason: Reason,
    /// For people: what happened and what to do.
    pub message: String,
}

/// The closed set of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// A file or directory of a volume cannot be read.
    UnreadableFile,
    /// A file shrank, vanished or was replaced while it was read.
    SourceChanged,
    /// The vault does not answer.
    VaultUnreachable,
    /// The vault refuses.
    VaultRefused,
    /// The vault's quota for this repository is used up.
    QuotaExceeded,
    /// The repository key does not fit the repository.
    KeyInvalid,
    /// The repository lacks data or holds wrong data.
    RepositoryDamaged,
    /// The snapshot is not what the manifest says.
    ManifestMismatch,
    /// The volumes hold less than the manifest says.
    VolumesIncomplete,
    /// A protected claim is not mounted.
    VolumeMissing,
    /// A volume is too small.
    VolumeFull,
    /// Objects of the namespace cannot be read.
    CaptureForbidden,
    /// The cluster refuses captured objects.
    ObjectRefused,
    /// The Pod was stopped.
    Interrupted,
    /// Anything else.
    Internal,
}

impl Reason {
    /// As in the outcome.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnreadableFile => "UnreadableFile",
            Self::SourceChanged => "SourceChanged",
            Self::VaultUnreachable => "VaultUnreachable",
            Self::VaultRefused => "VaultRefused",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::KeyInvalid => "KeyInvalid",
            Self::RepositoryDamaged => "RepositoryDamaged",
            Self::ManifestMismatch => "ManifestMismatch",
            Self::VolumesIncomplete => "VolumesIncomplete",
            Self::VolumeMissing => "VolumeMissing",
            Self::VolumeFull => "VolumeFull",
            Self::CaptureForbidden => "CaptureForbidden",
            Self::ObjectRefused => "ObjectRefused",
            Self::Interrupted => "Interrupted",
            Self::Internal => "Internal",
        }
    }
}

/// A termination log that is no outcome.
#[derive(Debug, thiserror::Error)]
#[error(
    "the mover's termination log is not an outcome ({0}): it was killed, or is of another version; look at its log"
)]
pub struct OutcomeError(#[from] serde_json::Error);

impl Outcome {
    /// A failure, cut to what a termination log holds.
    #[must_use]
    pub fn failed(reason: Reason, message: &str) -> Self {
        // A control character would take six bytes once escaped.
        let mut message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if message.len() > LONGEST_MESSAGE {
            let end =
                (0..=LONGEST_MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or_default();
            message.truncate(end);
        }
        Self::Failed(Failed { reason, message })
    }

    /// Reads a termination log.
    ///
    /// # Examples
    ///
    /// ```
    /// use data_embassy::mover::outcome::Outcome;
    ///
    /// let read = Outcome::parse(r#"{"activate":{"applied":3}}"#).unwrap();
    /// assert!(matches!(read, Outcome::Activate(done) if done.applied == 3));
    /// ```
    pub fn parse(text: &str) -> Result<Self, OutcomeError> {
        Ok(serde_json::from_str(text.trim())?)
    }

    /// Whether the run did what it was asked.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }

    /// Writes the termination log. The file exists in a Pod and is not replaced, since it is a mount.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, serde_json::to_string(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_read_back() {
        let outcomes = [
            Outcome::Backup(BackupDone {
                snapshot: "a".to_owned(),
                tree: "b".to_owned(),
                bytes: 1,
                files: 2,
                objects: 3,
                content_digest: "c".to_owned(),
                inventory: "d".to_owned(),
                uploaded_bytes: 4,
            }),
            Outcome::Restore(RestoreDone {
                bytes: 1,
                files: 2,
                written_bytes: 3,
                content_digest: "c".to_owned(),
            }),
            Outcome::Activate(ActivateDone { applied: 1 }),
            Outcome::Compare(CompareDone { added: 1, oldest: Some(5), ..CompareDone::default() }),
            Outcome::failed(Reason::VolumeFull, "no space"),
        ];
        for outcome in outcomes {
            let text = serde_json::to_string(&outcome).unwrap();
            assert_eq!(Outcome::parse(&text).unwrap(), outcome, "{text}");
        }
    }

    #[test]
    fn field_names_are_the_agreed_ones() {
        let done = RestoreDone { bytes: 1, files: 2, written_bytes: 3, content_digest: "c".to_owned() };
        let text = serde_json::to_string(&Outcome::Restore(done)).unwrap();
        assert_eq!(text, r#"{"restore":{"bytes":1,"files":2,"writtenBytes":3,"contentDigest":"c"}}"#);
    }

    #[test]
    fn a_long_message_fits_the_termination_log() {
        let outcome = Outcome::failed(Reason::Internal, &"\"\u{1}é".repeat(2000));
        assert!(serde_json::to_string(&outcome).unwrap().len() < 4096);
    }

    #[test]
    fn a_comparison_with_long_names_fits_the_termination_log() {
        let examples = vec!["é".repeat(100); 8];
        let done = CompareDone { examples, bytes: u64::MAX, ..CompareDone::default() };
        assert!(serde_json::to_string(&Outcome::Compare(done)).unwrap().len() < 4096);
    }

    #[test]
    fn reasons_are_written_as_named() {
        for reason in [Reason::UnreadableFile, Reason::QuotaExceeded, Reason::Internal] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
