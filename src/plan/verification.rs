//! What a verification of the vault found: which files are wrong, and which recovery points that costs.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use crate::api::{
    epoch::{Epoch, PointRef},
    replication::Depth,
};

/// How a file of the vault is wrong.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wrong {
    /// It is not there, although a committed point or its successor needs it, or it was there before.
    Missing,
    /// Its content is not what its name, or the signed list, says.
    Altered,
    /// The vault cannot read it.
    Unreadable,
    /// It is not what the site signed whose it is.
    NotGenuine,
    /// It is genuine, and does not follow the one before it.
    OutOfLine,
    /// It is genuine, and another one than was seen in its place before.
    RolledBack,
    /// Its bytes are those that were stored, and the key does not make of them what they should be.
    Undecodable,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::Altered => "was altered",
            Self::Unreadable => "cannot be read by the vault",
            Self::NotGenuine => "is not what was signed",
            Self::OutOfLine => "does not follow the one before it",
            Self::RolledBack => "is another one than was seen there before",
            Self::Undecodable => "does not decrypt to what it should be",
        })
    }
}

/// Recovery points that follow each other. Written `1/tallinn/3-9`.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[serde(deny_unknown_fields)]
pub struct PointRange {
    /// Their epoch.
    pub epoch: Epoch,
    /// The first.
    pub from: i64,
    /// The last.
    pub to: i64,
}

impl PointRange {
    /// Whether the point is one of them.
    #[must_use]
    pub fn contains(&self, point: &PointRef) -> bool {
        self.epoch == point.epoch && (self.from..=self.to).contains(&point.sequence)
    }
}

impl fmt::Display for PointRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to {
            write!(f, "{}/{}", self.epoch, self.from)
        } else {
            write!(f, "{}/{}-{}", self.epoch, self.from, self.to)
        }
    }
}

/// Adds points to ranges, joining those that touch or overlap.
pub fn include(ranges: &mut Vec<PointRange>, more: PointRange) {
    ranges.push(more);
    ranges.sort();
    let mut joined: Vec<PointRange> = vec![];
    for range in ranges.drain(..) {
        match joined.last_mut() {
            Some(last) if last.epoch == range.epoch && range.from <= last.to.saturating_add(1) => {
                last.to = last.to.max(range.to);
            }
            _ => joined.push(range),
        }
    }
    *ranges = joined;
}

/// At most `most` ranges: where there are more, the narrowest gaps are closed, so that no point is left out. Only points of
/// one epoch are ever joined.
pub fn narrow(ranges: &mut Vec<PointRange>, most: usize) {
    while ranges.len() > most {
        let gap = |at: usize| ranges[at + 1].from.saturating_sub(ranges[at].to);
        let joinable = (0..ranges.len() - 1).filter(|at| ranges[*at].epoch == ranges[at + 1].epoch);
        let Some(at) = joinable.min_by_key(|at| gap(*at)) else { return };
        ranges[at].to = ranges[at + 1].to;
        ranges.remove(at + 1);
    }
}

/// One wrong file.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Damage {
    /// Its path within the embassy's folder of the vault, such as `repo/1-tallinn/data/<sha256>`.
    pub file: String,
    /// How it is wrong.
    pub wrong: Wrong,
    /// The recovery points that it costs.
    pub points: Vec<PointRange>,
}

impl Damage {
    /// The newest recovery point that it costs.
    #[must_use]
    pub fn newest(&self) -> Option<PointRef> {
        self.points.iter().map(|range| PointRef { epoch: range.epoch.clone(), sequence: range.to }).max()
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.file, self.wrong)?;
        if self.points.is_empty() { Ok(()) } else { write!(f, " (costs {})", list(&self.points)) }
    }
}

/// As people read it.
#[must_use]
pub fn list(ranges: &[PointRange]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The result of one verification.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checked {
    /// When it ended, by the clock of the site that did it.
    pub time: Time,
    /// How far it went.
    pub depth: Depth,
    /// Files that were read.
    pub files: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Committed recovery points that were looked at.
    pub points: i64,
    /// Wrong files.
    pub damaged_files: i64,
    /// The first of them.
    pub damage: Vec<Damage>,
    /// All recovery points that they cost.
    pub affected: Vec<PointRange>,
    /// The last point of each epoch that was looked at.
    pub reached: Vec<PointRef>,
}

impl Checked {
    /// Whether nothing was wrong.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.damaged_files == 0
    }

    /// Whether the point is known to be damaged, or was made after a damaged one in the same repository: it builds on that.
    #[must_use]
    pub fn costs(&self, point: &PointRef) -> bool {
        let last = self.reached.iter().find(|last| last.epoch == point.epoch).filter(|last| **last < *point);
        self.affected.iter().any(|range| range.contains(last.unwrap_or(point)) || range.contains(point))
    }

    /// Wrong objects of an epoch's repository, as far as they are named, such as `data/<sha256>`.
    #[must_use]
    pub fn wrong_objects(&self, epoch: &Epoch) -> Vec<String> {
        let folder = format!("repo/{}/", epoch.slug());
        let object = |damage: &Damage| {
            let path = damage.file.strip_prefix(&folder)?;
            match path.split('/').collect::<Vec<_>>()[..] {
                ["data", _, name] => Some(format!("data/{name}")),
                [kind @ ("index" | "snapshots"), name] => Some(format!("{kind}/{name}")),
                _ => None,
            }
        };
        self.damage.iter().filter_map(object).collect()
    }

    /// Whether the point was looked at.
    #[must_use]
    pub fn covers(&self, point: &PointRef) -> bool {
        self.reached.iter().any(|last| last.epoch == point.epoch && point.sequence <= last.sequence)
    }

    /// What is wrong with the point, as far as it is named.
    #[must_use]
    pub fn damage_of(&self, point: &PointRef) -> Option<String> {
        let named = self.damage.iter().find(|damage| damage.points.iter().any(|range| range.contains(point)));
        let text = || "it needs a damaged file, or builds on a point that does".to_owned();
        self.costs(point)
            .then(|| named.map_or_else(text, |damage| format!("{} {}", damage.file, damage.wrong)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(epoch: &str, from: i64, to: i64) -> PointRange {
        PointRange { epoch: epoch.parse().unwrap(), from, to }
    }

    #[test]
    fn ranges_that_touch_are_joined() {
        let mut ranges = vec![];
        for (epoch, from, to) in [("1/a", 5, 6), ("2/b", 7, 7), ("1/a", 1, 2), ("1/a", 3, 4), ("1/a", 9, 9)] {
            include(&mut ranges, range(epoch, from, to));
        }
        assert_eq!(list(&ranges), "1/a/1-6, 1/a/9, 2/b/7");
    }

    #[test]
    fn a_later_point_builds_on_a_damaged_one() {
        let point = |text: &str| -> PointRef { text.parse().unwrap() };
        let mut checked = Checked {
            time: Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH),
            depth: Depth::Quick,
            files: 1,
            bytes: 1,
            points: 9,
            damaged_files: 1,
            damage: vec![],
            affected: vec![range("1/a", 3, 4)],
            reached: vec![point("1/a/9"), point("2/b/1")],
        };
        assert!(checked.costs(&point("1/a/4")) && !checked.costs(&point("1/a/5")));
        assert!(!checked.costs(&point("1/a/10")), "the last one that was looked at is sound");
        assert!(checked.covers(&point("1/a/9")) && !checked.covers(&point("1/a/10")));
        checked.affected = vec![range("1/a", 9, 9)];
        assert!(checked.costs(&point("1/a/10")) && !checked.costs(&point("2/b/2")));
    }

    #[test]
    fn wrong_objects_are_those_of_the_epoch() {
        let file = |file: &str| Damage { file: file.to_owned(), wrong: Wrong::Altered, points: vec![] };
        let mut checked = Checked {
            time: Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH),
            depth: Depth::Quick,
            files: 1,
            bytes: 1,
            points: 1,
            damaged_files: 5,
            damage: vec![],
            affected: vec![],
            reached: vec![],
        };
        checked.damage = [
            "repo/1-a/data/ab/abc",
            "repo/1-a/index/def",
            "repo/1-a/config",
            "repo/2-b/data/ab/abe",
            "points/1-a/3.json",
            "repo/1-a/snapshots/012",
        ]
        .map(file)
        .to_vec();
        let found = checked.wrong_objects(&"1/a".parse().unwrap());
        assert_eq!(found, ["data/abc", "index/def", "snapshots/012"]);
    }

    #[test]
    fn too_many_ranges_cover_more_and_never_less() {
        let mut ranges: Vec<PointRange> = [1, 3, 10, 12, 50].map(|n| range("1/a", n, n)).to_vec();
        ranges.push(range("2/b", 51, 51));
        narrow(&mut ranges, 3);
        assert_eq!(list(&ranges), "1/a/1-12, 1/a/50, 2/b/51");
        narrow(&mut ranges, 1);
        assert_eq!(list(&ranges), "1/a/1-50, 2/b/51", "epochs are not joined");
    }
}
