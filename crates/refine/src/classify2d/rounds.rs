//! The classification itself: inputs to the broker, rounds, outputs.

use super::{
    SHELLS_MIN,
    figures::best_rings,
    inputs,
    options::Options,
    outputs::{self, Prepared, Record, Summary},
    schedule, split,
    state::{self, State},
    tasks::{self, RoundOutput, Start},
};
use crate::{
    checkpoint,
    error::RefineError,
    folder, held_up, job,
    progress::{Observer, Progress},
    tasks::Images,
};
use bytes::Bytes;
use dewar_compute::search::{ClassAverage, ClassGrid, ClassSettings};
use dewar_proto::em::v1;
use dewar_sdk::{Client, Job, Outcomes};
use num_complex::Complex32;
use std::{fs, pin::pin, sync::Arc, time::Instant};

/// The record's file name.
pub const FILE: &str = "classify2d.json";

/// Classes begin with detail of this many Fourier pixels a pixel: 14 pixels.
const FIRST_LIMIT: f64 = 0.07;

/// Sorts particles into classes, until those no longer change, the rounds are used up, or `stop` comes, as [`crate::refine`]
/// does.
///
/// # Errors
/// If the inputs are wrong, the broker refuses, a task fails for good, or an output cannot be written.
pub async fn classify(
    client: &Client,
    options: &Options,
    observer: &Arc<dyn Observer>,
    stop: impl Future<Output = ()>,
) -> Result<Summary, RefineError> {
    let mut stop = pin!(stop);
    let run = Run::prepare(options, observer)?;
    if let Some(summary) = run.already_done()? {
        return Ok(summary);
    }
    let job = tokio::select! {
        job = run.open(client) => job?,
        () = &mut stop => return Err(RefineError::Cancelled),
    };
    let result = tokio::select! {
        result = run.rounds(&job) => result,
        never = held_up::tell(&job, observer) => match never {},
        () = stop => Err(RefineError::Cancelled),
    };
    job::end(&job, &options.out, &result).await?;
    result
}

/// One classification under way.
pub(super) struct Run<'a> {
    pub(super) options: &'a Options,
    pub(super) observer: &'a Arc<dyn Observer>,
    pub(super) prepared: Prepared,
    started: Instant,
    /// Keeps a second one out of the folder.
    _lock: fs::File,
}

/// What one round hands to the next.
pub(super) struct Between {
    pub(super) state: State,
    pub(super) averages: Vec<Complex32>,
}

impl<'a> Run<'a> {
    fn prepare(options: &'a Options, observer: &'a Arc<dyn Observer>) -> Result<Self, RefineError> {
        let prepared = inputs::prepare(options)?;
        let warnings = prepared.set.warnings.iter();
        warnings.for_each(|warning| observer.on(Progress::Note(warning)));
        fs::create_dir_all(&options.out).map_err(|source| RefineError::Write {
            path: options.out.clone(),
            source,
        })?;
        let lock = folder::lock(&options.out)?;
        inputs::claim(options, &prepared)?;
        Ok(Self {
            options,
            observer,
            prepared,
            started: Instant::now(),
            _lock: lock,
        })
    }

    /// The summary of an earlier run that came to its end with at least as many rounds allowed.
    fn already_done(&self) -> Result<Option<Summary>, RefineError> {
        let path = self.options.out.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let record: Record = checkpoint::read_json(&path)?;
        let is_complete = record.converged || record.iterations >= self.options.settings.iterations;
        Ok(is_complete.then(|| {
            self.note("this classification is done already; nothing was computed");
            Summary::of(&self.options.out, record)
        }))
    }

    /// Opens this run's job, and ends what an interrupted run may have left.
    async fn open(&self, client: &Client) -> Result<Job, RefineError> {
        let out = &self.options.out;
        job::cancel_abandoned(client, out, self.observer.as_ref()).await;
        job::open(client, out, "classify2d", &self.options.particles).await
    }

    async fn rounds(&self, job: &Job) -> Result<Summary, RefineError> {
        let set = &self.prepared.set;
        let stacks = job::import_stacks(job, set, self.observer).await?;
        let images = Images {
            set,
            stacks: &stacks,
            scales: vec![1.0; set.particles.len()],
        };
        let mut outcomes = job.outcomes();
        let found = state::last(&self.options.out, set.particles.len())?;
        let mut last = match found {
            Some((state, averages)) => {
                self.note(&format!("going on after round {}", state.iteration));
                Between { state, averages }
            }
            None => self.begin(job, &mut outcomes, &images).await?,
        };
        while !self.is_over(&last.state) {
            last = self.round(job, &mut outcomes, &images, &last).await?;
        }
        self.finish(&last)
    }

    fn is_over(&self, state: &State) -> bool {
        schedule::has_converged(&state.results())
            || state.iteration >= self.options.settings.iterations
    }

    async fn round(
        &self,
        job: &Job,
        outcomes: &mut Outcomes,
        images: &Images<'_>,
        before: &Between,
    ) -> Result<Between, RefineError> {
        let started = Instant::now();
        let iteration = before.state.iteration + 1;
        let shell_max = self.next_shell_max(before);
        let grid = self.grid(shell_max)?;
        self.observer.on(Progress::RoundStarted {
            iteration,
            limit_angstrom: self.resolution_angstrom(shell_max),
        });
        let known = self.widened(before, &grid)?;
        let references = job.upload(Bytes::from(state::to_bytes(&known))).await?;
        let noise: Vec<v1::NoiseSpectrum> = before
            .state
            .noise
            .iter()
            .map(|sigma2| spectrum(sigma2))
            .collect();
        let particles: Vec<usize> = (0..images.set.particles.len()).collect();
        let start = Start {
            iteration,
            images,
            particles: &particles,
            grid: &grid,
            references: Some(references),
            common: self.common(shell_max, &noise),
            seeds: &[],
        };
        let output = tasks::run(job, outcomes, &start, self.observer.as_ref()).await?;
        job.release(&[references.digest]).await?;
        let [reused, task_count] = output.reused;
        if reused > 0 {
            self.note(&format!(
                "{reused} of {task_count} tasks of round {iteration} had been computed before"
            ));
        }
        let mut averages = self.averages(&grid, &output);
        let settings = &self.options.settings;
        let mut state = self.state(before, &grid, &averages, &output, &noise);
        if schedule::may_split(&state.results(), settings.iterations) {
            let count = split::split(&grid, &output, settings.tau_factor, &mut averages);
            state.last_round(|round| round.split_count = count);
        }
        state.last_round(|round| round.seconds = started.elapsed().as_secs_f64());
        let averages: Vec<Complex32> = averages
            .into_iter()
            .flat_map(|average| average.samples)
            .collect();
        state::write(&self.options.out, &state, &averages)?;
        self.tell(&state);
        Ok(Between { state, averages })
    }

    pub(super) fn common(
        &self,
        shell_max: usize,
        noise: &[v1::NoiseSpectrum],
    ) -> v1::ClassifyParameters {
        v1::ClassifyParameters {
            noise: noise.to_vec(),
            class_count: self.options.settings.class_count as u32,
            mask_diameter_angstrom: self.prepared.mask_diameter_angstrom,
            shell_max: shell_max as u32,
            shift_max_angstrom: self.options.settings.shift_max_angstrom,
            ..Default::default()
        }
    }

    pub(super) fn grid(&self, shell_max: usize) -> Result<ClassGrid, RefineError> {
        let set = &self.prepared.set;
        let settings = ClassSettings {
            box_size_px: set.box_size_px,
            pixel_size_angstrom: set.pixel_size_angstrom,
            mask_diameter_angstrom: self.prepared.mask_diameter_angstrom,
            max_shift_px: self.options.settings.shift_max_angstrom / set.pixel_size_angstrom,
            k_max: shell_max,
        };
        ClassGrid::new(&settings).map_err(|error| RefineError::Input(error.to_string()))
    }

    pub(super) fn first_shell_max(&self) -> usize {
        let first = (FIRST_LIMIT * self.prepared.set.box_size_px as f64) as usize;
        first.max(SHELLS_MIN).min(self.last_shell())
    }

    /// A little past what the best class resolves, so that its detail can grow.
    fn next_shell_max(&self, before: &Between) -> usize {
        let margin = (self.prepared.set.box_size_px / 32).max(2);
        let next = match before.state.iteration {
            0 => 0,
            _ => best_rings(&before.state.classes) + margin,
        };
        next.max(self.first_shell_max()).min(self.last_shell())
    }

    /// The finest that is ever compared.
    fn last_shell(&self) -> usize {
        let set = &self.prepared.set;
        let last = set.box_size_px / 2 - 1;
        let limit = self.options.settings.limit_angstrom.map_or(last, |limit| {
            (set.box_size_px as f64 * set.pixel_size_angstrom / limit) as usize
        });
        limit.clamp(SHELLS_MIN, last)
    }

    /// The averages of the round before on the grid of this one.
    fn widened(&self, before: &Between, grid: &ClassGrid) -> Result<Vec<Complex32>, RefineError> {
        let of_class = self.grid(before.state.shell_max)?.sample_count();
        if before.averages.len() != of_class * self.options.settings.class_count {
            return Err(RefineError::Checkpoint {
                path: state::folder(&self.options.out, before.state.iteration),
                problem: format!("{} samples of averages", before.averages.len()),
            });
        }
        let classes = before.averages.chunks_exact(of_class);
        Ok(classes
            .flat_map(|samples| {
                let samples = samples.iter().copied();
                let missing = std::iter::repeat(Complex32::ZERO);
                samples.chain(missing).take(grid.sample_count())
            })
            .collect())
    }

    pub(super) fn averages(&self, grid: &ClassGrid, output: &RoundOutput) -> Vec<ClassAverage> {
        let settings = &self.options.settings;
        let average = |class| output.totals.average(grid, class, settings.tau_factor);
        (0..settings.class_count).map(average).collect()
    }

    fn finish(&self, last: &Between) -> Result<Summary, RefineError> {
        let grid = self.grid(last.state.shell_max)?;
        let seconds = self.started.elapsed().as_secs_f64();
        outputs::write(
            self.options,
            &self.prepared,
            &grid,
            &last.state,
            &last.averages,
            seconds,
        )
    }

    pub(super) fn resolution_angstrom(&self, shell: usize) -> f64 {
        outputs::resolution_angstrom(&self.prepared.set, shell)
    }

    pub(super) fn note(&self, line: &str) {
        self.observer.on(Progress::Note(line));
    }
}

fn spectrum(sigma2: &[f64]) -> v1::NoiseSpectrum {
    v1::NoiseSpectrum {
        sigma2: sigma2.to_vec(),
    }
}
