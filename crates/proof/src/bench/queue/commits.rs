//! The floor: what one durable write costs here, by a plain file and by the broker's own store.

use super::report::Report;
use anyhow::Result;
use dewar_broker::store::{SledStore, Store as _};
use dewar_queue::{Event, JobNumber, Outcome, OutcomeResult, Output, Payload, TaskId};
use std::{fs::File, io::Write as _, path::Path, time::Instant};

/// Commits of each kind: enough for a 99th percentile, some seconds on a slow disk.
const COUNT: u64 = 1000;

/// Bytes of a small event.
const EVENT_BYTES: usize = 200;

/// Times in ms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// What a commit costs.
#[derive(Debug)]
pub(super) struct Commits {
    pub(super) file: Percentiles,
    pub(super) store: Percentiles,
}

impl Commits {
    pub(super) fn measure(dir: &Path) -> Result<Self> {
        let folder = tempfile::tempdir_in(dir)?;
        let mut file = File::create(folder.path().join("file"))?;
        let file = timed(|_| {
            file.write_all(&[7; EVENT_BYTES])?;
            Ok(file.sync_data()?)
        })?;
        let mut store = SledStore::open(&folder.path().join("store"))?;
        let store = timed(|index| Ok(store.append(&[small_event(index)])?))?;
        Ok(Self { file, store })
    }

    pub(super) fn tell(&self, report: &mut Report) {
        for (name, ms) in [
            ("plain file, write + fdatasync p50", self.file.p50),
            ("plain file, write + fdatasync p99", self.file.p99),
            ("store, one-event commit p50 (C50)", self.store.p50),
            ("store, one-event commit p99 (C99)", self.store.p99),
        ] {
            report.add(name, ms, "ms", None);
        }
    }
}

impl Percentiles {
    pub(super) fn of(mut ms: Vec<f64>) -> Self {
        ms.sort_by(f64::total_cmp);
        let at = |part: f64| ms[((ms.len() - 1) as f64 * part).round() as usize];
        Self {
            p50: at(0.5),
            p99: at(0.99),
        }
    }
}

fn timed(mut commit: impl FnMut(u64) -> Result<()>) -> Result<Percentiles> {
    let mut ms = Vec::new();
    for index in 0..COUNT {
        let started = Instant::now();
        commit(index)?;
        ms.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(Percentiles::of(ms))
}

fn small_event(index: u64) -> Event {
    let job = JobNumber(1);
    Event::TaskEnded {
        outcome: Outcome {
            task: TaskId { job, index },
            sequence: index + 1,
            result: OutcomeResult::Succeeded(Output {
                message: Payload::Inline(vec![7; EVENT_BYTES].into()),
                blobs: Vec::new(),
            }),
            worker_name: Some("bench".into()),
            run_ms: 0,
            generation: 0,
            reused: false,
            made_by: None,
        },
        at_unix_ms: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let percentiles = Percentiles::of((1..=101).rev().map(f64::from).collect());
        assert!((percentiles.p50 - 51.0).abs() < 1e-9, "{percentiles:?}");
        assert!((percentiles.p99 - 100.0).abs() < 1e-9, "{percentiles:?}");
    }
}
