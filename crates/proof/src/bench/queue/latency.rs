//! One task after another: how long from submit to outcome, both durable.

use super::{Bench, commits::Percentiles, report::Target, throughput::warm_up};
use crate::lab::{Lab, noops};
use anyhow::Result;
use std::time::Instant;

impl Bench {
    pub(super) async fn latency(&mut self) -> Result<()> {
        let lab = Lab::open(&self.dir)?;
        let _worker = lab.worker(2)?;
        let job = lab.job().await?;
        let known = warm_up(&job).await?;
        let mut outcomes = job.outcomes_after(known);
        let mut ms = Vec::new();
        for _ in 0..self.count(1000) {
            let started = Instant::now();
            job.submit_all(noops(1, 0)).await?;
            outcomes.next().await?;
            ms.push(started.elapsed().as_secs_f64() * 1e3);
        }
        let taken = Percentiles::of(ms);
        let store = self.commits.store;
        self.report.add(
            "one task after another, p50 (2 C50 + 1 ms)",
            taken.p50,
            "ms",
            Some(Target::AtMost(2.0 * store.p50 + 1.0)),
        );
        self.report.add(
            "one task after another, p99 (2 C99 + 5 ms)",
            taken.p99,
            "ms",
            Some(Target::AtMost(2.0 * store.p99 + 5.0)),
        );
        Ok(())
    }
}
