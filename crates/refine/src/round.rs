//! One round: every particle aligned, every shard inserted, each half's shards summed.
//!
//! Tasks follow one another by what they need, not by stage: a shard is inserted as soon as its blocks are aligned, a
//! half is summed as soon as its shards are inserted. What is computed is fixed by the plan; only when is not.

use crate::{
    error::RefineError,
    plan::{BLOCK_PARTICLES, HalfPlan},
    progress::{Observer, Progress},
    tasks::{self, Posed},
};
use dewar_kernels::{Align, Insert, Sum};
use dewar_proto::em::v1;
use dewar_sdk::{BlobRef, Digest, Input, Job, NewTask, Outcome, Outcomes, TaskIndex, TaskResult};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::Range};

/// What a round works from.
pub struct Start<'a> {
    /// From 1.
    pub iteration: usize,
    /// The particles and where their pixels are.
    pub images: &'a tasks::Images<'a>,
    /// Both halves.
    pub halves: [HalfStart<'a>; 2],
    /// What all alignment tasks have in common; particles and noise are filled in here.
    pub align: v1::AlignParameters,
    /// Padding of the sums.
    pub padding: f64,
}

/// What a round knows of one half.
pub struct HalfStart<'a> {
    /// Its particles, as positions in the particle file.
    pub particles: &'a [usize],
    /// How they are cut.
    pub plan: &'a HalfPlan,
    /// The map they are compared with.
    pub reference: BlobRef,
    /// Noise spectra, one for each optics group.
    pub noise: &'a [v1::NoiseSpectrum],
}

/// What a round gives for one half.
#[derive(Debug, Clone)]
pub struct HalfResult {
    /// One for each particle of the half.
    pub poses: Vec<v1::AlignedPose>,
    /// Summed over blocks in their order, one for each optics group.
    pub residuals: Vec<v1::ResidualPower>,
    /// The half's total sums.
    pub total: BlobRef,
}

/// What a round gives.
#[derive(Debug, Clone)]
pub struct RoundOutput {
    /// One for each half.
    pub halves: [HalfResult; 2],
    /// What its tasks took.
    pub stages: StageSeconds,
}

/// How long the tasks of each kind ran, added up over workers; tasks overlap, so a round takes less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StageSeconds {
    /// Alignment.
    pub align: f64,
    /// Insertion.
    pub insert: f64,
    /// Summing.
    pub sum: f64,
}

/// Which piece a task computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Block { half: usize, block: usize },
    Shard { half: usize, shard: usize },
    Total { half: usize },
}

/// A half on its way.
struct HalfWork {
    aligned: Vec<Option<v1::AlignOutput>>,
    shard_submitted: Vec<bool>,
    partials: Vec<Option<BlobRef>>,
    total: Option<BlobRef>,
}

/// Runs one round. Partial sums are released before it returns; the totals are the caller's to release.
///
/// # Errors
/// If a task fails for good or the broker refuses.
pub async fn run(
    job: &Job,
    outcomes: &mut Outcomes,
    start: &Start<'_>,
    observer: &dyn Observer,
) -> Result<RoundOutput, RefineError> {
    let mut work = start.halves.each_ref().map(|half| HalfWork::new(half.plan));
    let mut pending = submit_blocks(job, start).await?;
    let mut releasable: Vec<Digest> = Vec::new();
    let total = start
        .halves
        .iter()
        .map(|half| half.plan.blocks.len() + half.plan.shards.len() + 1)
        .sum();
    let mut done = 0;
    let mut stages = StageSeconds::default();
    while !pending.is_empty() {
        let outcome = outcomes.next().await?.ok_or(RefineError::Cancelled)?;
        let Some(piece) = pending.remove(&outcome.index) else {
            continue;
        };
        if outcome.result == TaskResult::Cancelled {
            return Err(RefineError::Cancelled);
        }
        stages.add(piece, outcome.run_ms);
        match piece {
            Piece::Block { half, block } => {
                let output = outcome.output::<Align>()?.message;
                let expected = start.halves[half].plan.blocks[block].len();
                tasks::check_align_output(&output, expected, start.halves[half].noise.len())?;
                work[half].aligned[block] = Some(output);
                releasable.extend(outcome.held());
                let ready = work[half].take_ready_shards(start.halves[half].plan);
                for shard in ready {
                    let task = insert_task(start, half, shard, &work[half]);
                    pending.insert(submit_one(job, task).await?, Piece::Shard { half, shard });
                }
            }
            Piece::Shard { half, shard } => {
                work[half].partials[shard] =
                    Some(only_blob(&outcome, outcome.output::<Insert>()?.blobs)?);
                releasable.extend(outcome.held());
                if let Some(partials) = work[half]
                    .partials
                    .iter()
                    .copied()
                    .collect::<Option<Vec<_>>>()
                {
                    let task = NewTask::new::<Sum>(
                        &v1::SumParameters {},
                        partials.into_iter().map(Input::whole).collect(),
                    );
                    pending.insert(submit_one(job, task).await?, Piece::Total { half });
                }
            }
            Piece::Total { half } => {
                work[half].total = Some(only_blob(&outcome, outcome.output::<Sum>()?.blobs)?);
            }
        }
        done += 1;
        observer.on(Progress::Tasks {
            iteration: start.iteration,
            done,
            total,
        });
    }
    let [first, second] = work.map(HalfWork::finish);
    let halves = [first?, second?];
    // The sum of a single shard is that shard's own blob, which the caller has yet to read.
    releasable.retain(|digest| halves.iter().all(|half| half.total.digest != *digest));
    job.release(&releasable).await?;
    Ok(RoundOutput { halves, stages })
}

/// Submits the alignment of both halves, block by block in turn, so that every worker keeps both references.
async fn submit_blocks(
    job: &Job,
    start: &Start<'_>,
) -> Result<BTreeMap<TaskIndex, Piece>, RefineError> {
    let blocks = start
        .halves
        .iter()
        .map(|half| half.plan.blocks.len())
        .max()
        .unwrap_or(0);
    let pieces: Vec<(usize, usize)> = (0..blocks)
        .flat_map(|block| [(0, block), (1, block)])
        .filter(|(half, block)| *block < start.halves[*half].plan.blocks.len())
        .collect();
    let new = pieces
        .iter()
        .map(|(half, block)| align_task(start, *half, *block))
        .collect();
    let Range { start: first, .. } = job.submit_all(new).await?;
    Ok((first.0..)
        .map(TaskIndex)
        .zip(
            pieces
                .into_iter()
                .map(|(half, block)| Piece::Block { half, block }),
        )
        .collect())
}

async fn submit_one(job: &Job, task: NewTask) -> Result<TaskIndex, RefineError> {
    Ok(job.submit_all(vec![task]).await?.start)
}

fn align_task(start: &Start<'_>, half: usize, block: usize) -> NewTask {
    let of_half = &start.halves[half];
    let particles = of_half.particles[of_half.plan.blocks[block].clone()]
        .iter()
        .map(|&particle| Posed {
            particle,
            pose: None,
        });
    let stated = start.images.state(particles, 1);
    let parameters = v1::AlignParameters {
        geometries: stated.geometries,
        particles: stated.particles,
        noise: of_half.noise.to_vec(),
        ..start.align.clone()
    };
    let inputs = [Input::whole(of_half.reference)]
        .into_iter()
        .chain(stated.inputs)
        .collect();
    NewTask::new::<Align>(&parameters, inputs)
}

fn insert_task(start: &Start<'_>, half: usize, shard: usize, work: &HalfWork) -> NewTask {
    let of_half = &start.halves[half];
    let range = of_half.plan.shards[shard].clone();
    let particles = range.map(|at| Posed {
        particle: of_half.particles[at],
        pose: work.pose(of_half.plan, at),
    });
    let stated = start.images.state(particles, 0);
    let parameters = v1::InsertParameters {
        geometries: stated.geometries,
        particles: stated.particles,
        noise: of_half.noise.to_vec(),
        padding: start.padding,
    };
    NewTask::new::<Insert>(&parameters, stated.inputs)
}

fn only_blob(outcome: &Outcome, blobs: Vec<BlobRef>) -> Result<BlobRef, RefineError> {
    match blobs.as_slice() {
        [blob] => Ok(*blob),
        _ => Err(RefineError::Output(format!(
            "task {} gave {} blobs instead of one",
            outcome.index,
            blobs.len()
        ))),
    }
}

impl StageSeconds {
    fn add(&mut self, piece: Piece, run_ms: u64) {
        let stage = match piece {
            Piece::Block { .. } => &mut self.align,
            Piece::Shard { .. } => &mut self.insert,
            Piece::Total { .. } => &mut self.sum,
        };
        *stage += run_ms as f64 / 1e3;
    }
}

impl HalfWork {
    fn new(plan: &HalfPlan) -> Self {
        Self {
            aligned: vec![None; plan.blocks.len()],
            shard_submitted: vec![false; plan.shards.len()],
            partials: vec![None; plan.shards.len()],
            total: None,
        }
    }

    /// Shards whose blocks are all aligned and that were not given before.
    fn take_ready_shards(&mut self, plan: &HalfPlan) -> Vec<usize> {
        let ready: Vec<usize> = (0..plan.shards.len())
            .filter(|shard| !self.shard_submitted[*shard])
            .filter(|shard| {
                plan.blocks_of_shard(*shard)
                    .all(|block| self.aligned[block].is_some())
            })
            .collect();
        ready
            .iter()
            .for_each(|shard| self.shard_submitted[*shard] = true);
        ready
    }

    /// The pose found for the particle at position `at` of the half.
    fn pose(&self, plan: &HalfPlan, at: usize) -> Option<v1::Pose> {
        let block = at / BLOCK_PARTICLES;
        self.aligned[block]
            .as_ref()?
            .poses
            .get(at - plan.blocks[block].start)?
            .pose
    }

    fn finish(self) -> Result<HalfResult, RefineError> {
        let outputs: Vec<v1::AlignOutput> = self.aligned.into_iter().flatten().collect();
        let residuals =
            tasks::sum_residuals(outputs.iter().map(|output| output.residuals.as_slice()));
        let poses = outputs
            .into_iter()
            .flat_map(|output| output.poses)
            .collect();
        let total = self
            .total
            .ok_or_else(|| RefineError::Output("a half-set was never summed".to_owned()))?;
        Ok(HalfResult {
            poses,
            residuals,
            total,
        })
    }
}
