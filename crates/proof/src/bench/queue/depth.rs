//! A million waiting tasks: memory, restart, and whether dispatch gets slower with depth.

use super::{Bench, machine::resident_mb, report::Target, throughput::SMALL_BYTES};
use crate::{
    bench::median,
    lab::{Lab, noops},
};
use anyhow::Result;
use dewar_sdk::Job;
use std::time::Instant;

/// Tasks whose dispatch is timed, and all that wait in the shallow queue.
const TIMED_COUNT: u64 = 10_000;

/// Dispatch is timed so often in each queue, by turns, and the medians are compared: one time is a tenth of a second.
const TRIES: usize = 15;

impl Bench {
    pub(super) async fn depth(&mut self) -> Result<()> {
        let lab = Lab::open(&self.dir)?;
        let count = self.count(1_000_000).max(TIMED_COUNT * 4 * TRIES as u64);
        let job = lab.job().await?;
        job.submit_all(noops(count, SMALL_BYTES)).await?;
        let name = |what: &str| format!("{count} waiting: {what}");
        self.report.add(
            name("broker's resident memory"),
            resident_mb(lab.broker.pid())?,
            "MB",
            Some(Target::AtMost(400.0)),
        );
        let (lab, taken) = lab.restart()?;
        self.report.add(
            name("restart to serving"),
            taken.as_secs_f64(),
            "s",
            Some(Target::AtMost(5.0)),
        );
        self.report.add(
            name("resident memory after the restart"),
            resident_mb(lab.broker.pid())?,
            "MB",
            Some(Target::AtMost(400.0)),
        );
        // The broker's port may be another one now.
        let client = lab.client().await?;
        let options = dewar_sdk::JobOptions {
            id: Some(job.id()),
            ..Default::default()
        };
        let job = client.open_job(options).await?;
        let shallow_lab = Lab::open(&self.dir)?;
        let shallow_job = shallow_lab.job().await?;
        let (mut shallow, mut deep) = (Vec::new(), Vec::new());
        for _ in 0..TRIES {
            shallow_job
                .submit_all(noops(TIMED_COUNT, SMALL_BYTES))
                .await?;
            shallow.push(dispatch_rate(&shallow_lab, &shallow_job).await?);
            deep.push(dispatch_rate(&lab, &job).await?);
        }
        let (shallow, deep) = (median(shallow), median(deep));
        self.report
            .add("10000 waiting: dispatch", shallow, "tasks/s", None);
        self.report.add(
            name("dispatch (within 20 %)"),
            deep,
            "tasks/s",
            Some(Target::AtLeast(shallow * 0.8)),
        );
        Ok(())
    }
}

/// Tasks that end in a second, from the first outcome on: a worker's start is not dispatch. Each try has a new
/// worker, which begins to take tasks only when as many wait as should.
async fn dispatch_rate(lab: &Lab, job: &Job) -> Result<f64> {
    // What ended in an earlier try after it was timed is not counted in this one.
    let mut outcomes = job.outcomes_after(job.status().await?.outcome_count());
    let worker = lab.worker(2)?;
    outcomes.next().await?;
    let started = Instant::now();
    for _ in 1..TIMED_COUNT {
        outcomes.next().await?;
    }
    let rate = (TIMED_COUNT - 1) as f64 / started.elapsed().as_secs_f64();
    worker.stop()?;
    Ok(rate)
}
