//! A bound on bytes a second, shared fairly by all who move bytes.
//!
//! Whoever comes first goes first, a message at a time, so that many streams share what there is evenly. What nobody used
//! is lost, but for a moment's worth: a link that was idle must not be flooded afterwards.

use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// Bytes that may pass at once after a pause.
const BURST_BYTES: u64 = 1 << 20;

/// The same as a time, for slow links.
const BURST: Duration = Duration::from_millis(100);

/// Lets bytes pass at a bounded rate. Clones share it.
#[derive(Debug, Clone)]
pub struct Pace {
    bound: Option<Arc<Bound>>,
}

#[derive(Debug)]
struct Bound {
    bytes_per_s: u64,
    /// When all that was let through has passed at that rate. The lock's queue is the order of those who wait.
    passed_at: Mutex<Instant>,
}

impl Pace {
    /// A pace of so many bytes a second; no bound if `None` or none.
    pub fn new(bytes_per_s: Option<u64>) -> Self {
        let bytes_per_s = bytes_per_s.filter(|bytes_per_s| *bytes_per_s > 0);
        let bound = bytes_per_s.map(|bytes_per_s| {
            Arc::new(Bound {
                bytes_per_s,
                passed_at: Mutex::new(Instant::now()),
            })
        });
        Self { bound }
    }

    /// Waits until so many bytes may pass. Given up while it waits, it has taken nothing.
    pub async fn take(&self, bytes: usize) {
        let Some(bound) = &self.bound else {
            return;
        };
        let mut passed_at = bound.passed_at.lock().await;
        let earliest = *passed_at - bound.time_of(BURST_BYTES).min(BURST);
        sleep_until(earliest).await;
        *passed_at = Instant::now().max(*passed_at) + bound.time_of(bytes as u64);
    }
}

impl Bound {
    fn time_of(&self, bytes: u64) -> Duration {
        let ns = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s);
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate_and_no_faster_after_a_pause() {
        let pace = Pace::new(Some(1_000_000));
        for _ in 0..2 {
            let begun = Instant::now();
            for _ in 0..100 {
                pace.take(100_000).await;
            }
            let took = begun.elapsed();
            // Ten megabytes, less the burst and the message that is under way at the end.
            assert!(took >= Duration::from_millis(9_700), "{took:?}");
            assert!(took <= Duration::from_millis(10_000), "{took:?}");
            tokio::time::sleep(Duration::from_secs(1000)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_get_the_same() {
        let pace = Pace::new(Some(1 << 20));
        let takers = (0..4).map(|_| {
            let pace = pace.clone();
            async move {
                for _ in 0..10 {
                    pace.take(256 << 10).await;
                }
                Instant::now()
            }
        });
        let begun = Instant::now();
        let ended = futures::future::join_all(takers).await;
        let first = ended.iter().min().unwrap().duration_since(begun);
        let last = ended.iter().max().unwrap().duration_since(begun);
        // Each has two messages more or fewer than the others at any time: the first came before there was a queue.
        assert!(
            last - first <= Duration::from_millis(1_500),
            "{first:?} {last:?}"
        );
        assert!(last >= Duration::from_millis(9_500), "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_took_nothing_and_no_bound_is_no_wait() {
        let begun = Instant::now();
        Pace::new(None).take(usize::MAX).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let pace = Pace::new(Some(1000));
        pace.take(1000).await;
        for _ in 0..10 {
            let waiting = pace.take(1_000_000);
            let given_up = tokio::time::timeout(Duration::from_millis(1), waiting).await;
            assert!(given_up.is_err());
        }
        pace.take(1).await;
        assert!(begun.elapsed() <= Duration::from_secs(1));
    }
}
