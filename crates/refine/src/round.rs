//! One round: every particle aligned, every shard inserted, each half's shards summed.
//!
//! Tasks follow one another by what they need, not by stage: a shard is inserted as soon as its blocks are aligned, a
//! half is summed as soon as its shards are inserted. What is computed is fixed by the plan; only when is not.
//!
//! A task's parameters and inputs are the same whenever the same round is run, so that the broker can answer it with
//! what an interrupted run computed; its key says what it is, for people.

mod join;
mod workers;

pub use join::{Joined, join};
pub use workers::WorkerSeconds;

use crate::{
    error::RefineError,
    plan::{BLOCK_PARTICLES, HalfPlan},
    pose::PoseRecord,
    progress::{Observer, Progress},
    tasks::{self, Posed},
};
use dewar_kernels::{Align, Insert, Sum};
use dewar_proto::em::v1;
use dewar_sdk::{BlobRef, Digest, Input, Job, NewTask, Outcome, Outcomes, TaskIndex};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};
use workers::ByWorker;

/// What a round works from.
pub struct Start<'a> {
    /// From 1.
    pub iteration: usize,
    /// What its tasks' keys begin with.
    pub name: String,
    /// The particles and where their pixels are.
    pub images: &'a tasks::Images<'a>,
    /// Both halves.
    pub halves: [HalfStart<'a>; 2],
    /// What all alignment tasks have in common; particles and noise are filled in here.
    pub align: v1::AlignParameters,
    /// Padding of the sums.
    pub padding: f64,
    /// What its tasks take.
    pub memory: TaskMemory,
    /// Where the round before found each particle of the file; empty in the first.
    pub known: &'a [PoseRecord],
}

/// What each kind of task takes, in bytes; 0 where it is not worth counting.
#[derive(Debug, Clone, Copy)]
pub struct TaskMemory {
    /// Alignment.
    pub align: u64,
    /// Insertion.
    pub insert: u64,
    /// Summing.
    pub sum: u64,
}

/// What a round knows of one half.
pub struct HalfStart<'a> {
    /// Its particles, as positions in the particle file.
    pub particles: &'a [usize],
    /// How they are cut.
    pub plan: &'a HalfPlan,
    /// The map they are compared with, where they are.
    pub reference: Option<BlobRef>,
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
    /// Who computed them.
    pub workers: Vec<WorkerSeconds>,
    /// Of the processors that did, now or for an earlier run.
    pub instruction_classes: BTreeSet<String>,
    /// How many tasks it had.
    pub task_count: usize,
    /// How many of them were answered from an earlier run.
    pub reused_count: usize,
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

/// Position of the partial sum among what an insertion gives.
const ONLY_BLOB: u32 = 0;

/// A half on its way.
struct HalfWork {
    aligned: Vec<Option<v1::AlignOutput>>,
    /// The insertion of each shard, once it was submitted.
    inserts: Vec<Option<TaskIndex>>,
    total: Option<BlobRef>,
}

/// Runs one round. What its tasks gave is released before it returns, and not sooner: should this run be interrupted, the
/// next one is answered with it. The totals are the caller's to release.
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
    let mut reused_count = 0;
    let mut stages = StageSeconds::default();
    let mut workers = ByWorker::default();
    let mut instruction_classes = BTreeSet::new();
    while !pending.is_empty() {
        let (outcome, piece) = tasks::next_of(outcomes, &mut pending).await?;
        stages.add(piece, outcome.run_ms);
        workers.add(piece, &outcome);
        reused_count += usize::from(outcome.reused);
        match piece {
            Piece::Block { half, block } => {
                let output = outcome.output::<Align>()?.message;
                let expected = start.halves[half].plan.blocks[block].len();
                tasks::check_align_output(&output, expected, start.halves[half].noise.len())?;
                instruction_classes.insert(output.instruction_class.clone());
                work[half].aligned[block] = Some(output);
                releasable.extend(outcome.held());
                submit_ready(job, start, half, &mut work[half], &mut pending).await?;
            }
            Piece::Shard { .. } => {
                let output = outcome.output::<Insert>()?;
                only_blob(&outcome, output.blobs)?;
                instruction_classes.insert(output.message.instruction_class);
                releasable.extend(outcome.held());
            }
            Piece::Total { half } => {
                let output = outcome.output::<Sum>()?;
                work[half].total = Some(only_blob(&outcome, output.blobs)?);
                instruction_classes.insert(output.message.instruction_class);
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
    Ok(RoundOutput {
        halves,
        stages,
        workers: workers.finish(),
        instruction_classes,
        task_count: total,
        reused_count,
    })
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
    let indices = job.submit_keyed(new).await?;
    let pieces = pieces
        .into_iter()
        .map(|(half, block)| Piece::Block { half, block });
    Ok(indices.into_iter().zip(pieces).collect())
}

/// Submits the insertions that became possible, and with the last of them the sum, which waits for all.
async fn submit_ready(
    job: &Job,
    start: &Start<'_>,
    half: usize,
    work: &mut HalfWork,
    pending: &mut BTreeMap<TaskIndex, Piece>,
) -> Result<(), RefineError> {
    let ready = work.ready_shards(start.halves[half].plan);
    if ready.is_empty() {
        return Ok(());
    }
    let tasks = ready.iter().map(|shard| {
        insert_task(start, half, *shard, |at| {
            work.modes(start.halves[half].plan, at)
        })
    });
    let indices = job.submit_keyed(tasks.collect()).await?;
    for (shard, index) in ready.into_iter().zip(indices) {
        work.inserts[shard] = Some(index);
        pending.insert(index, Piece::Shard { half, shard });
    }
    if let Some(inserts) = work.inserts.iter().copied().collect::<Option<Vec<_>>>() {
        let indices = job.submit_keyed(vec![sum_task(start, half, &inserts)]);
        let totals = indices.await?.into_iter();
        pending.extend(totals.map(|index| (index, Piece::Total { half })));
    }
    Ok(())
}

fn align_task(start: &Start<'_>, half: usize, block: usize) -> NewTask {
    let of_half = &start.halves[half];
    let particles = of_half.particles[of_half.plan.blocks[block].clone()]
        .iter()
        .map(|&particle| Posed {
            particle,
            modes: start.known(particle),
        });
    let stated = start.images.state(particles, 1);
    let parameters = v1::AlignParameters {
        geometries: stated.geometries,
        particles: stated.particles,
        noise: of_half.noise.to_vec(),
        ..start.align.clone()
    };
    let inputs = of_half
        .reference
        .map(Input::whole)
        .into_iter()
        .chain(stated.inputs)
        .collect();
    let key = start.key("align", half, format_args!(" b{}", block + 1));
    NewTask::new::<Align>(&parameters, inputs)
        .memory(start.memory.align)
        .key(key)
}

/// The insertion of a shard, whose particles, by position in the half, have these poses.
fn insert_task(
    start: &Start<'_>,
    half: usize,
    shard: usize,
    modes: impl Fn(usize) -> Vec<v1::PoseMode>,
) -> NewTask {
    let of_half = &start.halves[half];
    let range = of_half.plan.shards[shard].clone();
    let particles = range.map(|at| Posed {
        particle: of_half.particles[at],
        modes: modes(at),
    });
    let stated = start.images.state(particles, 0);
    let parameters = v1::InsertParameters {
        geometries: stated.geometries,
        particles: stated.particles,
        noise: of_half.noise.to_vec(),
        padding: start.padding,
    };
    let key = start.key("insert", half, format_args!(" s{}", shard + 1));
    NewTask::new::<Insert>(&parameters, stated.inputs)
        .memory(start.memory.insert)
        .key(key)
}

fn sum_task(start: &Start<'_>, half: usize, inserts: &[TaskIndex]) -> NewTask {
    let partials = inserts
        .iter()
        .map(|index| Input::output_blob(*index, ONLY_BLOB));
    let key = start.key("sum", half, format_args!(""));
    NewTask::new::<Sum>(&v1::SumParameters {}, partials.collect())
        .memory(start.memory.sum)
        .key(key)
}

impl Start<'_> {
    fn known(&self, particle: usize) -> Vec<v1::PoseMode> {
        self.known
            .get(particle)
            .map_or_else(Vec::new, PoseRecord::to_wire)
    }

    /// What a task is, as people see it in `dewar tasks`: `r3 align h1 b17`.
    fn key(&self, stage: &str, half: usize, piece: fmt::Arguments<'_>) -> String {
        format!("{} {stage} h{}{piece}", self.name, half + 1)
    }
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
            inserts: vec![None; plan.shards.len()],
            total: None,
        }
    }

    /// Shards whose blocks are all aligned and that were not submitted before.
    fn ready_shards(&self, plan: &HalfPlan) -> Vec<usize> {
        (0..plan.shards.len())
            .filter(|shard| self.inserts[*shard].is_none())
            .filter(|shard| {
                plan.blocks_of_shard(*shard)
                    .all(|block| self.aligned[block].is_some())
            })
            .collect()
    }

    /// The poses found for the particle at position `at` of the half.
    fn modes(&self, plan: &HalfPlan, at: usize) -> Vec<v1::PoseMode> {
        let block = at / BLOCK_PARTICLES;
        let aligned = self.aligned[block].as_ref();
        aligned
            .and_then(|block_output| block_output.poses.get(at - plan.blocks[block].start))
            .map_or_else(Vec::new, |aligned| aligned.modes.clone())
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
