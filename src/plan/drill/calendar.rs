//! Drills by schedule: when the next one begins, which ended ones stay as objects, and whether the last one is recent enough.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::super::schedule;
use super::fitted;
use crate::api::{
    Drill, EMBASSY_LABEL,
    data_embassy::LastDrill,
    drill::{DrillPhase, DrillSpec, Drills},
    duration,
};

/// Ended drills that stay as objects, of those that the operator began.
const KEPT: usize = 10;

/// When the next drill is due; one that was missed is made up for once. `since` is when the `DataEmbassy` was made.
pub fn due(drills: &Drills, identity: &str, all: &[Drill], since: Timestamp) -> Result<Timestamp, String> {
    let last = all.iter().filter(|drill| is_scheduled(drill)).filter_map(created).max();
    schedule::next_of(&drills.schedule, identity, last.unwrap_or(since))
}

/// The drill that is due at that time. Its name says so, so that no two operators begin it twice.
#[must_use]
pub fn scheduled(drills: &Drills, embassy: &str, due: Timestamp) -> Drill {
    let name = fitted(embassy, &due.strftime("-%Y%m%d-%H%M").to_string());
    let spec = DrillSpec {
        embassy: embassy.to_owned(),
        recovery_point: None,
        checks: drills.checks.clone(),
        exclude: drills.exclude.clone(),
        timeout: drills.timeout.clone(),
        serve: None,
    };
    Drill::new(&name, spec)
}

/// Ended drills, begun by schedule, that are more than is kept; the newest stay, and so does the last one that passed.
#[must_use]
pub fn surplus(all: &[Drill]) -> Vec<&Drill> {
    let mut ended: Vec<&Drill> =
        all.iter().filter(|drill| is_scheduled(drill) && drill.has_ended()).collect();
    ended.sort_by_key(|drill| std::cmp::Reverse(created(drill)));
    let passed = |drill: &&Drill| drill.status.as_ref().and_then(|s| s.phase) == Some(DrillPhase::Passed);
    let last_passed = ended.iter().position(passed);
    let surplus = ended.iter().enumerate().skip(KEPT).filter(|(index, _)| Some(*index) != last_passed);
    surplus.map(|(_, drill)| *drill).collect()
}

/// How far this site is rehearsed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The last drill that ended.
    pub last: Option<LastDrill>,
    /// Why the drills that passed do not suffice, in words.
    pub lacking: Option<String>,
    /// Why the schedule cannot be read.
    pub unreadable: Option<String>,
}

/// How far this site is rehearsed, by all drills that it knows of.
#[must_use]
pub fn standing(drills: Option<&Drills>, all: &[Drill], now: Timestamp) -> Standing {
    Standing {
        last: rehearsals(all).filter_map(ended).max_by(|one, other| one.time.cmp(&other.time)),
        lacking: drills.and_then(|drills| lacking(drills, all, now)),
        unreadable: drills.and_then(|drills| schedule::next_of(&drills.schedule, "", now).err()),
    }
}

fn lacking(drills: &Drills, all: &[Drill], now: Timestamp) -> Option<String> {
    let within = drills.required_within.as_ref()?;
    let limit = duration::parse(within).unwrap_or_default();
    let passed =
        rehearsals(all).filter_map(ended).filter(|drill| drill.passed).map(|drill| drill.time.0).max();
    let age = passed.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
    match age {
        Some(age) if age <= limit => None,
        Some(_) => Some(format!("no drill passed here within spec.drills.requiredWithin of {within}")),
        None => Some("no drill has passed here, and spec.drills.requiredWithin asks for one".to_owned()),
    }
}

fn ended(drill: &Drill) -> Option<LastDrill> {
    let status = drill.status.as_ref().filter(|_| drill.has_ended())?;
    Some(LastDrill {
        name: drill.name_any(),
        time: status.ended_at.clone()?,
        passed: status.phase == Some(DrillPhase::Passed),
        recovery_point: status.recovery_point.clone(),
        time_to_ready: status.time_to_ready.clone(),
        message: status.message.clone().unwrap_or_default(),
    })
}

/// All but those that served readers.
fn rehearsals(all: &[Drill]) -> impl Iterator<Item = &Drill> {
    all.iter().filter(|drill| drill.spec.serve.is_none())
}

/// Only what the operator made bears its label.
fn is_scheduled(drill: &Drill) -> bool {
    drill.labels().contains_key(EMBASSY_LABEL) && drill.spec.serve.is_none()
}

fn created(drill: &Drill) -> Option<Timestamp> {
    drill.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::drill::DrillStatus;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + hour * 3_600).unwrap()
    }

    fn weekly() -> Drills {
        Drills {
            schedule: "0 4 * * 0".to_owned(),
            checks: vec![],
            exclude: vec![],
            timeout: "30m".to_owned(),
            required_within: Some("8d".to_owned()),
        }
    }

    fn drill(hour: i64, phase: DrillPhase) -> Drill {
        let mut made = scheduled(&weekly(), "land", at(hour));
        made.metadata.creation_timestamp = Some(Time(at(hour)));
        made.metadata.labels = Some([(EMBASSY_LABEL.to_owned(), "land".to_owned())].into());
        made.status = Some(DrillStatus {
            phase: Some(phase),
            ended_at: Some(Time(at(hour))),
            ..DrillStatus::default()
        });
        made
    }

    #[test]
    fn one_follows_the_last_and_a_missed_one_is_made_up_for_once() {
        // The first hour is Tuesday 2023-11-14 22:13 UTC.
        let next = due(&weekly(), "a/b", &[], at(0)).unwrap();
        assert_eq!(next.to_string(), "2023-11-19T04:00:00Z");
        let after = due(&weekly(), "a/b", &[drill(30 * 24, DrillPhase::Passed)], at(0)).unwrap();
        assert!(after > at(30 * 24) && after < at(38 * 24), "{after}");
        let mut by_hand = drill(30 * 24, DrillPhase::Passed);
        by_hand.metadata.labels = None;
        assert_eq!(
            due(&weekly(), "a/b", &[by_hand], at(0)),
            Ok(next),
            "a drill of a person moves no schedule"
        );
        assert_eq!(scheduled(&weekly(), "land", next).name_any(), "land-20231119-0400");
    }

    #[test]
    fn the_newest_and_the_last_that_passed_stay() {
        let mut all: Vec<Drill> = (1..=12).map(|day| drill(day * 24, DrillPhase::Failed)).collect();
        all.push(drill(0, DrillPhase::Passed));
        all.push(drill(13 * 24, DrillPhase::Restoring));
        let gone: Vec<String> = surplus(&all).iter().map(|drill| drill.name_any()).collect();
        assert_eq!(gone, [all[1].name_any(), all[0].name_any()]);
    }

    #[test]
    fn a_standby_without_a_recent_pass_lacks_one() {
        let passed = [drill(0, DrillPhase::Passed), drill(24, DrillPhase::Failed)];
        let lacks = |all: &[Drill], hour| standing(Some(&weekly()), all, at(hour)).lacking;
        assert_eq!(lacks(&passed, 8 * 24), None);
        assert!(lacks(&passed, 8 * 24 + 1).unwrap().contains("within"));
        assert!(lacks(&passed[1..], 25).unwrap().contains("no drill has passed"));
        let free = standing(None, &passed, at(99 * 24));
        assert_eq!((free.lacking, free.last.map(|drill| drill.passed)), (None, Some(false)));
    }

    #[test]
    fn a_schedule_that_cannot_be_read_is_told() {
        let wrong = Drills { schedule: "0 25 * * *".to_owned(), ..weekly() };
        assert!(standing(Some(&wrong), &[], at(0)).unreadable.is_some());
        assert_eq!(standing(Some(&weekly()), &[], at(0)).unreadable, None);
    }
}
