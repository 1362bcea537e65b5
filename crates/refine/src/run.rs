//! The refinement itself: inputs to the broker, rounds until nothing improves, outputs.

mod conclude;
mod report;
mod turn;

use crate::{
    checkpoint,
    error::RefineError,
    folder, held_up,
    input::{self, Prepared},
    job,
    memory::Memory,
    options::Options,
    outputs::Summary,
    plan::HalfPlan,
    progress::{Observer, Progress},
    record::InputDigests,
    report::Live,
};
use dewar_sdk::{Client, Job};
use std::{fs, path::PathBuf, pin::pin, sync::Arc, time::Instant};
use turn::Between;

/// Checks the inputs and whether the output folder is free for them, and writes nothing.
///
/// Returns the stacks that the particle file names, for who must give a broker access to them.
///
/// # Errors
/// If the inputs are wrong, or the folder holds another refinement.
pub fn check(options: &Options) -> Result<Vec<PathBuf>, RefineError> {
    let (prepared, digests) = read_inputs(options)?;
    folder::check(options, &digests)?;
    let stacks = prepared.set.stacks.into_iter();
    Ok(stacks.map(|stack| stack.path).collect())
}

/// Refines, until nothing improves, the rounds are used up, or `stop` comes.
///
/// When `stop` comes the job is cancelled at the broker. The same call goes on from the last finished round, and is answered
/// with what the unfinished one had computed, as long as the broker keeps that.
///
/// # Errors
/// If the inputs are wrong, the broker refuses, a task fails for good, or an output cannot be written.
pub async fn refine(
    client: &Client,
    options: &Options,
    observer: &Arc<dyn Observer>,
    stop: impl Future<Output = ()>,
) -> Result<Summary, RefineError> {
    let mut stop = pin!(stop);
    let run = Run::prepare(options, observer)?;
    let opened = tokio::select! {
        opened = run.open(client) => opened?,
        () = &mut stop => return Err(RefineError::Cancelled),
    };
    let job = match opened {
        Opened::Job(job) => job,
        Opened::AlreadyDone(summary) => return Ok(summary),
    };
    let result = tokio::select! {
        result = run.rounds(&job) => result,
        never = held_up::tell(&job, &run.observer) => match never {},
        () = stop => Err(RefineError::Cancelled),
    };
    run.live.ended(&result).await;
    let is_ended = job::end(&job, &options.out, &result).await?;
    if is_ended && result.as_ref().is_err_and(RefineError::is_input) {
        folder::release(&options.out);
    }
    result
}

fn read_inputs(options: &Options) -> Result<(Prepared, InputDigests), RefineError> {
    let prepared = input::prepare(options)?;
    let digests = InputDigests::of(options, &prepared.set)?;
    Ok((prepared, digests))
}

/// One refinement under way.
struct Run<'a> {
    options: &'a Options,
    /// The report, which listens too.
    live: Arc<Live>,
    observer: Arc<dyn Observer>,
    prepared: Prepared,
    digests: InputDigests,
    plans: [HalfPlan; 2],
    memory: Memory,
    started: Instant,
    /// Keeps a second refinement out of the folder.
    _lock: fs::File,
}

/// What there is to do.
enum Opened {
    Job(Job),
    AlreadyDone(Summary),
}

impl<'a> Run<'a> {
    fn prepare(options: &'a Options, observer: &'a Arc<dyn Observer>) -> Result<Self, RefineError> {
        let (prepared, digests) = read_inputs(options)?;
        prepared
            .warnings
            .iter()
            .for_each(|warning| observer.on(Progress::Note(warning)));
        fs::create_dir_all(&options.out).map_err(|source| RefineError::Write {
            path: options.out.clone(),
            source,
        })?;
        let lock = folder::lock(&options.out)?;
        folder::claim(options, &digests)?;
        let set = &prepared.set;
        let memory = Memory::of(set.box_size_px, set.particles.len(), turn::PADDING);
        observer.on(Progress::Note(&memory.told()));
        let plans = [0, 1].map(|half| HalfPlan::new(prepared.halves[half].len()));
        let live = Arc::new(Live::new(observer, options));
        Ok(Self {
            options,
            observer: Arc::clone(&live) as _,
            live,
            prepared,
            digests,
            plans,
            memory,
            started: Instant::now(),
            _lock: lock,
        })
    }

    /// Opens this run's job, unless an earlier run did all there is to do.
    async fn open(&self, client: &Client) -> Result<Opened, RefineError> {
        let out = &self.options.out;
        job::cancel_abandoned(client, out, self.observer.as_ref()).await;
        folder::forget_job(out);
        if let Some(summary) = self.already_done()? {
            return Ok(Opened::AlreadyDone(summary));
        }
        let job = job::open(client, out, "refine", &self.options.particles);
        Ok(Opened::Job(job.await?))
    }

    async fn rounds(&self, job: &Job) -> Result<Summary, RefineError> {
        let mut last = match checkpoint::last(&self.options.out, &self.prepared.set)? {
            Some(finished) => {
                self.observer.on(Progress::Note(&format!(
                    "going on after round {}",
                    finished.state.iteration
                )));
                Some(Between {
                    state: finished.state,
                    references: finished.references,
                })
            }
            None => None,
        };
        self.live.publish_to(job);
        self.report_start(last.as_ref().map(|between| &between.state));
        let _beats = Live::beat(&self.live);
        let stacks = job::import_stacks(job, &self.prepared.set, &self.observer).await?;
        let mut outcomes = job.outcomes();
        loop {
            if let Some(between) = last.as_ref().filter(|between| self.is_over(between)) {
                return self.finish(job, &mut outcomes, &stacks, between).await;
            }
            last = Some(
                self.round(job, &mut outcomes, &stacks, last.as_ref())
                    .await?,
            );
        }
    }
}
