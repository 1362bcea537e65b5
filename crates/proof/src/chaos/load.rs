//! A customer with many small tasks, who knows what each must give, and counts.

use crate::{
    kinds::{Blob, Echo, Nap, Sleep, echo},
    lab::noise,
};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dewar_sdk::{Client, Job, JobOptions, NewTask, Outcome, Outcomes};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Tasks under way: enough to keep every slot busy, few enough to end soon when the chaos does.
const UNDER_WAY_MAX: u64 = 400;

/// Tasks of one submit.
const SUBMIT_COUNT: u64 = 25;

/// Tasks of one job, about; then it is closed and another opened.
const JOB_COUNT: u64 = 2500;

/// What the customer did.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) accepted_count: AtomicU64,
    pub(super) ended_count: AtomicU64,
    ended: Notify,
}

/// One job, and how many tasks it had.
pub(super) struct Finished {
    job: Job,
    count: u64,
}

impl Load {
    /// Opens job after job until told to stop, and awaits every outcome. All jobs, for [`check_again`].
    pub(super) async fn run(
        self: Arc<Self>,
        client: Client,
        stop: CancellationToken,
    ) -> Result<Vec<Finished>> {
        let mut finished = Vec::new();
        while !stop.is_cancelled() {
            let name = format!("chaos-{}", finished.len());
            let job = client.open_job(JobOptions::named(name)).await?;
            let awaiting = tokio::spawn(self.clone().await_all(job.outcomes()));
            let submitted = self.submit_until(&job, &stop).await;
            let count = submitted.context("a submit was refused")?;
            let ended = awaiting.await??;
            ensure!(
                ended == count,
                "job {} has {count} tasks and {ended} outcomes",
                job.number()
            );
            finished.push(Finished { job, count });
        }
        Ok(finished)
    }

    async fn submit_until(&self, job: &Job, stop: &CancellationToken) -> Result<u64> {
        let mut count = 0;
        while count < JOB_COUNT && !stop.is_cancelled() {
            let tasks = (count..count + SUBMIT_COUNT).map(task).collect();
            let range = job.submit_all(tasks).await?;
            ensure!(
                range.start.0 == count && range.end.0 == count + SUBMIT_COUNT,
                "tasks {count} to {} were numbered {range:?}",
                count + SUBMIT_COUNT
            );
            count += SUBMIT_COUNT;
            let accepted = self
                .accepted_count
                .fetch_add(SUBMIT_COUNT, Ordering::SeqCst)
                + SUBMIT_COUNT;
            loop {
                let ended = self.ended.notified();
                if accepted - self.ended_count.load(Ordering::SeqCst) <= UNDER_WAY_MAX {
                    break;
                }
                ended.await;
            }
        }
        job.close().await?;
        Ok(count)
    }

    async fn await_all(self: Arc<Self>, outcomes: Outcomes) -> Result<u64> {
        let count = check(outcomes, || {
            self.ended_count.fetch_add(1, Ordering::SeqCst);
            self.ended.notify_one();
        });
        let count = count.await;
        if count.is_err() {
            // Whoever waits for these outcomes would wait for ever.
            self.ended_count.store(u64::MAX / 2, Ordering::SeqCst);
            self.ended.notify_one();
        }
        count
    }
}

/// Every outcome of every job once more, by a customer that has seen none of them.
pub(super) async fn check_again(finished: &[Finished]) -> Result<()> {
    for Finished { job, count } in finished {
        let found = check(job.outcomes(), || ()).await?;
        ensure!(
            found == *count,
            "job {} has {count} tasks and {found} outcomes when asked again",
            job.number()
        );
    }
    Ok(())
}

/// Awaits outcomes to their end: in sequence, one for each task, each what its task must give. How many.
pub(crate) async fn check(mut outcomes: Outcomes, mut note: impl FnMut()) -> Result<u64> {
    let mut seen = Vec::new();
    let mut count = 0;
    while let Some(outcome) = outcomes.next().await? {
        count += 1;
        ensure!(
            outcome.sequence == count,
            "outcome {} follows {}",
            outcome.sequence,
            count - 1
        );
        let index = usize::try_from(outcome.index.0)?;
        if seen.len() <= index {
            seen.resize(index + 1, false);
        }
        ensure!(!seen[index], "task {index} has two outcomes");
        seen[index] = true;
        check_value(&outcome)?;
        note();
    }
    ensure!(
        seen.iter().all(|seen| *seen),
        "a task has no outcome although its job is finished"
    );
    Ok(count)
}

fn check_value(outcome: &Outcome) -> Result<()> {
    let given = outcome.output::<Echo>()?.message.bytes;
    let expected = echo(&bytes_of(outcome.index.0));
    ensure!(
        given == expected,
        "task {} gave {} bytes that are not its own",
        outcome.index,
        given.len()
    );
    Ok(())
}

/// The task with this index: most do nothing, some take a moment.
pub(crate) fn task(index: u64) -> NewTask {
    let bytes = bytes_of(index);
    let inputs = Vec::new();
    // However often chaos strikes, it must never be the task's fault.
    if index % 8 == 3 {
        let ms = 20 + index % 200;
        NewTask::new::<Sleep>(&Nap { ms, bytes }, inputs)
    } else {
        NewTask::new::<Echo>(&Blob { bytes }, inputs)
    }
    .attempts_max(100)
}

/// Distinct for every task. Most ride in events, some in pack files, a few are blobs.
fn bytes_of(index: u64) -> Bytes {
    let count = match index % 100 {
        0 => 70_000,
        n if n % 10 == 1 => 6_000,
        n => 8 + n as usize,
    };
    noise(index, count)
}
