//! When the next recovery point and the next verification are due, and which points stay as objects in the cluster.

use std::{collections::BTreeSet, time::Duration};

use cronexpr::{FallbackTimezoneOption, MakeTimestamp, ParseOptions, parse_crontab_with};
use k8s_openapi::jiff::{Timestamp, civil::Date, tz::TimeZone};
use sha2::{Digest, Sha256};

use crate::api::replication::Retention;

/// A copy is begun after this share of the RPO, so that it is committed before the RPO has passed.
const SHARE_OF_RPO: f64 = 0.5;
/// Embassies are spread over this share of the interval, so that they do not all copy at once.
const JITTER: f64 = 0.1;

/// Time from the cut of one recovery point to the next: half the RPO, less up to a tenth of it by the embassy's identity.
#[must_use]
pub fn interval(rpo: Duration, identity: &str) -> Duration {
    let digest = Sha256::digest(identity.as_bytes());
    let fraction = f64::from(u16::from_be_bytes([digest[0], digest[1]])) / f64::from(u16::MAX);
    rpo.mul_f64(SHARE_OF_RPO * (1.0 - JITTER * fraction))
}

/// How long until the next copy is due; zero means now. A last cut in the future (a clock that was set back) counts as
/// unknown: copying once too often is harmless.
#[must_use]
pub fn due_in(last_cut: Option<Timestamp>, now: Timestamp, interval: Duration) -> Duration {
    let Some(age) = last_cut.and_then(|cut| Duration::try_from(now.duration_since(cut)).ok()) else {
        return Duration::ZERO;
    };
    interval.saturating_sub(age)
}

/// The next time of a cron schedule; UTC unless it names a zone. `H` stands for a number that follows from the identity.
pub fn next_of(schedule: &str, identity: &str, after: Timestamp) -> Result<Timestamp, String> {
    let digest = Sha256::digest(identity.as_bytes());
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::UTC;
    options.hashed_value = Some(u64::from(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])));
    let crontab = parse_crontab_with(schedule, options).map_err(|error| error.to_string())?;
    let next = crontab.find_next(MakeTimestamp(after)).map_err(|error| error.to_string())?;
    Ok(next.timestamp())
}

/// Delay before trying again after so many failures in a row: 10 s doubling to a quarter of the RPO, at least 10 s.
#[must_use]
pub fn retry_after(failures: u32, rpo: Duration) -> Duration {
    let first = Duration::from_secs(10);
    let most = (rpo / 4).max(first);
    first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16))).min(most)
}

/// Indexes of the recovery points that stay, given their cuts from newest to oldest: the newest `keep_last`, and the
/// newest of each of the last `daily` days and `weekly` weeks (UTC, weeks begin on Monday) that have any.
#[must_use]
pub fn kept(cuts: &[Timestamp], retention: &Retention) -> BTreeSet<usize> {
    let count = |n: i64| usize::try_from(n).unwrap_or(0);
    let mut kept: BTreeSet<usize> = (0..cuts.len().min(count(retention.keep_last))).collect();
    kept.extend(newest_of_each(cuts, count(retention.daily), day));
    kept.extend(newest_of_each(cuts, count(retention.weekly), week));
    kept
}

fn newest_of_each(cuts: &[Timestamp], periods: usize, period: fn(Timestamp) -> Date) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    cuts.iter()
        .enumerate()
        .filter(|(_, cut)| seen.insert(period(**cut)))
        .map(|(index, _)| index)
        .take(periods)
        .collect()
}

fn day(cut: Timestamp) -> Date {
    cut.to_zoned(TimeZone::UTC).date()
}

/// The Monday of the week.
fn week(cut: Timestamp) -> Date {
    let date = day(cut);
    let since_monday = i64::from(date.weekday().to_monday_zero_offset());
    date.saturating_sub(k8s_openapi::jiff::Span::new().days(since_monday))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::tz::TimeZoneDatabase;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn the_interval_leaves_time_to_commit_within_the_rpo() {
        for identity in ["a/b", "registers/land", "x/y"] {
            let made = interval(HOUR, identity);
            assert!(made <= HOUR / 2 && made >= HOUR.mul_f64(0.44), "{identity}: {made:?}");
            assert_eq!(made, interval(HOUR, identity), "the schedule must not move by itself");
        }
    }

    #[test]
    fn a_copy_is_due_at_once_without_a_last_one_or_after_a_clock_set_back() {
        assert_eq!(due_in(None, at(1_000), HOUR), Duration::ZERO);
        assert_eq!(due_in(Some(at(2_000)), at(1_000), HOUR), Duration::ZERO);
        assert_eq!(due_in(Some(at(1_000)), at(1_600), HOUR), Duration::from_mins(50));
        assert_eq!(due_in(Some(at(1_000)), at(9_000), HOUR), Duration::ZERO);
    }

    #[test]
    fn cron_schedules_are_utc_and_spread() {
        // 1 700 000 000 is 2023-11-14 22:13:20 UTC.
        let next = |schedule: &str, identity: &str| next_of(schedule, identity, at(1_700_000_000));
        assert_eq!(next("0 3 * * *", "a/b").unwrap().to_string(), "2023-11-15T03:00:00Z");
        assert_eq!(next("0 3 * * * Europe/Tallinn", "a/b").unwrap().to_string(), "2023-11-15T01:00:00Z");
        assert_eq!(next("*/5 * * * *", "a/b").unwrap().to_string(), "2023-11-14T22:15:00Z");
        assert_eq!(next("H 3 * * *", "a/b"), next("H 3 * * *", "a/b"));
        assert_ne!(next("H 3 * * *", "a/b"), next("H 3 * * *", "registers/land"));
        for wrong in ["0 25 * * *", "daily", "0 3 * *", "", "0 0 30 2 *", "0 3 * * * Nowhere/At_All"] {
            assert!(next(wrong, "a/b").is_err(), "{wrong}");
        }
    }

    #[test]
    fn retries_slow_down_and_stay_below_the_rpo() {
        assert_eq!(retry_after(1, HOUR), Duration::from_secs(10));
        assert_eq!(retry_after(3, HOUR), Duration::from_secs(40));
        assert_eq!(retry_after(60, HOUR), HOUR / 4);
        assert_eq!(retry_after(60, Duration::from_secs(30)), Duration::from_secs(10));
    }

    #[test]
    fn retention_keeps_the_newest_of_each_period() {
        let hourly: Vec<Timestamp> = (0..24 * 30).map(|hour| at(1_700_000_000 - hour * 3_600)).collect();
        let retention = Retention { keep_last: 3, daily: 2, weekly: 2, ..Retention::default() };
        let kept: Vec<Timestamp> = kept(&hourly, &retention).into_iter().map(|index| hourly[index]).collect();
        assert_eq!(&kept[..3], &hourly[..3]);
        // 1 700 000 000 is Tuesday 2023-11-14 22:13 UTC: yesterday's newest is also neither week's newest.
        assert_eq!(kept.len(), 5, "{kept:?}");
        assert_eq!(day(kept[3]).to_string(), "2023-11-13");
        assert_eq!(day(kept[4]).to_string(), "2023-11-12", "the newest of the week before is its Sunday");
    }

    #[test]
    fn time_zones_are_in_the_program() {
        let known = TimeZoneDatabase::bundled().get("Europe/Tallinn");
        assert!(known.is_ok(), "the image has no files of them: {known:?}");
    }

    #[test]
    fn nothing_is_kept_of_nothing() {
        assert!(kept(&[], &Retention::default()).is_empty());
    }
}
