//! Times as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long ago a time in milliseconds since 1970 is; nothing if it lies ahead, as clocks differ.
pub fn since_unix_ms(unix_ms: u64) -> Duration {
    let then = UNIX_EPOCH + Duration::from_millis(unix_ms);
    SystemTime::now().duration_since(then).unwrap_or_default()
}

/// A length of time in its two largest units: `3 d 4 h`, `2 min 5 s`, `0.4 s`.
pub fn duration(length: Duration) -> String {
    let s = length.as_secs();
    match s {
        0..10 => format!("{:.1} s", length.as_secs_f64()),
        10..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3600 % 24),
    }
}

/// Hours, minutes and seconds of a moment in UTC: `14:03:10`.
pub fn time_of_day_utc(moment: SystemTime) -> String {
    let s = moment
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
        % 86_400;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_by_its_time_of_day() {
        let moment = UNIX_EPOCH + Duration::from_secs(86_400 * 20_000 + 50_590);
        assert_eq!(time_of_day_utc(moment), "14:03:10");
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
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn a_clock_ahead_of_ours_is_now() {
        assert_eq!(since_unix_ms(u64::MAX / 2), Duration::ZERO);
    }
}
