//! How long tries may run. The broker keeps their limits too, but it may be away.
//!
//! A try's time begins with its kernel, and not when it was given to the slots: there it may wait behind another. So a
//! clock that is due is looked at, and runs on if its kernel began later than thought.

use crate::attempt::{AttemptKey, failure};
use dewar_proto::v1;
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::Instant;

/// Longer limits count as this one: no worker process lives to see its end.
const LIMIT_MAX: Duration = Duration::from_secs(365 * 86_400);

/// How long one try may run, and since when it does.
#[derive(Debug, Clone)]
pub(crate) struct TimeLimit {
    limit: Duration,
    begun: Arc<OnceLock<Instant>>,
}

impl TimeLimit {
    /// None if the task may take as long as it likes.
    pub(crate) fn of(spec: &v1::TaskSpec) -> Option<Self> {
        let limit = Duration::from_millis(spec.time_limit_ms).min(LIMIT_MAX);
        (!limit.is_zero()).then(|| Self {
            limit,
            begun: Arc::default(),
        })
    }

    /// The kernel begins.
    pub(crate) fn begin(&self) {
        self.begun.get_or_init(Instant::now);
    }

    fn ends_at(&self) -> Option<Instant> {
        Some(*self.begun.get()? + self.limit)
    }

    fn failure(&self) -> v1::Failure {
        let limit_ms = self.limit.as_millis();
        let message = format!("still running after its limit of {limit_ms} ms");
        failure(v1::FailureClass::TimedOut, &message)
    }
}

/// The clocks of tries that slots have and that are limited: never more than the slots are given.
#[derive(Default)]
pub(crate) struct Clocks(HashMap<AttemptKey, Clock>);

struct Clock {
    limit: TimeLimit,
    /// When to look at it.
    due: Instant,
}

impl Clocks {
    /// Begins to watch a try that a slot gets.
    pub(crate) fn watch(&mut self, key: AttemptKey, limit: TimeLimit) {
        let due = Instant::now() + limit.limit;
        self.0.insert(key, Clock { limit, due });
    }

    pub(crate) fn forget(&mut self, key: AttemptKey) {
        self.0.remove(&key);
    }

    /// When [`Clocks::take_over`] is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.0.values().map(|clock| clock.due).min()
    }

    /// Tries whose time is over, and what they failed of.
    pub(crate) fn take_over(&mut self) -> Vec<(AttemptKey, v1::Failure)> {
        let now = Instant::now();
        for clock in self.0.values_mut().filter(|clock| clock.due <= now) {
            let ends_at = clock.limit.ends_at();
            clock.due = ends_at.unwrap_or(now + clock.limit.limit);
        }
        let over = self.0.extract_if(|_, clock| clock.due <= now);
        over.map(|(key, clock)| (key, clock.limit.failure()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_begins_with_the_kernel() {
        let spec = v1::TaskSpec {
            time_limit_ms: 100,
            ..Default::default()
        };
        let task = v1::TaskRef {
            job_id: vec![7; 16],
            index: 1,
        };
        let attempt = v1::AttemptId::default();
        let key = AttemptKey::from_wire(Some(&task), Some(&attempt)).unwrap();
        let limit = TimeLimit::of(&spec).unwrap();
        let mut clocks = Clocks::default();
        clocks.watch(key, limit.clone());
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(clocks.take_over().is_empty(), "it waits behind another");
        tokio::time::advance(Duration::from_millis(70)).await;
        limit.begin();
        tokio::time::advance(Duration::from_millis(30)).await;
        assert!(clocks.take_over().is_empty(), "it began late");
        tokio::time::sleep_until(clocks.next_due().unwrap()).await;
        let over = clocks.take_over();
        assert_eq!(over.len(), 1);
        assert!(over[0].1.message.contains("limit of 100 ms"));
        assert_eq!(clocks.next_due(), None);
    }

    #[test]
    fn no_limit_is_none_and_the_longest_does_no_harm() {
        let of = |time_limit_ms| {
            TimeLimit::of(&v1::TaskSpec {
                time_limit_ms,
                ..Default::default()
            })
        };
        assert!(of(0).is_none());
        let longest = of(u64::MAX).unwrap();
        longest.begin();
        assert!(longest.ends_at() > Some(Instant::now()));
    }
}
