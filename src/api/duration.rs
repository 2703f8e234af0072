//! Durations as people write them in manifests: `90s`, `15m`, `1h`, `30d`.

use std::time::Duration;

/// A duration that could not be read; the text says how to write one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a duration: write a whole number and one unit of s, m, h or d, such as 15m")]
pub struct InvalidDuration(String);

/// Reads `<number><s|m|h|d>`; the number is 1 to 999999.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration(text.to_owned());
    let unit = text.chars().next_back().ok_or_else(invalid)?;
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| invalid())?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(invalid()),
    };
    if (1..=999_999).contains(&number) && !text.starts_with('+') {
        Ok(Duration::from_secs(number * seconds))
    } else {
        Err(invalid())
    }
}

/// Writes whole seconds in the largest unit that divides them, so that `3600` reads `1h`.
#[must_use]
pub fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    [(86_400, 'd'), (3_600, 'h'), (60, 'm')]
        .into_iter()
        .find(|(size, _)| seconds > 0 && seconds.is_multiple_of(*size))
        .map_or_else(|| format!("{seconds}s"), |(size, unit)| format!("{}{unit}", seconds / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_unit() {
        for (text, seconds) in [("30s", 30), ("15m", 900), ("1h", 3_600), ("30d", 2_592_000)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
            assert_eq!(format(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn refuses_what_is_not_a_duration() {
        for text in ["", "0s", "m", "15", "1.5h", "-1h", "+1h", "1y", "1h30m", "9999999s", "15µ"] {
            assert!(parse(text).is_err(), "{text} was accepted");
        }
    }
}
