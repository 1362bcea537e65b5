//! Many tasks at once: submitted in bulk, run by one worker, with nothing and with 64 KiB to carry.

use super::{Bench, report::Target};
use crate::{
    kinds::{Blob, Echo, echo},
    lab::{Lab, noise, noops},
};
use anyhow::{Result, ensure};
use dewar_sdk::{Job, NewTask};
use std::time::Instant;

/// Parameters of an ordinary small task.
pub(super) const SMALL_BYTES: usize = 200;

/// What is left for the bytes in a message of 64 KiB.
const LARGE_BYTES: usize = (64 << 10) - 4;

impl Bench {
    /// Acknowledged when durable.
    pub(super) async fn submit(&mut self) -> Result<()> {
        let lab = Lab::open(&self.dir)?;
        let count = self.count(1_000_000);
        let job = lab.job().await?;
        let tasks = noops(count, SMALL_BYTES);
        let started = Instant::now();
        job.submit_all(tasks).await?;
        let rate = count as f64 / started.elapsed().as_secs_f64();
        self.report.add(
            format!("bulk submit of {count} tasks of {SMALL_BYTES} bytes"),
            rate,
            "tasks/s",
            Some(Target::AtLeast(250_000.0)),
        );
        Ok(())
    }

    /// From the first task on its way to the last outcome awaited.
    pub(super) async fn noop(&mut self) -> Result<()> {
        let lab = Lab::open(&self.dir)?;
        let _worker = lab.worker(2)?;
        let job = lab.job().await?;
        warm_up(&job).await?;
        let count = self.count(300_000);
        let tasks = noops(count, 0);
        let started = Instant::now();
        run(&job, tasks, |_, _| Ok(())).await?;
        let rate = count as f64 / started.elapsed().as_secs_f64();
        self.report.add(
            format!("{count} no-op tasks end to end, one worker, two slots"),
            rate,
            "tasks/s",
            Some(Target::AtLeast(50_000.0)),
        );
        Ok(())
    }

    pub(super) async fn large(&mut self) -> Result<()> {
        let lab = Lab::open(&self.dir)?;
        let _worker = lab.worker(2)?;
        let job = lab.job().await?;
        let first = warm_up(&job).await?;
        let count = self.count(5_000);
        let tasks = (0..count).map(|seed| {
            let bytes = noise(seed, LARGE_BYTES);
            NewTask::new::<Echo>(&Blob { bytes }, Vec::new())
        });
        let tasks = tasks.collect();
        let started = Instant::now();
        run(&job, tasks, |index, bytes| {
            // Each costs as much to make as to carry: a sample is enough to see that they are the right ones.
            let expected = index % 97 != 0 || bytes == echo(&noise(index - first, LARGE_BYTES));
            ensure!(expected, "task {index} gave another's output");
            Ok(())
        })
        .await?;
        let rate = count as f64 / started.elapsed().as_secs_f64();
        self.report.add(
            format!("{count} tasks, 64 KiB in and 64 KiB out"),
            rate,
            "tasks/s",
            Some(Target::AtLeast(1000.0)),
        );
        Ok(())
    }
}

/// One task, so that the worker is known to be there. The number of tasks afterwards.
pub(super) async fn warm_up(job: &Job) -> Result<u64> {
    run(job, noops(1, 0), |_, _| Ok(())).await?;
    Ok(job.task_count().await)
}

/// Submits tasks and awaits all their outcomes meanwhile, each with what it gave.
async fn run(
    job: &Job,
    tasks: Vec<NewTask>,
    mut check: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let count = tasks.len();
    // Nothing else runs in the job, so every task submitted has had its outcome.
    let mut outcomes = job.outcomes_after(job.task_count().await);
    let submitting = job.submit_all(tasks);
    let awaiting = async {
        for _ in 0..count {
            let outcome = outcomes.next().await?;
            let outcome = outcome.expect("an open job's outcomes do not end");
            let output = outcome.output::<Echo>()?;
            check(outcome.index.0, &output.message.bytes)?;
        }
        anyhow::Ok(())
    };
    let (submitted, awaited) = tokio::join!(submitting, awaiting);
    submitted?;
    awaited
}
