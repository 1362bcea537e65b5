//! Times as people read them.

pub use dewar_settings::rounded_time as duration;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long ago a time in milliseconds since 1970 is; nothing if it lies ahead, as clocks differ.
pub fn since_unix_ms(unix_ms: u64) -> Duration {
    let then = UNIX_EPOCH + Duration::from_millis(unix_ms);
    SystemTime::now().duration_since(then).unwrap_or_default()
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
    fn a_clock_ahead_of_ours_is_now() {
        assert_eq!(since_unix_ms(u64::MAX / 2), Duration::ZERO);
    }
}
