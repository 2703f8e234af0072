//! A rehearsal of a takeover, beside everything else: which step is next, what of a capture is applied, whether it runs.

pub mod calendar;
pub mod objects;
pub mod readiness;
pub mod serving;

use std::time::Duration;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::manifest::Manifest;
use crate::api::{
    drill::{CheckResult, DrillPhase, DrillSpec, DrillStatus},
    duration,
    failover_record::{FailoverRecordSpec, Role},
};

/// What is to be done next for a drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is over.
    Nothing,
    /// Choose the recovery point, and write down where it will be rehearsed.
    Begin,
    /// Bring the volumes to it.
    Restore,
    /// Apply the captured objects.
    Apply,
    /// Wait until all of the workload is ready.
    Start,
    /// Run the checks.
    Check,
    /// Serve readers, and go on with it.
    Serve,
    /// Write down how it went.
    Conclude {
        /// Whether it went as it should.
        passed: bool,
        /// In a sentence.
        message: String,
    },
    /// Remove what was made; then it is over.
    CleanUp,
}

/// The next step. `hindrance` is why this site must not rehearse now; it ends a drill that has begun, since whatever the drill
/// takes is wanted for the real thing.
#[must_use]
pub fn next(spec: &DrillSpec, status: &DrillStatus, hindrance: Option<&str>, now: Timestamp) -> Step {
    if status.phase.is_some_and(DrillPhase::is_final) {
        return Step::Nothing;
    }
    if status.passed.is_some() {
        return Step::CleanUp;
    }
    let Some(started) = &status.started_at else { return Step::Begin };
    let serves = status.phase == Some(DrillPhase::Serving);
    if let Some(hindrance) = hindrance {
        let how = if serves { "no longer served" } else { "given up" };
        return Step::Conclude { passed: serves, message: format!("{how}: {hindrance}") };
    }
    if serves {
        return Step::Serve;
    }
    let limit = duration::parse(&spec.timeout).unwrap_or_default();
    if since(started, now) > limit {
        let doing = status.message.clone().unwrap_or_default();
        let message = format!("not done within spec.timeout of {}; at the end: {doing}", spec.timeout);
        return Step::Conclude { passed: false, message };
    }
    if status.restored_at.is_none() {
        return Step::Restore;
    }
    if status.applied_at.is_none() {
        return Step::Apply;
    }
    if status.ready_at.is_none() {
        return if spec.serve.is_some() { start_serving(status, now) } else { Step::Start };
    }
    if spec.serve.is_some() {
        return Step::Serve;
    }
    if status.checks.len() < spec.checks.len() {
        return Step::Check;
    }
    conclusion(&status.checks)
}

/// What is restored for readers may take days; a workload that is not ready soon never will be.
fn start_serving(status: &DrillStatus, now: Timestamp) -> Step {
    if status.applied_at.as_ref().is_some_and(|applied| since(applied, now) > START) {
        let doing = status.message.clone().unwrap_or_default();
        return Step::Conclude { passed: false, message: format!("not ready within 10m: {doing}") };
    }
    Step::Start
}

fn conclusion(checks: &[CheckResult]) -> Step {
    match checks.iter().find(|check| !check.passed) {
        Some(failed) => {
            let message = format!("check {} failed: {}", failed.name, failed.message);
            Step::Conclude { passed: false, message }
        }
        None if checks.is_empty() => {
            Step::Conclude { passed: true, message: "restored, and all of the workload ready".to_owned() }
        }
        None => {
            let plural = if checks.len() == 1 { "check" } else { "checks" };
            let message = format!("restored, all of the workload ready, {} {plural} passed", checks.len());
            Step::Conclude { passed: true, message }
        }
    }
}

/// Why this site must not rehearse now, in words.
#[must_use]
pub fn hindrance(record: &FailoverRecordSpec, suspended: bool) -> Option<String> {
    if suspended {
        return Some("spec.suspend of the DataEmbassy is true: nothing is restored".to_owned());
    }
    let calm = matches!(record.role, Role::Active | Role::Standby) && !record.held();
    (!calm).then(|| {
        format!("this site is {} and its capacity is wanted for the register itself", record.role.as_str())
    })
}

/// The status of a drill that begins now with that point.
#[must_use]
pub fn begun(point: &Manifest, namespace: String, now: Timestamp) -> DrillStatus {
    let age = since(&point.cut_time, now);
    DrillStatus {
        phase: Some(DrillPhase::Restoring),
        message: Some("restoring the volumes from the vault".to_owned()),
        recovery_point: Some(point.point.clone()),
        namespace: Some(namespace),
        started_at: Some(Time(now)),
        data_age: Some(duration::format(age)),
        ..DrillStatus::default()
    }
}

/// The status once all of the workload is ready.
#[must_use]
pub fn ready(status: &DrillStatus, now: Timestamp) -> DrillStatus {
    let took = status.started_at.as_ref().map(|started| duration::format(since(started, now)));
    DrillStatus {
        phase: Some(DrillPhase::Checking),
        message: Some("the workload is ready; running the checks".to_owned()),
        ready_at: Some(Time(now)),
        time_to_ready: took,
        ..status.clone()
    }
}

/// How long ago that was; no time where a clock was set back.
fn since(then: &Time, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then.0)).unwrap_or_default()
}

/// How long a workload that is to serve readers may take to become ready.
const START: Duration = Duration::from_mins(10);
/// Longest name of a namespace, of a Service and of a `Drill`.
const LONGEST_NAME: usize = 63;

/// The namespace of a drill: told apart by its uid, so that no other drill ever had it.
#[must_use]
pub fn namespace_name(protected: &str, uid: &str) -> String {
    let short: String = uid.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    fitted(protected, &format!("-drill-{short}"))
}

/// A name that is cut so that it fits with what stands behind it.
fn fitted(name: &str, suffix: &str) -> String {
    let kept: String = name.chars().take(LONGEST_NAME - suffix.len()).collect();
    format!("{}{suffix}", kept.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::drill::{DrillCheck, ExecCheck};
    use crate::plan::failover::first_record::first_day;

    const HOUR: i64 = 3_600;

    fn spec(checks: usize) -> DrillSpec {
        let exec = || ExecCheck { selector: [].into(), container: None, command: vec!["true".to_owned()] };
        let check = |n| DrillCheck { name: format!("check-{n}"), exec: exec(), timeout_seconds: 60 };
        DrillSpec {
            embassy: "land".to_owned(),
            recovery_point: None,
            checks: (0..checks).map(check).collect(),
            exclude: vec![],
            timeout: "30m".to_owned(),
            serve: None,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn result(name: &str, passed: bool) -> CheckResult {
        CheckResult { name: name.to_owned(), passed, message: "2 rows".to_owned() }
    }

    #[test]
    fn steps_follow_what_is_written_down() {
        let (spec, now) = (spec(1), at(HOUR + 60));
        let mut status = DrillStatus::default();
        let mut steps = vec![];
        let time = Some(Time(at(HOUR)));
        let marks: [fn(&mut DrillStatus, Option<Time>); 6] = [
            |status, time| status.started_at = time,
            |status, time| status.restored_at = time,
            |status, time| status.applied_at = time,
            |status, time| status.ready_at = time,
            |status, _| status.checks.push(result("rows", true)),
            |status, _| status.passed = Some(true),
        ];
        for mark in marks {
            steps.push(next(&spec, &status, None, now));
            mark(&mut status, time.clone());
        }
        assert_eq!(&steps[..5], [Step::Begin, Step::Restore, Step::Apply, Step::Start, Step::Check]);
        assert!(matches!(steps[5], Step::Conclude { passed: true, .. }), "{steps:?}");
        assert_eq!(next(&spec, &status, None, now), Step::CleanUp);
        status.phase = Some(DrillPhase::Passed);
        assert_eq!(next(&spec, &status, None, now), Step::Nothing);
    }

    #[test]
    fn a_failed_check_fails_the_drill_by_name() {
        let status = DrillStatus {
            checks: vec![result("rows", true), result("sums", false)],
            ready_at: Some(Time(at(HOUR))),
            started_at: Some(Time(at(HOUR))),
            restored_at: Some(Time(at(HOUR))),
            applied_at: Some(Time(at(HOUR))),
            ..DrillStatus::default()
        };
        let Step::Conclude { passed, message } = next(&spec(2), &status, None, at(HOUR)) else { panic!() };
        assert!(!passed && message.contains("check sums failed: 2 rows"), "{message}");
    }

    #[test]
    fn one_that_takes_too_long_or_stands_in_the_way_ends_and_is_cleaned_up() {
        let status = DrillStatus { started_at: Some(Time(at(HOUR))), ..DrillStatus::default() };
        let failed = |step| matches!(step, Step::Conclude { passed: false, .. });
        assert!(failed(next(&spec(0), &status, None, at(HOUR + 1_801))));
        assert!(failed(next(&spec(0), &status, Some("this site is Promoting"), at(HOUR))));
        assert_eq!(next(&spec(0), &status, None, at(HOUR + 1_799)), Step::Restore);
        let concluded = DrillStatus { passed: Some(false), ..status };
        assert_eq!(next(&spec(0), &concluded, Some("this site is Promoting"), at(9 * HOUR)), Step::CleanUp);
    }

    #[test]
    fn a_site_that_changes_its_role_does_not_rehearse() {
        let mut record = first_day("tallinn", "luxembourg");
        assert_eq!(hindrance(&record, false), None);
        assert!(hindrance(&record, true).unwrap().contains("suspend"));
        record.role = Role::Demoting;
        assert!(hindrance(&record, false).unwrap().contains("Demoting"));
        record.role = Role::Active;
        record.human_fence = true;
        assert!(hindrance(&record, false).is_some());
    }

    #[test]
    fn names_fit_and_stay_apart() {
        let one = namespace_name(&"n".repeat(63), "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9");
        let other = namespace_name(&"n".repeat(63), "ffffffff-4e5f-6071-8293-a4b5c6d7e8f9");
        assert!(one.len() <= 63 && one != other && one.ends_with("-drill-0a1b2c3d4e5f"), "{one}");
        assert_eq!(namespace_name("land", "0a1b"), "land-drill-0a1b");
    }

    #[test]
    fn what_serves_readers_stays_until_it_is_hindered_and_must_be_ready_soon() {
        let at = |minute: i64| Timestamp::from_second(1_700_000_000 + minute * 60).unwrap();
        let spec = DrillSpec {
            serve: Some(crate::api::reading::Serve::default()),
            timeout: "7d".to_owned(),
            ..spec(0)
        };
        let time = |minute| Some(Time(at(minute)));
        let started = DrillStatus {
            started_at: time(0),
            restored_at: time(100),
            applied_at: time(101),
            message: Some("the workload starts".to_owned()),
            ..DrillStatus::default()
        };
        assert_eq!(next(&spec, &started, None, at(105)), Step::Start);
        let late = next(&spec, &started, None, at(112));
        assert!(matches!(late, Step::Conclude { passed: false, message } if message.contains("within 10m")));
        let ready = DrillStatus { ready_at: time(102), ..started };
        assert_eq!(next(&spec, &ready, None, at(103)), Step::Serve);
        let serves = DrillStatus { phase: Some(DrillPhase::Serving), ..ready };
        assert_eq!(next(&spec, &serves, None, at(1_000_000)), Step::Serve, "no time ends it");
        let over = next(&spec, &serves, Some("this site is Promoting"), at(103));
        assert!(
            matches!(over, Step::Conclude { passed: true, message } if message == "no longer served: this site is Promoting")
        );
    }
}
