//! Sizes and times as people read them, the same on every surface.

use std::time::Duration;

/// Three digits are plenty for a glance: `4.8 MiB`.
#[must_use]
pub fn rounded_size(bytes: u64) -> String {
    let units = [
        (1 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} bytes"),
    }
}

/// A length of time in its two largest units: `3 d 4 h`, `2 min 5 s`, `0.4 s`.
#[must_use]
pub fn rounded_time(length: Duration) -> String {
    let s = length.as_secs();
    match s {
        0..10 => format!("{:.1} s", length.as_secs_f64()),
        10..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_told_in_its_largest_unit() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.5 KiB"),
            (5_000_000, "4.8 MiB"),
            (16 << 40, "16.0 TiB"),
        ] {
            assert_eq!(rounded_size(bytes), text);
        }
    }

    #[test]
    fn two_units_are_enough() {
        for (ms, text) in [
            (420, "0.4 s"),
            (59_999, "59 s"),
            (125_000, "2 min 5 s"),
            (7_260_000, "2 h 1 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(rounded_time(Duration::from_millis(ms)), text);
        }
    }
}
