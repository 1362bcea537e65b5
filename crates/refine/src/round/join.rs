//! The sums of poses that are known: every shard inserted once more, each half's shards summed.

use super::{
    ByWorker, Piece, StageSeconds, Start, WorkerSeconds, insert_task, only_blob, sum_task,
};
use crate::{
    error::RefineError,
    progress::{Observer, Progress},
    tasks,
};
use dewar_kernels::{Insert, Sum};
use dewar_sdk::{BlobRef, Digest, Job, Outcomes, TaskIndex};
use std::collections::{BTreeMap, BTreeSet};

/// What inserting everything once more gives.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The total sums of each half. The caller's to release.
    pub totals: [BlobRef; 2],
    /// What its tasks took.
    pub stages: StageSeconds,
    /// Who computed them.
    pub workers: Vec<WorkerSeconds>,
    /// Of the processors that computed them.
    pub instruction_classes: BTreeSet<String>,
}

/// Inserts every particle at the poses that `start` knows of it, and sums each half.
///
/// # Errors
/// If a task fails for good or the broker refuses.
pub async fn join(
    job: &Job,
    outcomes: &mut Outcomes,
    start: &Start<'_>,
    observer: &dyn Observer,
) -> Result<Joined, RefineError> {
    let mut pending = BTreeMap::new();
    for half in [0, 1] {
        pending.extend(submit(job, start, half).await?);
    }
    let total = pending.len();
    let mut totals: [Option<BlobRef>; 2] = [None; 2];
    let mut releasable: Vec<Digest> = Vec::new();
    let mut stages = StageSeconds::default();
    let mut workers = ByWorker::default();
    let mut instruction_classes = BTreeSet::new();
    while !pending.is_empty() {
        let (outcome, piece) = tasks::next_of(outcomes, &mut pending).await?;
        stages.add(piece, outcome.run_ms);
        workers.add(piece, &outcome);
        match piece {
            Piece::Total { half } => {
                let output = outcome.output::<Sum>()?;
                totals[half] = Some(only_blob(&outcome, output.blobs)?);
                instruction_classes.insert(output.message.instruction_class);
            }
            Piece::Block { .. } | Piece::Shard { .. } => {
                let output = outcome.output::<Insert>()?;
                only_blob(&outcome, output.blobs)?;
                instruction_classes.insert(output.message.instruction_class);
                releasable.extend(outcome.held());
            }
        }
        observer.on(Progress::Tasks {
            iteration: start.iteration,
            done: total - pending.len(),
            total,
        });
    }
    let [Some(first), Some(second)] = totals else {
        return Err(RefineError::Output(
            "a half-set was never summed".to_owned(),
        ));
    };
    let totals = [first, second];
    // The sum of a single shard is that shard's own blob, which the caller has yet to read.
    releasable.retain(|digest| totals.iter().all(|total| total.digest != *digest));
    job.release(&releasable).await?;
    Ok(Joined {
        totals,
        stages,
        workers: workers.finish(),
        instruction_classes,
    })
}

/// Submits a half's insertions, and the sum that waits for them.
async fn submit(
    job: &Job,
    start: &Start<'_>,
    half: usize,
) -> Result<BTreeMap<TaskIndex, Piece>, RefineError> {
    let of_half = &start.halves[half];
    let tasks = (0..of_half.plan.shards.len())
        .map(|shard| insert_task(start, half, shard, |at| start.known(of_half.particles[at])));
    let inserts = job.submit_keyed(tasks.collect()).await?;
    let sums = job
        .submit_keyed(vec![sum_task(start, half, &inserts)])
        .await?;
    let shards = inserts
        .into_iter()
        .enumerate()
        .map(|(shard, index)| (index, Piece::Shard { half, shard }));
    let totals = sums.into_iter().map(|index| (index, Piece::Total { half }));
    Ok(shards.chain(totals).collect())
}
