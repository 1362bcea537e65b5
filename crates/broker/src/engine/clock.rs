//! The queue's clocks: a monotonic one that runs only while the broker does its work, and the wall's.

use dewar_queue::{Now, Timestamp};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// A pause longer than this between two readings was the broker's own absence: a suspended machine, a stalled disk.
///
/// The engine reads the clock twice a second at least. Time of absence is not counted, so that it costs no worker its lease.
const ABSENCE: Duration = Duration::from_secs(5);

pub(super) struct Clock {
    read_at: Instant,
    present: Duration,
    wall: Box<dyn Fn() -> u64 + Send>,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            read_at: Instant::now(),
            // Zero means the past to the queue.
            present: Duration::from_millis(1),
            wall: Box::new(unix_ms),
        }
    }

    pub(super) fn set_wall(&mut self, unix_ms: impl Fn() -> u64 + Send + 'static) {
        self.wall = Box::new(unix_ms);
    }

    pub(super) fn now(&mut self) -> Now {
        let read_at = Instant::now();
        let gap = read_at - self.read_at;
        self.read_at = read_at;
        if gap > ABSENCE {
            tracing::warn!(
                gap_ms = gap.as_millis(),
                "the broker was away; leases are extended"
            );
        } else {
            self.present += gap;
        }
        Now {
            at: Timestamp(self.present.as_millis().try_into().unwrap_or(u64::MAX)),
            unix_ms: (self.wall)(),
        }
    }

    /// When the queue's clock will show this, if the broker is present until then.
    pub(super) fn instant_of(&self, at: Timestamp) -> Instant {
        self.read_at + Duration::from_millis(at.0).saturating_sub(self.present)
    }
}

/// The wall clock.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis().try_into().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn absence_is_not_counted() {
        let mut clock = Clock::new();
        let start = clock.now().at;
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(clock.now().at, start.after_ms(4000));
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(clock.now().at, start.after_ms(4000));
        let later = clock.instant_of(start.after_ms(5000));
        assert_eq!(later - Instant::now(), Duration::from_secs(1));
    }
}
