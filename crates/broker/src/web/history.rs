//! The last quarter of an hour in samples: what the charts draw, and how long jobs will take as things go.

use super::Site;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often a sample is taken.
pub(super) const EVERY: Duration = Duration::from_secs(2);

/// Samples kept: a quarter of an hour.
pub(super) const SAMPLE_COUNT: usize = 450;

/// How long jobs will take is told by their pace over this.
const PACE_OVER: Duration = Duration::from_secs(60);

/// Rates that are told as they are now are means over this.
const NOW_OVER: Duration = Duration::from_secs(10);

/// How often reports of forgotten jobs are looked for.
const SWEEP_EVERY: u32 = 30;

/// Counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) outcomes: u64,
    pub(super) from_broker_bytes: u64,
    pub(super) from_peers_bytes: u64,
}

/// How much a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) outcomes: f64,
    pub(super) from_broker_bytes: f64,
    pub(super) from_peers_bytes: f64,
}

#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<(Instant, Totals)>,
    /// Ended tasks of unfinished jobs, over the time by which their pace is told.
    jobs: VecDeque<(Instant, HashMap<u64, u64>)>,
}

impl History {
    fn push(&mut self, at: Instant, totals: Totals, jobs: HashMap<u64, u64>) {
        self.samples.push_back((at, totals));
        if self.samples.len() > SAMPLE_COUNT {
            self.samples.pop_front();
        }
        self.jobs.push_back((at, jobs));
        while self.jobs.len() > 2 && at - self.jobs[1].0 >= PACE_OVER {
            self.jobs.pop_front();
        }
    }

    /// Rates between one sample and the next, the newest last.
    pub(super) fn rates(&self) -> Vec<Rates> {
        let next = self.samples.iter().skip(1);
        let pairs = self.samples.iter().zip(next);
        pairs
            .map(|(before, after)| Rates::between(before, after))
            .collect()
    }

    /// Rates as they are now.
    pub(super) fn now(&self) -> Rates {
        let Some(last) = self.samples.back() else {
            return Rates::default();
        };
        let first = self.samples.iter().find(|(at, _)| last.0 - *at <= NOW_OVER);
        first.map_or_else(Rates::default, |first| Rates::between(first, last))
    }

    /// How long so many tasks of a job will take, by how many of them ended lately. None if none did.
    pub(super) fn time_left(&self, job: u64, unfinished_count: u64) -> Option<Duration> {
        let (last_at, last) = self.jobs.back()?;
        let now = *last.get(&job)?;
        let known = self
            .jobs
            .iter()
            .find_map(|(at, jobs)| Some((*at, *jobs.get(&job)?)));
        let (first_at, first) = known?;
        let done = now.checked_sub(first).filter(|done| *done > 0)?;
        let seconds = (*last_at - first_at).as_secs_f64();
        Duration::try_from_secs_f64(unfinished_count as f64 * seconds / done as f64).ok()
    }
}

impl Rates {
    fn between(before: &(Instant, Totals), after: &(Instant, Totals)) -> Self {
        let seconds = (after.0 - before.0).as_secs_f64();
        let rate = |count: fn(&Totals) -> u64| {
            let more = count(&after.1).saturating_sub(count(&before.1));
            if seconds > 0.0 {
                more as f64 / seconds
            } else {
                0.0
            }
        };
        Self {
            outcomes: rate(|totals| totals.outcomes),
            from_broker_bytes: rate(|totals| totals.from_broker_bytes),
            from_peers_bytes: rate(|totals| totals.from_peers_bytes),
        }
    }
}

/// Takes samples, and drops what forgotten jobs left, until told to stop.
pub(super) async fn keep(site: Arc<Site>, stop: CancellationToken) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0_u32.. {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return,
        }
        let Some((totals, jobs)) = sample(&site).await else {
            return;
        };
        site.history().push(Instant::now(), totals, jobs);
        if number.is_multiple_of(SWEEP_EVERY) && site.sweep_reports().await.is_err() {
            return;
        }
    }
}

async fn sample(site: &Site) -> Option<(Totals, HashMap<u64, u64>)> {
    let sources = &site.sources;
    let moved = sources
        .swarm
        .look(|tracker, _| tracker.moved())
        .await
        .ok()?;
    let jobs = site.look(|view| {
        let unfinished = view.queue.jobs().filter(|job| !job.is_finished());
        let ended = unfinished.map(|job| {
            let counts = job.counts();
            let ended = counts.succeeded + counts.failed + counts.cancelled;
            (job.number().0, ended)
        });
        ended.collect()
    });
    let jobs = jobs.await.ok()?;
    let totals = Totals {
        outcomes: sources.engine.meter().outcome_count(),
        from_broker_bytes: moved.from_broker_bytes,
        from_peers_bytes: moved.from_peers_bytes,
    };
    Some((totals, jobs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(outcomes: u64) -> Totals {
        Totals {
            outcomes,
            from_broker_bytes: 1000 * outcomes,
            from_peers_bytes: 0,
        }
    }

    fn history(counts: &[u64]) -> History {
        let start = Instant::now();
        let mut history = History::default();
        for (at, count) in (0..).zip(counts) {
            let jobs = [(7, *count)].into_iter().collect();
            history.push(start + EVERY * at, totals(*count), jobs);
        }
        history
    }

    #[test]
    fn rates_are_told_by_what_was_done_between() {
        let history = history(&[0, 10, 10, 40]);
        let outcomes: Vec<_> = history.rates().iter().map(|rate| rate.outcomes).collect();
        assert_eq!(outcomes, [5.0, 0.0, 15.0]);
        assert_eq!(history.now().outcomes, 40.0 / 6.0);
        assert_eq!(history.now().from_broker_bytes, 40_000.0 / 6.0);
    }

    #[test]
    fn time_left_follows_the_pace_and_is_unknown_without_one() {
        let check = |counts: &[u64], job, unfinished| history(counts).time_left(job, unfinished);
        let six_seconds = check(&[0, 10, 20, 30], 7, 30);
        assert_eq!(six_seconds, Some(Duration::from_secs(6)));
        assert_eq!(check(&[5, 5, 5], 7, 30), None, "stands still");
        assert_eq!(check(&[0, 10], 8, 30), None, "another job");
        assert_eq!(check(&[9, 3], 7, 30), None, "rerun");
        assert_eq!(check(&[], 7, 30), None);
    }

    #[test]
    fn samples_without_end_take_no_more_room() {
        let counts: Vec<u64> = (0..2000).collect();
        let history = history(&counts);
        assert_eq!(history.samples.len(), SAMPLE_COUNT);
        assert!(history.jobs.len() <= 32);
    }
}
