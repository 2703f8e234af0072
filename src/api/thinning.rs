//! Which recovery points a vault may give up: the order of the active site, as it is signed. The vault, who orders and who verifies read
//! the same words. See docs/adr/0007.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::epoch::{Epoch, PointRef};

/// Version of the format.
pub const THINNING_VERSION: i64 = 1;

/// One order. Each says everything anew; the newest one holds.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Thinning {
    /// `THINNING_VERSION` of the author.
    pub version: i64,
    /// Namespace of the embassy.
    pub namespace: String,
    /// Name of the embassy.
    pub embassy: String,
    /// The site whose vault may give up.
    pub vault: String,
    /// From 1, without gaps, whoever ordered.
    pub sequence: i64,
    /// SHA-256 of the order before; empty for the first.
    pub previous: String,
    /// When it was written, by the author's clock; for people, and for the author himself.
    pub time: Time,
    /// Seconds for which nothing is freed, whatever else is said. May only grow.
    pub immutable_for: i64,
    /// What stays, by epoch; an epoch that is not named stays whole.
    pub epochs: BTreeMap<Epoch, Stays>,
}

/// What stays of one epoch.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stays {
    /// Points after this sequence are not spoken of, so they stay.
    pub through: i64,
    /// Sequences up to there that stay.
    pub points: BTreeSet<i64>,
}

/// Why an order does not follow the one before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotNext {
    /// Another number, or another predecessor.
    #[error("order {found} does not follow order {last}: read the last one and sign anew")]
    Order {
        /// The last one.
        last: i64,
        /// What came.
        found: i64,
    },
    /// Bytes would be held for less time.
    #[error("immutableFor is {now} s, and was {before} s: it can only grow")]
    Shorter {
        /// As ordered before.
        before: i64,
        /// As ordered now.
        now: i64,
    },
    /// What was given up cannot come back.
    #[error("recovery point {0} was given up, and nothing brings it back: sign an order without it")]
    Returned(PointRef),
    /// What was spoken of is not any more.
    #[error("epoch {0} was thinned out before, and is not named, or not as far: sign an order that names it")]
    Forgotten(Epoch),
}

impl Thinning {
    /// Whether the order lets go of a point. The vault keeps the newest of each epoch all the same.
    #[must_use]
    pub fn gives_up(&self, point: &PointRef) -> bool {
        self.epochs.get(&point.epoch).is_some_and(|stays| stays.give_up(point.sequence))
    }

    /// Whether it may follow `before`, whose envelope has that digest. A vault that has none, as one that was lost and is filled
    /// again, takes any: nothing was given up there yet.
    pub fn follows(&self, before: Option<(&Self, &str)>) -> Result<(), NotNext> {
        let Some((before, digest)) = before else { return Ok(()) };
        if self.sequence != before.sequence + 1 || self.previous != digest {
            return Err(NotNext::Order { last: before.sequence, found: self.sequence });
        }
        if self.immutable_for < before.immutable_for {
            return Err(NotNext::Shorter { before: before.immutable_for, now: self.immutable_for });
        }
        for (epoch, old) in &before.epochs {
            let new = self.epochs.get(epoch).filter(|new| new.through >= old.through);
            let new = new.ok_or_else(|| NotNext::Forgotten(epoch.clone()))?;
            let returned = new.points.iter().find(|sequence| old.give_up(**sequence));
            if let Some(sequence) = returned {
                return Err(NotNext::Returned(PointRef { epoch: epoch.clone(), sequence: *sequence }));
            }
        }
        Ok(())
    }
}

impl Stays {
    fn give_up(&self, sequence: i64) -> bool {
        sequence <= self.through && !self.points.contains(&sequence)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn order(sequence: i64, previous: &str, through: i64, points: &[i64]) -> Thinning {
        let stays = Stays { through, points: points.iter().copied().collect() };
        Thinning {
            version: THINNING_VERSION,
            namespace: "land".to_owned(),
            embassy: "land".to_owned(),
            vault: "luxembourg".to_owned(),
            sequence,
            previous: previous.to_owned(),
            time: Time(Timestamp::UNIX_EPOCH),
            immutable_for: 60,
            epochs: BTreeMap::from([(Epoch::new(1, "tallinn"), stays)]),
        }
    }

    #[test]
    fn what_is_not_spoken_of_stays() {
        let order = order(1, "", 5, &[2, 5]);
        let gone = |text: &str| order.gives_up(&text.parse().unwrap());
        assert!(gone("1/tallinn/1") && gone("1/tallinn/4"));
        for stays in ["1/tallinn/2", "1/tallinn/5", "1/tallinn/6", "2/luxembourg/1"] {
            assert!(!gone(stays), "{stays}");
        }
    }

    #[test]
    fn orders_follow_each_other_and_never_go_back() {
        let first = order(1, "", 5, &[2, 5]);
        assert_eq!(first.follows(None), Ok(()));
        let after = |next: &Thinning| next.follows(Some((&first, "d")));
        assert_eq!(after(&order(2, "d", 9, &[5, 9])), Ok(()));
        assert_eq!(after(&order(3, "d", 9, &[5])), Err(NotNext::Order { last: 1, found: 3 }));
        assert_eq!(after(&order(2, "other", 9, &[5])), Err(NotNext::Order { last: 1, found: 2 }));
        assert_eq!(after(&order(2, "d", 4, &[2])), Err(NotNext::Forgotten(Epoch::new(1, "tallinn"))));
        assert_eq!(after(&order(2, "d", 9, &[3])), Err(NotNext::Returned("1/tallinn/3".parse().unwrap())));
        let shorter = Thinning { immutable_for: 59, ..order(2, "d", 9, &[5]) };
        assert_eq!(after(&shorter), Err(NotNext::Shorter { before: 60, now: 59 }));
        assert_eq!(order(7, "d", 1, &[]).follows(None), Ok(()), "a vault that was lost and is filled again");
    }
}
