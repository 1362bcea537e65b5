//! The refinement itself: inputs to the broker, rounds until nothing improves, outputs.

use crate::{
    checkpoint::{self, State},
    error::RefineError,
    input::{self, Prepared},
    maps::{self, RoundMaps},
    options::Options,
    outputs::{self, Summary},
    plan::HalfPlan,
    pose::{self, PoseRecord},
    progress::{Observer, Progress},
    record::{self, InputDigests, Record},
    round::{self, HalfResult, HalfStart, RoundOutput},
    schedule::{self, RoundResult},
    tasks::Images,
};
use bytes::Bytes;
use dewar_compute::volume::Volume;
use dewar_proto::em::v1;
use dewar_sdk::{BlobRef, Client, FileProgress, Job, JobId, JobOptions, Outcomes};
use std::{
    fs,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

/// Padding of the sums in every round: 1.5 loses less than 0.0002 in FSC against 2, at 0.42 of the size.
const PADDING: f64 = 1.5;

/// Largest side of images: twice padded, as references are, it is the largest map that is transformed.
const BOX_SIZE_PX_MAX: usize = 512;

/// How long a job is kept once it has ended: for so long an interrupted run finds again what its unfinished round had
/// computed.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// After so long without its program a refinement needs no more work: one that lives watches its job all the time.
const ABSENCE_MAX: Duration = Duration::from_secs(3600);

/// Checks the inputs and whether the output folder is free for them, and writes nothing.
///
/// Returns the stacks that the particle file names, for who must give a broker access to them.
///
/// # Errors
/// If the inputs are wrong, or the folder holds another refinement.
pub fn check(options: &Options) -> Result<Vec<PathBuf>, RefineError> {
    let (prepared, digests) = read_inputs(options)?;
    record::check_folder(options, &digests)?;
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
    run.forget_job();
    if result.as_ref().is_err_and(RefineError::is_input) {
        record::release_folder(&options.out);
    }
    result
}

fn read_inputs(options: &Options) -> Result<(Prepared, InputDigests), RefineError> {
    let prepared = input::prepare(options)?;
    let box_size_px = prepared.set.box_size_px;
    if !(schedule::BOX_SIZE_PX_MIN..=BOX_SIZE_PX_MAX).contains(&box_size_px) {
        return Err(RefineError::Input(format!(
            "{}: the images are {box_size_px} pixels wide; a refinement needs at least {} and takes at most \
             {BOX_SIZE_PX_MAX}",
            options.particles.display(),
            schedule::BOX_SIZE_PX_MIN
        )));
    }
    let digests = InputDigests::of(options, &prepared.set)?;
    Ok((prepared, digests))
}

/// One refinement under way.
struct Run<'a> {
    options: &'a Options,
    observer: &'a Arc<dyn Observer>,
    prepared: Prepared,
    digests: InputDigests,
    plans: [HalfPlan; 2],
    started: Instant,
    /// Keeps a second refinement out of the folder.
    _lock: fs::File,
}

/// What there is to do.
enum Opened {
    Job(Job),
    AlreadyDone(Summary),
}

/// What one round hands to the next.
struct Between {
    state: State,
    references: [Volume; 2],
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
        let lock = record::lock_folder(&options.out)?;
        record::claim_folder(options, &digests)?;
        let plans = [0, 1].map(|half| HalfPlan::new(prepared.halves[half].len()));
        Ok(Self {
            options,
            observer,
            prepared,
            digests,
            plans,
            started: Instant::now(),
            _lock: lock,
        })
    }

    /// Opens this run's job, unless an earlier run did all there is to do. The note of the job is written first: a job
    /// that was never opened is cancelled in vain, but none is ever left behind.
    async fn open(&self, client: &Client) -> Result<Opened, RefineError> {
        self.cancel_abandoned_job(client).await;
        if let Some(summary) = self.already_done()? {
            return Ok(Opened::AlreadyDone(summary));
        }
        let name = self
            .options
            .particles
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let id = JobId::new();
        record::remember_job(&self.options.out, id)?;
        let options = JobOptions {
            id: Some(id),
            keep: Some(KEEP),
            absence_max: Some(ABSENCE_MAX),
            reuse: true,
            ..JobOptions::named(format!("refine {name}"))
        };
        Ok(Opened::Job(client.open_job(options).await?))
    }

    /// The summary of an earlier run that came to its end with at least as many rounds allowed.
    fn already_done(&self) -> Result<Option<Summary>, RefineError> {
        let path = self.options.out.join(record::FILE);
        if !path.exists() {
            return Ok(None);
        }
        let record: Record = checkpoint::read_json(&path)?;
        let is_complete =
            record.converged || record.iterations >= self.options.settings.iterations_max;
        Ok(is_complete.then(|| {
            self.observer.on(Progress::Note(
                "this refinement is done already; nothing was computed",
            ));
            Summary::of(&self.options.out, &record)
        }))
    }

    async fn rounds(&self, job: &Job) -> Result<Summary, RefineError> {
        let stacks = self.import_stacks(job).await?;
        let images = Images {
            set: &self.prepared.set,
            stacks: &stacks,
        };
        let mut outcomes = job.outcomes();
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
        loop {
            if let Some(between) = &last
                && (self.has_converged(between)
                    || between.state.iteration >= self.options.settings.iterations_max)
            {
                return self.finish(between);
            }
            last = Some(
                self.round(job, &mut outcomes, &images, last.as_ref())
                    .await?,
            );
        }
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

    /// One round: tasks, maps, and the folder that makes it count.
    async fn round(
        &self,
        job: &Job,
        outcomes: &mut Outcomes,
        images: &Images<'_>,
        before: Option<&Between>,
    ) -> Result<Between, RefineError> {
        let started = Instant::now();
        let set = &self.prepared.set;
        let iteration = before.map_or(1, |before| before.state.iteration + 1);
        let shell_max = self.shell_max(before);
        let limit_angstrom = set.box_size_px as f64 * set.pixel_size_angstrom / shell_max as f64;
        self.observer.on(Progress::RoundStarted {
            iteration,
            limit_angstrom,
        });

        let references = match before {
            Some(before) => before.references.each_ref(),
            None => [&self.prepared.reference; 2],
        };
        let reference_blobs = [
            upload(job, references[0]).await?,
            upload(job, references[1]).await?,
        ];
        let noise = [self.noise(before, 0)?, self.noise(before, 1)?];
        let start = round::Start {
            iteration,
            images,
            halves: [0, 1].map(|half| HalfStart {
                particles: &self.prepared.halves[half],
                plan: &self.plans[half],
                reference: reference_blobs[half],
                noise: &noise[half],
            }),
            align: v1::AlignParameters {
                symmetry: self.options.settings.symmetry.clone(),
                mask_diameter_angstrom: self.prepared.mask_diameter_angstrom,
                shell_max: shell_max as u32,
                shift_max_angstrom: self.options.settings.shift_max_angstrom,
                local: before.is_some_and(|before| {
                    schedule::is_settled(before.state.changes_deg.last().copied())
                }),
                // Nothing says that a foreign reference is on the grey scale of these images; our own maps are.
                score_mode: match before {
                    None => v1::ScoreMode::ScaleFree,
                    Some(_) => v1::ScoreMode::Likelihood,
                }
                .into(),
                trust_every_pixel: self.options.settings.relion_weights,
                ..Default::default()
            },
            padding: PADDING,
            known: before.map_or(&[], |before| &before.state.poses),
        };
        let RoundOutput {
            halves,
            stages,
            task_count,
            reused_count,
        } = round::run(job, outcomes, &start, self.observer.as_ref()).await?;
        if reused_count > 0 {
            self.observer.on(Progress::Note(&format!(
                "{reused_count} of {task_count} tasks of round {iteration} had been computed before"
            )));
        }
        let maps = self.maps(job, &halves).await?;
        let used = reference_blobs
            .iter()
            .chain(halves.iter().map(|half| &half.total))
            .map(|blob| blob.digest);
        job.release(&used.collect::<Vec<_>>()).await?;

        let poses = self.poses(&halves);
        let median_change_deg =
            before.and_then(|before| pose::median_change_deg(&before.state.poses, &poses));
        let seconds = started.elapsed().as_secs_f64();
        let state = State {
            iteration,
            resolution_shells: appended(
                before.map(|before| &before.state.resolution_shells),
                maps.resolution_shell,
            ),
            seconds: appended(before.map(|before| &before.state.seconds), seconds),
            stages: appended(before.map(|before| &before.state.stages), stages),
            changes_deg: [
                before.map_or(&[][..], |before| &before.state.changes_deg),
                median_change_deg.as_slice(),
            ]
            .concat(),
            poses,
            noise: [0, 1]
                .map(|half| maps::noise_from_residuals(&halves[half].residuals, &noise[half])),
        };
        checkpoint::write(
            &self.options.out,
            set,
            &self.prepared.half_of,
            &state,
            &maps,
        )?;
        self.observer.on(Progress::RoundFinished {
            iteration,
            resolution_angstrom: self.resolution_angstrom(maps.resolution_shell),
            median_change_deg,
            seconds,
        });
        Ok(Between {
            state,
            references: maps.references,
        })
    }

    fn shell_max(&self, before: Option<&Between>) -> usize {
        let set = &self.prepared.set;
        match before.and_then(|before| before.state.resolution_shells.last()) {
            Some(&resolution_shell) => {
                schedule::next_shell_max(set.box_size_px, RoundResult { resolution_shell })
            }
            None => schedule::first_shell_max(
                set.box_size_px,
                set.pixel_size_angstrom,
                self.options.settings.low_pass_angstrom,
            ),
        }
    }

    fn noise(
        &self,
        before: Option<&Between>,
        half: usize,
    ) -> Result<Vec<v1::NoiseSpectrum>, RefineError> {
        match before {
            Some(before) => Ok(before.state.noise[half]
                .iter()
                .map(|sigma2| v1::NoiseSpectrum {
                    sigma2: sigma2.clone(),
                })
                .collect()),
            None => input::first_noise(&self.prepared, half),
        }
    }

    /// Downloads both totals and makes the maps, off the runtime's threads.
    async fn maps(&self, job: &Job, halves: &[HalfResult; 2]) -> Result<RoundMaps, RefineError> {
        let totals = [
            job.read_blob(&halves[0].total).await?,
            job.read_blob(&halves[1].total).await?,
        ];
        let (group, pixel, diameter) = (
            self.prepared.group,
            self.prepared.set.pixel_size_angstrom,
            self.prepared.mask_diameter_angstrom,
        );
        tokio::task::spawn_blocking(move || maps::from_totals(&totals, &group, pixel, diameter))
            .await
            .map_err(|error| RefineError::Output(format!("reconstruction stopped: {error}")))?
    }

    /// Poses of both halves, in the order of the particle file.
    fn poses(&self, halves: &[HalfResult; 2]) -> Vec<PoseRecord> {
        let mut next = halves.each_ref().map(|half| half.poses.iter());
        self.prepared
            .half_of
            .iter()
            .filter_map(|half| next[*half].next())
            .map(PoseRecord::from_wire)
            .collect()
    }

    fn has_converged(&self, between: &Between) -> bool {
        let rounds: Vec<RoundResult> = between
            .state
            .resolution_shells
            .iter()
            .map(|&resolution_shell| RoundResult { resolution_shell })
            .collect();
        schedule::has_converged(&rounds)
    }

    fn finish(&self, last: &Between) -> Result<Summary, RefineError> {
        let state = &last.state;
        let record = Record {
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            settings: self.options.settings.clone(),
            mask_diameter_angstrom: self.prepared.mask_diameter_angstrom,
            inputs: self.digests.clone(),
            particle_count: state.poses.len(),
            half_counts: self.prepared.halves.each_ref().map(Vec::len),
            box_size_px: self.prepared.set.box_size_px,
            pixel_size_angstrom: self.prepared.set.pixel_size_angstrom,
            iterations: state.iteration,
            converged: self.has_converged(last),
            resolution_angstrom: state
                .resolution_shells
                .last()
                .map(|shell| self.resolution_angstrom(*shell)),
            resolutions_angstrom: state
                .resolution_shells
                .iter()
                .map(|shell| self.resolution_angstrom(*shell))
                .collect(),
            round_seconds: state.seconds.clone(),
            stage_seconds: state.stages.clone(),
            seconds: self.started.elapsed().as_secs_f64(),
        };
        outputs::write(&self.options.out, &self.prepared, state, &record)?;
        Ok(Summary::of(&self.options.out, &record))
    }

    /// What is said of a round: the last whole shell before the curve falls. Between two shells it is anybody's guess, and
    /// half-maps that share a little of their particles' noise must not look finer than they are.
    fn resolution_angstrom(&self, resolution_shell: f64) -> f64 {
        let set = &self.prepared.set;
        set.box_size_px as f64 * set.pixel_size_angstrom / resolution_shell.floor().max(1.0)
    }

    /// A customer that died left its job behind: its tasks would keep workers from this run's.
    async fn cancel_abandoned_job(&self, client: &Client) {
        if let Some(job) = record::remembered_job(&self.options.out)
            && client.cancel_job(job).await.is_ok()
        {
            self.observer.on(Progress::Note(
                "cancelled what an interrupted run had left at the broker",
            ));
        }
        self.forget_job();
    }

    fn forget_job(&self) {
        record::forget_job(&self.options.out);
    }
}

/// A map as alignment tasks read it: float32, little-endian, x fastest.
async fn upload(job: &Job, map: &Volume) -> Result<BlobRef, RefineError> {
    let bytes: Vec<u8> = map
        .data()
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    Ok(job.upload(Bytes::from(bytes)).await?)
}

fn appended<T: Copy>(before: Option<&Vec<T>>, value: T) -> Vec<T> {
    before
        .into_iter()
        .flatten()
        .copied()
        .chain([value])
        .collect()
}
