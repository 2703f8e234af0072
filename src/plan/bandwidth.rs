//! In which hours of a day the limit of bandwidth holds.

use std::str::FromStr;

use k8s_openapi::jiff::{Timestamp, civil::Time, tz::TimeZone};

/// Two times of day and the zone that they are in.
#[derive(Debug, Clone, PartialEq)]
pub struct Hours {
    from: Time,
    to: Time,
    zone: TimeZone,
}

impl Hours {
    /// Whether a moment is in them. Hours that end before they begin go through midnight.
    #[must_use]
    pub fn contain(&self, moment: Timestamp) -> bool {
        let time = moment.to_zoned(self.zone.clone()).time();
        if self.from < self.to {
            self.from <= time && time < self.to
        } else {
            self.from <= time || time < self.to
        }
    }
}

impl FromStr for Hours {
    type Err = String;

    /// Reads `07:00-19:00`, in UTC, or `07:00-19:00 Europe/Tallinn`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (hours, zone) = text.split_once(' ').unwrap_or((text, "UTC"));
        let time = |text: &str| Time::strptime("%H:%M", text).ok();
        let ends = hours.split_once('-').and_then(|(from, to)| Some((time(from)?, time(to)?)));
        let (from, to) =
            ends.ok_or_else(|| format!("'{hours}' are no two times of day such as 07:00-19:00"))?;
        let zone = TimeZone::get(zone).map_err(|_| {
            format!("'{zone}' is no time zone; write one such as Europe/Tallinn, or none for UTC")
        })?;
        Ok(Self { from, to, zone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contain(hours: &str, moment: &str) -> bool {
        hours.parse::<Hours>().unwrap().contain(moment.parse().unwrap())
    }

    #[test]
    fn a_working_day_ends_when_it_ends() {
        for (time, inside) in
            [("06:59:59", false), ("07:00:00", true), ("18:59:59", true), ("19:00:00", false)]
        {
            assert_eq!(contain("07:00-19:00", &format!("2026-11-25T{time}Z")), inside, "{time}");
        }
    }

    #[test]
    fn a_night_goes_through_midnight() {
        for (time, inside) in [
            ("21:59:59", false),
            ("22:00:00", true),
            ("00:00:00", true),
            ("05:59:59", true),
            ("06:00:00", false),
        ] {
            assert_eq!(contain("22:00-06:00", &format!("2026-11-25T{time}Z")), inside, "{time}");
        }
    }

    #[test]
    fn a_zone_has_its_summer() {
        let hours = "07:00-19:00 Europe/Tallinn";
        assert!(contain(hours, "2026-11-25T05:00:00Z"), "two hours ahead in winter");
        assert!(!contain(hours, "2026-11-25T04:59:00Z"));
        assert!(contain(hours, "2026-07-25T04:00:00Z"), "three in summer");
    }

    #[test]
    fn what_is_no_hours_is_said() {
        for (text, says) in [
            ("07:00", "'07:00' are no two times of day"),
            ("7-19", "no two times of day"),
            ("07:00-25:00", "no two times of day"),
            ("07:00-19:00 Mars/Olympus", "'Mars/Olympus' is no time zone"),
        ] {
            let error = text.parse::<Hours>().unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
