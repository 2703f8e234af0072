//! Sizes as people read them: `950 bytes`, `12 KiB`, `1.5 GiB`.

/// In the largest binary unit that leaves at least one, with one digit after the point below ten.
#[must_use]
pub fn format(bytes: i64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    // In tenths of a unit, rounded down.
    let mut tenths = i128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < units.len() {
        (tenths, unit) = (tenths / 1024, unit + 1);
    }
    let (whole, tenth) = (tenths / 10, tenths % 10);
    if whole < 10 && tenth > 0 {
        format!("{whole}.{tenth} {}", units[unit])
    } else {
        format!("{whole} {}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::format;

    #[test]
    fn sizes_are_read_at_a_glance() {
        let cases = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (20 * 1024 * 1024 + 500_000, "20 MiB"),
            (1024 * 1024 * 1024, "1 GiB"),
            (i64::MAX, "8388607 TiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(format(bytes), text, "{bytes}");
        }
    }
}
