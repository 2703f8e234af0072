//! How copies are made: how often, by what, at which speed, how many are kept, and when they are verified.

use std::{fmt, str::FromStr, time::Duration};

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration;
use super::hooks::Hook;

/// How copies are made.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Replication {
    /// Most data that may be lost, as time: `15m`. The schedule follows from it.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(
        validation = ("self.matches('^[1-9][0-9]{0,5}[smhd]$')", "replication.rpo must be a whole number above zero and one unit of s, m, h or d, such as 15m"),
        validation = ("!self.matches('^[1-9][0-9]{0,5}[smhd]$') || (int(self.substring(0, size(self) - 1)) * (self.endsWith('s') ? 1 : self.endsWith('m') ? 60 : self.endsWith('h') ? 3600 : 86400) >= 30)", "replication.rpo must be at least 30s: a recovery point is a verified copy of the whole namespace; for less, replicate inside the database as well"),
        validation = ("!self.matches('^[1-9][0-9]{0,5}[smhd]$') || (int(self.substring(0, size(self) - 1)) * (self.endsWith('s') ? 1 : self.endsWith('m') ? 60 : self.endsWith('h') ? 3600 : 86400) <= 604800)", "replication.rpo must be at most 7d: a register whose copy may be older is not protected")
    )]
    pub rpo: String,
    /// Which engine copies; exactly one.
    pub driver: Driver,
    /// What is run in the register's Pods around each copy, so that the writers hold still. Velero's annotations of Pods, such as
    /// `pre.hook.backup.velero.io/command`, mean the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub hooks: Vec<Hook>,
    /// The writers are let go on after this time even if the copy still reads, or waits for a snapshot; it is then not called `Quiesced`.
    /// Without: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 5))]
    #[x_kube(validation = ("self.matches('^[1-9][0-9]{0,3}[sm]$')", "replication.maxFreeze must be a whole number above zero and s or m, such as 5m"))]
    pub max_freeze: Option<String>,
    /// Which recovery points are kept: as objects in the clusters, and their bytes in the vault.
    #[serde(default)]
    pub retention: Retention,
    /// When the vault is read back and verified; without it only restores are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// How much of the line between sites a copy may take; without it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
}

impl Replication {
    /// How snapshots are taken; none where the volumes themselves are read.
    #[must_use]
    pub fn snapshots(&self) -> Option<Snapshots> {
        let builtin =
            self.driver.builtin.as_ref().filter(|builtin| builtin.copy_method == CopyMethod::Snapshot)?;
        Some(builtin.snapshots.clone().unwrap_or_default())
    }

    /// `maxFreeze`, or how long a freeze lasts at most without it.
    #[must_use]
    pub fn longest_freeze(&self) -> Duration {
        let wanted = self.max_freeze.as_deref().and_then(|text| duration::parse(text).ok());
        wanted.unwrap_or(Duration::from_mins(5))
    }
}

/// A limit to what movers send to, or fetch from, another site's vault. The last copy of a planned switch is not slowed.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Bandwidth {
    /// Bytes a second, by one mover: `10Mi`.
    #[schemars(length(min = 3, max = 8))]
    #[x_kube(validation = ("self.matches('^[1-9][0-9]{0,5}[MG]i$')", "replication.bandwidth.limit must be a whole number of Mi or Gi bytes a second, such as 10Mi; to copy nothing for a while use spec.suspend"))]
    pub limit: String,
    /// Hours of each day in which it holds, in UTC or with a time zone behind them: `07:00-19:00 Europe/Tallinn`. Without: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 11, max = 60))]
    #[x_kube(
        validation = ("self.matches('^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]( [A-Za-z0-9_+/-]+)?$')", "replication.bandwidth.during must be two times of day, such as 07:00-19:00, with at most a time zone behind them"),
        validation = ("!self.matches('^[0-9:]{5}-[0-9:]{5}') || self.substring(0, 5) != self.substring(6, 11)", "replication.bandwidth.during begins when it ends; leave it out for the whole day")
    )]
    pub during: Option<String>,
}

impl Bandwidth {
    /// The limit, in bytes a second; the least one that admission allows where it cannot be read.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let unit: u64 = if self.limit.ends_with("Gi") { 1 << 30 } else { 1 << 20 };
        let number: u64 = self.limit.trim_end_matches(['M', 'G', 'i']).parse().unwrap_or(1);
        number.saturating_mul(unit)
    }
}

/// When all that the vault holds is read back, and how far that goes.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// Cron schedule in UTC, or with a time zone behind it: `0 3 * * *`. `H` in place of a number spreads embassies: `H 3 * * *`.
    #[schemars(length(min = 9, max = 100))]
    #[x_kube(validation = ("self.matches('^[^ ]+( [^ ]+){4,5}$')", "replication.verification.schedule must be the five fields of a cron schedule (minute, hour, day of month, month, day of week), such as '0 3 * * *', with at most a time zone behind them"))]
    pub schedule: String,
    /// How far it goes.
    #[serde(default)]
    pub depth: Depth,
}

/// How far a verification goes.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// Without any key: SHA-256 of every file, every signature, every chain, nothing taken back.
    #[default]
    Quick,
    /// Also every blob decrypted and compared with its id, where this site holds the key.
    Deep,
}

impl fmt::Display for Depth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quick => "Quick",
            Self::Deep => "Deep",
        })
    }
}

impl FromStr for Depth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Quick, Self::Deep]
            .into_iter()
            .find(|depth| depth.to_string() == text)
            .ok_or_else(|| "write Quick or Deep".to_owned())
    }
}

/// The copying engine: exactly one member is set.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = ("has(self.builtin)", "replication.driver needs exactly one engine; write 'driver: {builtin: {copyMethod: Direct}}'"))]
pub struct Driver {
    /// The operator's own mover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<Builtin>,
}

/// The operator's own mover.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = ("!has(self.snapshots) || self.copyMethod == 'Snapshot'", "replication.driver.builtin.snapshots is for copyMethod Snapshot only: set that, or remove snapshots"))]
pub struct Builtin {
    /// Where the bytes are read from.
    pub copy_method: CopyMethod,
    /// How snapshots are taken, where `copyMethod` is `Snapshot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<Snapshots>,
}

/// How snapshots are taken.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = ("!has(self.className) || !has(self.groupClassName)", "replication.driver.builtin.snapshots takes className, for a snapshot of each volume, or groupClassName, for one of all of them: remove one"))]
pub struct Snapshots {
    /// The `VolumeSnapshotClass`, which must delete what is deleted; each site needs one of that name. Without: each site's default
    /// class for the volume's driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "replication.driver.builtin.snapshots.className must be the name of a VolumeSnapshotClass (a-z, 0-9, '-' and '.')"))]
    pub class_name: Option<String>,
    /// The `VolumeGroupSnapshotClass`, likewise: all volumes are snapshotted at one moment, where their driver can do that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "replication.driver.builtin.snapshots.groupClassName must be the name of a VolumeGroupSnapshotClass (a-z, 0-9, '-' and '.')"))]
    pub group_class_name: Option<String>,
}

/// Where the mover reads the bytes from.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyMethod {
    /// From the volume in use; the recovery point is marked `Fuzzy` unless the writers had stopped or hooks made them hold still.
    Direct,
    /// From snapshots that the storage's driver takes of all volumes while the register runs; hooks hold its writers still only until the
    /// last one is taken.
    Snapshot,
}

/// Which recovery points are kept, and for how long nothing is freed at all.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = ("self.keepLast >= oldSelf.keepLast && self.daily >= oldSelf.daily && self.weekly >= oldSelf.weekly", "replication.retention can only grow: a smaller one would drop recovery points that somebody may count on; create a new DataEmbassy for a shorter history"),
    validation = ("!self.immutableFor.matches('^[1-9][0-9]{0,5}[smhd]$') || !oldSelf.immutableFor.matches('^[1-9][0-9]{0,5}[smhd]$') || int(self.immutableFor.substring(0, size(self.immutableFor) - 1)) * (self.immutableFor.endsWith('s') ? 1 : self.immutableFor.endsWith('m') ? 60 : self.immutableFor.endsWith('h') ? 3600 : 86400) >= int(oldSelf.immutableFor.substring(0, size(oldSelf.immutableFor) - 1)) * (oldSelf.immutableFor.endsWith('s') ? 1 : oldSelf.immutableFor.endsWith('m') ? 60 : oldSelf.immutableFor.endsWith('h') ? 3600 : 86400)", "replication.retention.immutableFor can only grow: the vault was told to hold every byte for so long, and does; create a new DataEmbassy for a shorter time")
)]
pub struct Retention {
    /// The newest ones.
    #[serde(default = "Retention::default_keep_last")]
    #[schemars(range(min = 1, max = 1000))]
    pub keep_last: i64,
    /// The newest of each of so many days.
    #[serde(default = "Retention::default_daily")]
    #[schemars(range(min = 0, max = 366))]
    pub daily: i64,
    /// The newest of each of so many weeks.
    #[serde(default = "Retention::default_weekly")]
    #[schemars(range(min = 0, max = 520))]
    pub weekly: i64,
    /// No byte of the vault is freed before this time has passed at the vault, by its own clock, whoever orders it: `30d`.
    #[serde(default = "Retention::default_immutable_for")]
    #[schemars(length(min = 2, max = 7))]
    #[x_kube(validation = ("self.matches('^[1-9][0-9]{0,5}[smhd]$')", "replication.retention.immutableFor must be a whole number above zero and one unit of s, m, h or d, such as 30d"))]
    pub immutable_for: String,
    /// Nothing more is given up once files or bytes of the register shrank by more than this share, in percent.
    #[serde(default = "Retention::default_max_shrink_percent")]
    #[schemars(range(min = 1, max = 100))]
    pub max_shrink_percent: i64,
    /// A recovery point that shrank and is right, as a person says: `2/luxembourg/17`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 5, max = 80))]
    #[x_kube(validation = ("self.matches('^[1-9][0-9]*/[a-z][a-z0-9-]*/[1-9][0-9]*$')", "replication.retention.acceptShrunk must name a recovery point as the condition Thinned does, such as 2/luxembourg/17"))]
    pub accept_shrunk: Option<String>,
}

impl Retention {
    const fn default_keep_last() -> i64 {
        24
    }

    const fn default_daily() -> i64 {
        14
    }

    const fn default_weekly() -> i64 {
        8
    }

    fn default_immutable_for() -> String {
        "30d".to_owned()
    }

    const fn default_max_shrink_percent() -> i64 {
        50
    }

    /// `immutableFor`; for ever where it cannot be read.
    #[must_use]
    pub fn immutable_seconds(&self) -> i64 {
        let read = duration::parse(&self.immutable_for);
        read.map_or(i64::MAX, |duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            keep_last: Self::default_keep_last(),
            daily: Self::default_daily(),
            weekly: Self::default_weekly(),
            immutable_for: Self::default_immutable_for(),
            max_shrink_percent: Self::default_max_shrink_percent(),
            accept_shrunk: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_in_bytes() {
        for (limit, bytes) in [("1Mi", 1 << 20), ("10Mi", 10 << 20), ("2Gi", 2 << 30)] {
            assert_eq!(Bandwidth { limit: limit.to_owned(), during: None }.bytes(), bytes);
        }
    }
}
