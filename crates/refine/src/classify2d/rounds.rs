//! The classification itself: inputs to the broker, rounds, outputs.

use super::{
    options::Options,
    outputs::{self, Prepared, Record, Summary},
    state::{self, ClassFigures, Placed, RoundFigures, State},
    tasks::{self, RoundOutput, Start},
};
use crate::{
    checkpoint,
    error::RefineError,
    folder, input, maps,
    progress::{Observer, Progress},
    record::{self, FileStamp},
    tasks::Images,
};
use bytes::Bytes;
use dewar_compute::{
    noise::GaussianNoise,
    search::{ClassAverage, ClassGrid, ClassSettings},
};
use dewar_formats::particles::ParticleSet;
use dewar_proto::em::v1;
use dewar_sdk::{BlobRef, Client, FileProgress, Job, JobId, JobOptions, Outcomes};
use num_complex::Complex32;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

/// What a folder is for; written before the first round.
const CLAIM: &str = ".dewar-classify2d.json";

/// The record's file name.
pub const FILE: &str = "classify2d.json";

/// Classes begin with detail of this many Fourier pixels a pixel: 14 pixels.
const FIRST_LIMIT: f64 = 0.07;

/// Fewest shells that are ever compared.
const SHELLS_MIN: usize = 5;

/// Particles that a class begins with, each at an angle of its own: more look alike in every class, and a few classes then
/// take all particles.
const SEEDS_PER_CLASS: usize = 3;

/// A class with less than this part of the mean population is empty.
const EMPTY: f64 = 0.02;

/// In so many last rounds no class is split: what it became must settle.
const ROUNDS_UNSPLIT: usize = 6;

/// Largest part of the box that the mask may fill, and what it fills where nobody says: its soft edge needs room.
const MASK_DIAMETER_MAX: f64 = 0.95;
const MASK_DIAMETER: f64 = 0.8;

/// Largest side of images.
const BOX_SIZE_PX_MAX: usize = 512;

/// Most classes.
const CLASS_COUNT_MAX: usize = 1000;

/// As long as for a refinement.
const KEEP: Duration = Duration::from_secs(24 * 3600);
const ABSENCE_MAX: Duration = Duration::from_secs(3600);

/// Checks the inputs and whether the output folder is free for them, and writes nothing. Returns the stacks.
///
/// # Errors
/// If the inputs are wrong, or the folder holds something else.
pub fn check(options: &Options) -> Result<Vec<PathBuf>, RefineError> {
    let prepared = prepare(options)?;
    check_folder(&options.out, &Claim::of(options, &prepared)?)?;
    let stacks = prepared.set.stacks.into_iter();
    Ok(stacks.map(|stack| stack.path).collect())
}

/// Sorts particles into classes, until the rounds are used up or `stop` comes, as [`crate::refine`] does.
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
        () = stop => Err(RefineError::Cancelled),
    };
    match &result {
        Ok(_) => job.close().await?,
        // The first error is the one to tell.
        Err(_) => match job.cancel().await {
            Ok(status) => status,
            Err(_) => return result,
        },
    };
    folder::forget_job(&options.out);
    result
}

/// What a folder was claimed for.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Claim {
    settings: super::Settings,
    particles_blake3: String,
    stacks: Vec<FileStamp>,
}

impl Claim {
    fn of(options: &Options, prepared: &Prepared) -> Result<Self, RefineError> {
        Ok(Self {
            // More rounds may be asked of the same classification.
            settings: super::Settings {
                iterations: 0,
                ..options.settings.clone()
            },
            particles_blake3: prepared.digest.blake3.clone(),
            stacks: prepared.stamps.clone(),
        })
    }
}

fn check_folder(out: &Path, claim: &Claim) -> Result<(), RefineError> {
    let path = out.join(CLAIM);
    let problem = if path.exists() {
        // A run that finished no round has nothing to lose.
        if state::last_iteration(out).is_none() || checkpoint::read_json::<Claim>(&path)? == *claim
        {
            return Ok(());
        }
        "it holds a classification with other settings or inputs; give another --out, or remove it"
    } else if state::last_iteration(out).is_some() || out.join("particles.star").exists() {
        "it holds something else; give another --out"
    } else {
        return Ok(());
    };
    Err(RefineError::OutputFolder {
        folder: out.to_owned(),
        problem: problem.to_owned(),
    })
}

fn prepare(options: &Options) -> Result<Prepared, RefineError> {
    let settings = &options.settings;
    let set = ParticleSet::read(&options.particles, options.project_dir.as_deref())?;
    let box_angstrom = set.box_size_px as f64 * set.pixel_size_angstrom;
    let input = |problem: String| Err(RefineError::Input(problem));
    if !(2 * (SHELLS_MIN + 1)..=BOX_SIZE_PX_MAX).contains(&set.box_size_px) {
        return input(format!(
            "{}: the images are {} pixels wide; a classification takes {} to {BOX_SIZE_PX_MAX}",
            options.particles.display(),
            set.box_size_px,
            2 * (SHELLS_MIN + 1)
        ));
    }
    if !(1..=CLASS_COUNT_MAX.min(set.particles.len())).contains(&settings.class_count) {
        return input(format!(
            "{} classes of {} particles; expected 1 to {}",
            settings.class_count,
            set.particles.len(),
            CLASS_COUNT_MAX.min(set.particles.len())
        ));
    }
    let mask_max = MASK_DIAMETER_MAX * box_angstrom;
    let mask_diameter_angstrom = settings
        .mask_diameter_angstrom
        .unwrap_or(MASK_DIAMETER * box_angstrom);
    if !(set.pixel_size_angstrom..=mask_max).contains(&mask_diameter_angstrom) {
        return input(format!(
            "the mask diameter is {mask_diameter_angstrom} A; it must be at least a pixel and at most {mask_max:.1} A, \
             {:.0} % of the box",
            MASK_DIAMETER_MAX * 100.0
        ));
    }
    if !(0.0..=box_angstrom / 2.0).contains(&settings.shift_max_angstrom) {
        return input(format!(
            "the largest shift is {} A; it must be from 0 to {:.1} A, half the box",
            settings.shift_max_angstrom,
            box_angstrom / 2.0
        ));
    }
    let stamps = set.stacks.iter().map(|stack| record::stamp(&stack.path));
    Ok(Prepared {
        digest: record::digest(&options.particles)?,
        stamps: stamps.collect::<Result<_, _>>()?,
        mask_diameter_angstrom,
        set,
    })
}

/// One classification under way.
struct Run<'a> {
    options: &'a Options,
    observer: &'a Arc<dyn Observer>,
    prepared: Prepared,
    started: Instant,
    /// Keeps a second one out of the folder.
    _lock: fs::File,
}

/// What one round hands to the next.
struct Between {
    state: State,
    averages: Vec<Complex32>,
}

impl<'a> Run<'a> {
    fn prepare(options: &'a Options, observer: &'a Arc<dyn Observer>) -> Result<Self, RefineError> {
        let prepared = prepare(options)?;
        let warnings = prepared.set.warnings.iter();
        warnings.for_each(|warning| observer.on(Progress::Note(warning)));
        fs::create_dir_all(&options.out).map_err(|source| RefineError::Write {
            path: options.out.clone(),
            source,
        })?;
        let lock = folder::lock(&options.out)?;
        let claim = Claim::of(options, &prepared)?;
        check_folder(&options.out, &claim)?;
        checkpoint::write_json(&options.out.join(CLAIM), &claim)?;
        Ok(Self {
            options,
            observer,
            prepared,
            started: Instant::now(),
            _lock: lock,
        })
    }

    /// The summary of an earlier run that did as many rounds as are asked for.
    fn already_done(&self) -> Result<Option<Summary>, RefineError> {
        let path = self.options.out.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let record: Record = checkpoint::read_json(&path)?;
        Ok(
            (record.iterations >= self.options.settings.iterations).then(|| {
                self.note("this classification is done already; nothing was computed");
                Summary::of(&self.options.out, record)
            }),
        )
    }

    /// Opens this run's job, and ends what an interrupted run may have left.
    async fn open(&self, client: &Client) -> Result<Job, RefineError> {
        let out = &self.options.out;
        if let Some(job) = folder::remembered_job(out)
            && client.cancel_job(job).await.is_ok()
        {
            self.note("cancelled what an interrupted run had left at the broker");
        }
        let name = self.options.particles.file_name().unwrap_or_default();
        let id = JobId::new();
        folder::remember_job(out, id)?;
        let options = JobOptions {
            id: Some(id),
            keep: Some(KEEP),
            absence_max: Some(ABSENCE_MAX),
            reuse: true,
            ..JobOptions::named(format!("classify2d {}", name.to_string_lossy()))
        };
        Ok(client.open_job(options).await?)
    }

    async fn rounds(&self, job: &Job) -> Result<Summary, RefineError> {
        let set = &self.prepared.set;
        let stacks = self.import_stacks(job).await?;
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
        while last.state.iteration < self.options.settings.iterations {
            last = self.round(job, &mut outcomes, &images, &last).await?;
        }
        self.finish(&last)
    }

    async fn import_stacks(&self, job: &Job) -> Result<Vec<BlobRef>, RefineError> {
        let mut blobs = Vec::new();
        for stack in &self.prepared.set.stacks {
            let (observer, path) = (Arc::clone(self.observer), stack.path.clone());
            let progress = move |progress: FileProgress| {
                let (FileProgress::Hashed {
                    done_bytes,
                    size_bytes,
                }
                | FileProgress::Sent {
                    done_bytes,
                    size_bytes,
                }) = progress;
                observer.on(Progress::Importing {
                    stack: &path,
                    done_bytes,
                    total_bytes: size_bytes,
                });
            };
            blobs.push(job.import_file(&stack.path, progress).await?);
        }
        Ok(blobs)
    }

    /// Classes begin with a few particles each.
    async fn begin(
        &self,
        job: &Job,
        outcomes: &mut Outcomes,
        images: &Images<'_>,
    ) -> Result<Between, RefineError> {
        let shell_max = self.first_shell_max();
        let grid = self.grid(shell_max)?;
        let all: Vec<usize> = (0..images.set.particles.len()).collect();
        let noise = input::noise_of(images.set, &all)?;
        let (particles, seeds): (Vec<_>, Vec<_>) = self.seeds().into_iter().unzip();
        let start = Start {
            iteration: 0,
            images,
            particles: &particles,
            grid: &grid,
            references: None,
            common: self.common(shell_max, &noise),
            seeds: &seeds,
        };
        let output = tasks::run(job, outcomes, &start, self.observer.as_ref()).await?;
        let averages = self.averages(&grid, &output);
        let state = State {
            iteration: 0,
            shell_max,
            particles: Vec::new(),
            noise: noise.into_iter().map(|noise| noise.sigma2).collect(),
            classes: figures(&averages, &output),
            rounds: Vec::new(),
        };
        Ok(Between {
            state,
            averages: averages
                .into_iter()
                .flat_map(|average| average.samples)
                .collect(),
        })
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
        let state = self.state(before, shell_max, &averages, &output, &noise, started);
        if iteration + ROUNDS_UNSPLIT <= self.options.settings.iterations {
            self.split(&grid, &output, &mut averages);
        }
        let averages: Vec<Complex32> = averages
            .into_iter()
            .flat_map(|average| average.samples)
            .collect();
        state::write(&self.options.out, &state, &averages)?;
        self.tell(&state);
        Ok(Between { state, averages })
    }

    fn common(&self, shell_max: usize, noise: &[v1::NoiseSpectrum]) -> v1::ClassifyParameters {
        v1::ClassifyParameters {
            noise: noise.to_vec(),
            class_count: self.options.settings.class_count as u32,
            mask_diameter_angstrom: self.prepared.mask_diameter_angstrom,
            shell_max: shell_max as u32,
            shift_max_angstrom: self.options.settings.shift_max_angstrom,
            ..Default::default()
        }
    }

    fn grid(&self, shell_max: usize) -> Result<ClassGrid, RefineError> {
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

    fn first_shell_max(&self) -> usize {
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

    /// Particles that the seed chooses, in their order, with the class and angle of each.
    fn seeds(&self) -> Vec<(usize, v1::ClassSeed)> {
        let settings = &self.options.settings;
        let mut random = GaussianNoise::new(settings.seed, 0);
        let mut below = |count: usize| (random.uniform() * count as f64) as usize;
        let mut particles: Vec<usize> = (0..self.prepared.set.particles.len()).collect();
        let count = particles.len().min(SEEDS_PER_CLASS * settings.class_count);
        let mut seeds = Vec::new();
        for at in 0..count {
            let chosen = at + below(particles.len() - at);
            particles.swap(at, chosen);
            let seed = v1::ClassSeed {
                class_index: (at % settings.class_count) as u32,
                angle: below(1 << 16) as u32,
            };
            seeds.push((particles[at], seed));
        }
        seeds.sort_by_key(|(particle, _)| *particle);
        seeds
    }

    fn averages(&self, grid: &ClassGrid, output: &RoundOutput) -> Vec<ClassAverage> {
        let settings = &self.options.settings;
        let average = |class| output.totals.average(grid, class, settings.tau_factor);
        (0..settings.class_count).map(average).collect()
    }

    /// Gives classes that have become empty a part in the largest ones: each of the two goes on from the particles of every
    /// other block. Where a class holds two views, the halves drift apart; where it holds one, it is shown twice.
    fn split(&self, grid: &ClassGrid, output: &RoundOutput, averages: &mut [ClassAverage]) {
        let tau_factor = self.options.settings.tau_factor;
        for (empty, large) in splits(&output.class_weights) {
            let [even, odd] = output
                .halves
                .each_ref()
                .map(|half| half.average(grid, large, tau_factor));
            let has_signal = |half: &ClassAverage| half.samples.iter().any(|value| value.re != 0.0);
            // Few particles are one block.
            if has_signal(&even) && has_signal(&odd) {
                (averages[large], averages[empty]) = (even, odd);
            }
        }
    }

    fn state(
        &self,
        before: &Between,
        shell_max: usize,
        averages: &[ClassAverage],
        output: &RoundOutput,
        noise: &[v1::NoiseSpectrum],
        started: Instant,
    ) -> State {
        let particles: Vec<Placed> = output.particles.iter().map(placed).collect();
        let classes = figures(averages, output);
        let pairs = before.state.particles.iter().zip(&particles);
        let moved = pairs.map(|(a, b)| f64::from(u8::from(a.class != b.class)));
        let mut counts = vec![0_usize; classes.len()];
        for placed in &particles {
            counts[placed.class] += 1;
        }
        let round = RoundFigures {
            limit_angstrom: self.resolution_angstrom(shell_max),
            resolution_angstrom: self.resolution_angstrom(best_rings(&classes)),
            moved: mean(moved),
            mean_weight: mean(particles.iter().map(|placed| placed.weight)),
            empty_classes: counts.iter().filter(|count| **count == 0).count(),
            seconds: started.elapsed().as_secs_f64(),
            task_seconds: output.task_seconds,
        };
        State {
            iteration: before.state.iteration + 1,
            shell_max,
            noise: maps::noise_from_residuals(&output.residuals, noise),
            particles,
            classes,
            rounds: [&before.state.rounds[..], &[round]].concat(),
        }
    }

    fn tell(&self, state: &State) {
        let Some(round) = state.rounds.last() else {
            return;
        };
        let empty = match round.empty_classes {
            0 => String::new(),
            count => format!(", {count} classes are empty"),
        };
        let moved = match state.iteration {
            1 => "every particle has a class".to_owned(),
            _ => format!(
                "{:.1} % of the particles changed class",
                100.0 * round.moved
            ),
        };
        self.note(&format!(
            "round {}: {moved}, the best class shows {:.1} A{empty}, {:.1} s",
            state.iteration, round.resolution_angstrom, round.seconds
        ));
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

    fn resolution_angstrom(&self, shell: usize) -> f64 {
        outputs::resolution_angstrom(&self.prepared.set, shell)
    }

    fn note(&self, line: &str) {
        self.observer.on(Progress::Note(line));
    }
}

/// The rings of the best class that at least one particle is in.
fn best_rings(classes: &[ClassFigures]) -> usize {
    let inhabited = classes.iter().filter(|class| class.weight >= 1.0);
    inhabited
        .map(|class| class.resolved_rings)
        .max()
        .unwrap_or(0)
}

fn figures(averages: &[ClassAverage], output: &RoundOutput) -> Vec<ClassFigures> {
    let pairs = averages.iter().zip(&output.class_weights);
    pairs
        .map(|(average, weight)| ClassFigures {
            weight: *weight,
            resolved_rings: average.resolved_rings(),
        })
        .collect()
}

/// Which empty class takes part of which large one: the largest first, none twice, and none that is smaller than the mean.
fn splits(weights: &[f64]) -> Vec<(usize, usize)> {
    let average = weights.iter().sum::<f64>() / weights.len().max(1) as f64;
    let mut large: Vec<usize> = (0..weights.len())
        .filter(|class| weights[*class] > average)
        .collect();
    large.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]));
    let empty = (0..weights.len()).filter(|class| weights[*class] < EMPTY * average);
    empty.zip(large).collect()
}

fn spectrum(sigma2: &[f64]) -> v1::NoiseSpectrum {
    v1::NoiseSpectrum {
        sigma2: sigma2.to_vec(),
    }
}

fn placed(particle: &v1::ClassifiedParticle) -> Placed {
    Placed {
        class: particle.class_index as usize,
        psi_deg: particle.psi_deg,
        shift_angstrom: [particle.shift_x_angstrom, particle.shift_y_angstrom],
        weight: particle.weight,
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::splits;

    #[test]
    fn empty_classes_take_from_the_largest_and_no_class_gives_twice() {
        assert_eq!(splits(&[100.0, 0.0, 300.0, 1.0]), [(1, 2)]);
        assert_eq!(splits(&[250.0, 0.0, 350.0, 0.0, 0.0]), [(1, 2), (3, 0)]);
        assert_eq!(splits(&[100.0, 90.0, 110.0]), []);
        assert_eq!(splits(&[]), []);
    }
}
