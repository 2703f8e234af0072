//! Which recovery points the active site gives up at a vault: those that retention does not keep and that are older than
//! `immutableFor`. A register that shrank is thinned out no further until a person says that it is right.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::jiff::Timestamp;

use super::{manifest::Manifest, schedule};
use crate::api::{
    epoch::{Epoch, PointRef},
    recovery_point::Consistency,
    replication::Retention,
    thinning::{Stays, Thinning},
};

/// How far a vault was thinned out, as the condition `Thinned` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Its last order says all that there is to say.
    Ordered {
        /// Points that the vault may give up.
        given_up: usize,
        /// Points that stay.
        stay: usize,
    },
    /// A person must look first.
    Held(Shrunk),
    /// The vault did not take the order, or shows one that is not believed.
    Failed(String),
}

/// Why nothing more is given up: mass deletion, or encryption by a thief, must not push the good points out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// The newest point.
    pub newest: PointRef,
    /// The point that it is compared with.
    pub against: PointRef,
    /// Files and bytes then.
    pub before: (i64, i64),
    /// Files and bytes now.
    pub now: (i64, i64),
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { newest, against, before, now } = self;
        write!(
            f,
            "recovery point {newest} holds {} files and {} bytes, and {against} held {} and {}: nothing older is given up. If \
             that is right, say so with spec.replication.retention.acceptShrunk: {newest}; if not, restore from {against}",
            now.0, now.1, before.0, before.1
        )
    }
}

/// What stays of each epoch, given all points that the vault holds, in their order, and the order before.
pub fn choose(
    points: &[Manifest],
    retention: &Retention,
    before: Option<&Thinning>,
    now: Timestamp,
) -> Result<BTreeMap<Epoch, Stays>, Shrunk> {
    let held: Vec<&Manifest> = points
        .iter()
        .filter(|manifest| before.is_none_or(|before| !before.gives_up(&manifest.point)))
        .collect();
    brake(&held, retention, before)?;
    let cuts: Vec<Timestamp> = held.iter().rev().map(|manifest| manifest.cut_time.0).collect();
    let kept = schedule::kept(&cuts, retention);
    let oldest = now.as_second().saturating_sub(retention.immutable_seconds());
    let mut epochs = before.map(|before| before.epochs.clone()).unwrap_or_default();
    for (index, manifest) in held.iter().rev().enumerate() {
        let PointRef { epoch, sequence } = &manifest.point;
        if manifest.cut_time.0.as_second() > oldest {
            continue;
        }
        let stays = epochs.entry(epoch.clone()).or_default();
        stays.through = stays.through.max(*sequence);
        // What a site held when it stopped may be asked for much later.
        if kept.contains(&index) || manifest.consistency == Consistency::Final {
            stays.points.insert(*sequence);
        } else {
            stays.points.remove(sequence);
        }
    }
    Ok(epochs)
}

/// Compares the newest point with the newest one of which the last order spoke, or that a person accepted.
fn brake(held: &[&Manifest], retention: &Retention, before: Option<&Thinning>) -> Result<(), Shrunk> {
    let accepted: Option<PointRef> = retention.accept_shrunk.as_ref().and_then(|text| text.parse().ok());
    let spoken_of = |point: &PointRef| {
        let through = |before: &Thinning| before.epochs.get(&point.epoch).map_or(0, |stays| stays.through);
        before.is_some_and(|before| point.sequence <= through(before))
            || accepted.as_ref().is_some_and(|accepted| point <= accepted)
    };
    let against = held.iter().rfind(|manifest| spoken_of(&manifest.point)).or_else(|| held.first());
    let (Some(against), Some(newest)) = (against, held.last()) else { return Ok(()) };
    let size = |manifest: &Manifest| (manifest.contents.files, manifest.contents.bytes);
    let (then, now) = (size(against), size(newest));
    let shrank = |then: i64, now: i64| {
        i128::from(then - now) * 100 > i128::from(then) * i128::from(retention.max_shrink_percent)
    };
    if shrank(then.0, now.0) || shrank(then.1, now.1) {
        let (newest, against) = (newest.point.clone(), against.point.clone());
        return Err(Shrunk { newest, against, before: then, now });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::thinning::THINNING_VERSION;
    use crate::plan::manifest::{Contents, of_nothing};

    const DAY: i64 = 86_400;

    fn retention() -> Retention {
        Retention {
            keep_last: 3,
            daily: 4,
            weekly: 2,
            immutable_for: "10d".to_owned(),
            ..Retention::default()
        }
    }

    fn manifest(point: &str, cut: i64, files: i64, bytes: i64) -> Manifest {
        let empty = of_nothing(point);
        Manifest {
            cut_time: Time(Timestamp::from_second(cut).unwrap()),
            consistency: Consistency::Fuzzy,
            contents: Contents { bytes, files, ..empty.contents.clone() },
            ..empty
        }
    }

    fn order(epochs: BTreeMap<Epoch, Stays>, before: Option<&Thinning>) -> Thinning {
        Thinning {
            version: THINNING_VERSION,
            namespace: "land".to_owned(),
            embassy: "land".to_owned(),
            vault: "luxembourg".to_owned(),
            sequence: before.map_or(1, |before| before.sequence + 1),
            previous: before.map_or_else(String::new, |_| "d".to_owned()),
            time: Time(Timestamp::UNIX_EPOCH),
            immutable_for: retention().immutable_seconds(),
            epochs,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn nothing_young_is_given_up_and_what_is_kept_stays() {
        let points: Vec<Manifest> =
            (1..=80).map(|n| manifest(&format!("1/tallinn/{n}"), n * DAY / 2, 10, 1_000)).collect();
        let now = 40 * DAY;
        let order = order(choose(&points, &retention(), None, at(now)).unwrap(), None);
        let gone: Vec<i64> = points
            .iter()
            .filter(|manifest| order.gives_up(&manifest.point))
            .map(|manifest| manifest.point.sequence)
            .collect();
        assert!(!gone.is_empty());
        for sequence in gone {
            assert!(sequence * DAY / 2 <= now - 10 * DAY, "{sequence} is younger than immutableFor");
        }
        let wide = Retention { weekly: 520, daily: 366, ..retention() };
        let all = super::choose(&points, &wide, None, at(now)).unwrap();
        let stays = &all[&Epoch::new(1, "tallinn")];
        assert_eq!(stays.points.len(), 30, "one of each day stays: {stays:?}");
    }

    /// A year of points under random schedules: each order follows the one before, and neither the newest point nor a final one goes.
    #[test]
    fn orders_follow_each_other_through_any_history() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut points, mut before, mut now) = (vec![], None::<Thinning>, 0);
            let (mut epoch, mut sequence) = (1, 0);
            for _ in 0..120 {
                now += random.i64(600..4 * DAY);
                if random.u8(0..20) == 0 {
                    (epoch, sequence) = (epoch + 1, 0);
                }
                sequence += 1;
                let mut made = manifest(&format!("{epoch}/tallinn/{sequence}"), now, 10, 1_000);
                if random.u8(0..10) == 0 {
                    made.consistency = Consistency::Final;
                }
                points.push(made);
                let epochs = choose(&points, &retention(), before.as_ref(), at(now)).unwrap();
                let next = order(epochs, before.as_ref());
                let follows = next.follows(before.as_ref().map(|before| (before, "d")));
                assert_eq!(follows, Ok(()), "seed {seed}");
                assert!(!next.gives_up(&points.last().unwrap().point), "seed {seed}");
                let is_final = |manifest: &&Manifest| manifest.consistency == Consistency::Final;
                assert!(points.iter().filter(is_final).all(|manifest| !next.gives_up(&manifest.point)));
                before = Some(next);
            }
            assert!(points.iter().any(|manifest| before.as_ref().unwrap().gives_up(&manifest.point)));
        }
    }

    #[test]
    fn a_register_that_shrank_is_thinned_out_when_a_person_accepts_it() {
        let whole = manifest("1/tallinn/1", 0, 100, 10_000);
        for (files, bytes) in [(100, 4_999), (49, 10_000)] {
            let points = [whole.clone(), manifest("1/tallinn/2", DAY, files, bytes)];
            let held = choose(&points, &retention(), None, at(2 * DAY)).unwrap_err();
            assert_eq!((held.now, held.before), ((files, bytes), (100, 10_000)));
            assert!(held.to_string().contains("acceptShrunk: 1/tallinn/2"), "{held}");
            let accepted = Retention { accept_shrunk: Some("1/tallinn/2".to_owned()), ..retention() };
            assert!(choose(&points, &accepted, None, at(2 * DAY)).is_ok());
            let stale = Retention { accept_shrunk: Some("1/tallinn/1".to_owned()), ..retention() };
            assert!(choose(&points, &stale, None, at(2 * DAY)).is_err());
        }
        let points = [whole, manifest("1/tallinn/2", DAY, 50, 5_000)];
        assert!(choose(&points, &retention(), None, at(2 * DAY)).is_ok(), "half is still within the limit");
    }

    #[test]
    fn little_by_little_is_noticed_too() {
        let points: Vec<Manifest> =
            (1..=10).map(|n| manifest(&format!("1/tallinn/{n}"), n * DAY, 101 - 10 * n, 1_000)).collect();
        assert!(choose(&points, &retention(), None, at(11 * DAY)).is_err());
    }
}
