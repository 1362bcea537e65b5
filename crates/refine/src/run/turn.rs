//! One round of a run: what it starts from, what its tasks and maps come to, and what it hands to the next.

use super::Run;
use crate::{
    checkpoint::{self, State},
    error::RefineError,
    figures::{PoseFigures, RoundFigures},
    input,
    maps::{self, Making, RoundMaps, Total},
    memory,
    pose::PoseRecord,
    progress::Progress,
    round::{self, HalfResult, HalfStart, RoundOutput, TaskMemory},
    scale,
    schedule::{self, RoundResult},
    tasks::Images,
};
use bytes::Bytes;
use dewar_compute::volume::{Volume, padding_max};
use dewar_proto::em::v1;
use dewar_sdk::{BlobRef, Job, Outcomes};
use std::time::Instant;

/// Padding of the sums in every round: 1.5 loses less than 0.0002 in FSC against 2, at 0.42 of the size.
pub(super) const PADDING: f64 = 1.5;

/// What one round hands to the next.
pub(super) struct Between {
    pub(super) state: State,
    pub(super) references: [Volume; 2],
}

impl Run<'_> {
    /// One round: tasks, maps, and the folder that makes it count.
    pub(super) async fn round(
        &self,
        job: &Job,
        outcomes: &mut Outcomes,
        stacks: &[BlobRef],
        before: Option<&Between>,
    ) -> Result<Between, RefineError> {
        let started = Instant::now();
        let iteration = before.map_or(1, |before| before.state.iteration + 1);
        let align = self.align_parameters(before);
        let limit_angstrom = self.angstrom(align.shell_max as f64);
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
        let noise = match before {
            Some(before) => noise_of(&before.state),
            None => [
                input::first_noise(&self.prepared, 0)?,
                input::first_noise(&self.prepared, 1)?,
            ],
        };
        let scales = before.map_or_else(|| self.scales_unknown(), |last| last.state.scales.clone());
        let images = self.images(stacks, &scales);
        let start = round::Start {
            iteration,
            name: format!("r{iteration}"),
            images: &images,
            halves: self.half_starts(reference_blobs.map(Some), &noise),
            align,
            padding: self.padding(PADDING),
            memory: self.task_memory(0),
            known: before.map_or(&[], |before| &before.state.poses),
        };
        let output = round::run(job, outcomes, &start, self.observer.as_ref()).await?;
        self.tell_reused(iteration, &output);
        let totals = output.halves.each_ref().map(|half| half.total);
        let maps = self.round_maps(job, &totals).await?;
        let used = reference_blobs
            .iter()
            .chain(&totals)
            .map(|blob| blob.digest);
        job.release(&used.collect::<Vec<_>>()).await?;

        let poses = self.poses(&output.halves);
        let scales = [0, 1].map(|half| {
            let (groups, particles) = (&self.prepared.groups, &self.prepared.halves[half]);
            scale::updated(groups, &scales[half], particles, &poses)
        });
        let figures = self.figures(&start, &output, &maps, &poses, started);
        let rounds = before.map_or(&[][..], |before| &before.state.rounds);
        let state = State {
            iteration,
            rounds: [rounds, std::slice::from_ref(&figures)].concat(),
            poses,
            noise: [0, 1].map(|half| {
                maps::noise_from_residuals(&output.halves[half].residuals, &noise[half])
            }),
            scales,
        };
        checkpoint::write(&self.options.out, &self.prepared, &state, &maps)?;
        self.report_round(&state, &maps);
        self.observer.on(Progress::RoundFinished {
            iteration,
            resolution_angstrom: figures.resolution_angstrom,
            median_change_deg: figures.change_deg,
            seconds: figures.seconds,
        });
        Ok(Between {
            state,
            references: maps.references,
        })
    }

    fn align_parameters(&self, before: Option<&Between>) -> v1::AlignParameters {
        let rounds = before.map_or(Vec::new(), |before| results(&before.state));
        v1::AlignParameters {
            symmetry: self.options.settings.symmetry.clone(),
            mask_diameter_angstrom: self.prepared.mask_diameter_angstrom,
            shell_max: self.shell_max(&rounds) as u32,
            shift_max_angstrom: self.options.settings.shift_max_angstrom,
            local: schedule::is_local(self.mask_reach(), &rounds),
            // Nothing says that a foreign reference is on the grey scale of these images; our own maps are.
            score_mode: match before {
                None => v1::ScoreMode::ScaleFree,
                Some(_) => v1::ScoreMode::Likelihood,
            }
            .into(),
            trust_every_pixel: self.options.settings.relion_weights,
            ..Default::default()
        }
    }

    fn shell_max(&self, rounds: &[RoundResult]) -> usize {
        let set = &self.prepared.set;
        schedule::next_shell_max(set.box_size_px, self.mask_reach(), rounds).unwrap_or_else(|| {
            schedule::first_shell_max(
                set.box_size_px,
                set.pixel_size_angstrom,
                self.options.settings.low_pass_angstrom,
            )
        })
    }

    /// What a round comes to in numbers.
    fn figures(
        &self,
        start: &round::Start<'_>,
        output: &RoundOutput,
        maps: &RoundMaps,
        poses: &[PoseRecord],
        started: Instant,
    ) -> RoundFigures {
        let shell_max = start.align.shell_max as usize;
        let of_poses = PoseFigures::of(start.known, poses);
        RoundFigures {
            iteration: start.iteration,
            shell_max,
            limit_angstrom: self.angstrom(shell_max as f64),
            local: start.align.local,
            resolution_shell: maps.resolution_shell,
            resolution_angstrom: self.resolution_angstrom(maps.resolution_shell),
            change_deg: of_poses.change.map(|(deg, _)| deg),
            change_angstrom: of_poses.change.map(|(_, angstrom)| angstrom),
            angle_sd_deg: of_poses.spread.0,
            shift_sd_angstrom: of_poses.spread.1,
            weight_mean: of_poses.weight_mean,
            log_likelihood_mean: of_poses.log_likelihood_mean,
            seconds: started.elapsed().as_secs_f64(),
            stages: output.stages,
            workers: output.workers.clone(),
            instruction_classes: output.instruction_classes.clone(),
            task_count: output.task_count,
            reused_count: output.reused_count,
        }
    }

    fn tell_reused(&self, iteration: usize, output: &RoundOutput) {
        let (reused, total) = (output.reused_count, output.task_count);
        if reused > 0 {
            self.observer.on(Progress::Note(&format!(
                "{reused} of {total} tasks of round {iteration} had been computed before"
            )));
        }
    }

    /// The particles as tasks are told of them.
    pub(super) fn images<'b>(
        &'b self,
        stacks: &'b [BlobRef],
        scales: &[Vec<f64>; 2],
    ) -> Images<'b> {
        let groups = self.prepared.groups.of.iter();
        Images {
            set: &self.prepared.set,
            stacks,
            scales: groups
                .zip(&self.prepared.half_of)
                .map(|(group, half)| scales[*half][*group])
                .collect(),
        }
    }

    fn scales_unknown(&self) -> [Vec<f64>; 2] {
        [0, 1].map(|_| vec![1.0; self.prepared.groups.names.len()])
    }

    pub(super) fn half_starts<'b>(
        &'b self,
        references: [Option<BlobRef>; 2],
        noise: &'b [Vec<v1::NoiseSpectrum>; 2],
    ) -> [HalfStart<'b>; 2] {
        [0, 1].map(|half| HalfStart {
            particles: &self.prepared.halves[half],
            plan: &self.plans[half],
            reference: references[half],
            noise: &noise[half],
        })
    }

    /// What tasks take: in a round (0), or at the end (1).
    pub(super) fn task_memory(&self, when: usize) -> TaskMemory {
        TaskMemory {
            align: memory::stated(self.memory.align),
            insert: memory::stated(self.memory.insert[when]),
            sum: memory::stated(self.memory.sum[when]),
        }
    }

    /// This padding, or what the box leaves of it.
    pub(super) fn padding(&self, wanted: f64) -> f64 {
        wanted.min(padding_max(self.prepared.set.box_size_px))
    }

    /// How maps are made here.
    pub(super) fn making(&self) -> Making {
        Making {
            group: self.prepared.group,
            pixel_size_angstrom: self.prepared.set.pixel_size_angstrom,
            mask_diameter_angstrom: self.prepared.mask_diameter_angstrom,
        }
    }

    /// Downloads both totals and makes the maps, off the runtime's threads.
    async fn round_maps(&self, job: &Job, totals: &[BlobRef; 2]) -> Result<RoundMaps, RefineError> {
        let totals = self.downloaded(job, totals).await?;
        let making = self.making();
        off_the_runtime(move || maps::from_totals(&totals, &making)).await
    }

    /// Both totals, on disk in the output folder: in memory they would stand beside what is made of them.
    pub(super) async fn downloaded(
        &self,
        job: &Job,
        totals: &[BlobRef; 2],
    ) -> Result<[Total; 2], RefineError> {
        let folder = &self.options.out;
        Ok([
            Total::keep(folder, &job.read_blob(&totals[0]).await?)?,
            Total::keep(folder, &job.read_blob(&totals[1]).await?)?,
        ])
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
}

/// What the rules of the schedule ask of the rounds so far.
pub(super) fn results(state: &State) -> Vec<RoundResult> {
    state.rounds.iter().map(RoundFigures::result).collect()
}

/// The noise after a round, as tasks are told of it.
pub(super) fn noise_of(state: &State) -> [Vec<v1::NoiseSpectrum>; 2] {
    state.noise.each_ref().map(|of_half| {
        let spectra = of_half.iter().cloned();
        spectra.map(|sigma2| v1::NoiseSpectrum { sigma2 }).collect()
    })
}

/// Runs what takes long on a thread that may block.
pub(super) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RefineError> + Send + 'static,
) -> Result<T, RefineError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| RefineError::Output(format!("reconstruction stopped: {error}")))?
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
