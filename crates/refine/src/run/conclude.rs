//! How a run ends: whether it is over, the final maps, and what is said of it.
//!
//! The rounds' maps are made with little padding. The last are made of the same poses once more, as exactly as can be, and
//! post-processed by what `dewar postprocess` runs.

use super::{
    Run,
    turn::{Between, noise_of, off_the_runtime, results},
};
use crate::{
    checkpoint::{self, State},
    error::RefineError,
    figures::ViewCoverage,
    maps::{self, FinalMaps},
    outputs::{self, Ending, Summary},
    postprocess::{self, Found},
    progress::Progress,
    record::{self, Record},
    round::{self, Joined, StageSeconds},
    schedule::{self, RoundResult},
};
use dewar_compute::postprocess::Params;
use dewar_sdk::{BlobRef, Job, Outcomes};
use std::sync::Arc;

/// Padding of the final sums, where the box leaves room for it.
const PADDING: f64 = 2.0;

impl Run<'_> {
    /// The summary of an earlier run that came to its end with at least as many rounds allowed.
    pub(super) fn already_done(&self) -> Result<Option<Summary>, RefineError> {
        let path = self.options.out.join(record::FILE);
        if !path.exists() {
            return Ok(None);
        }
        let record: Record = checkpoint::read_json(&path)?;
        let has_all_rounds =
            record.converged || record.iterations >= self.options.settings.iterations_max;
        let is_complete =
            has_all_rounds && record.postprocess == self.options.absolute().postprocess;
        Ok(is_complete.then(|| {
            self.observer.on(Progress::Note(
                "this refinement is done already; nothing was computed",
            ));
            Summary::of(&self.options.out, &record)
        }))
    }

    /// Whether the rounds so far are all there are to be.
    pub(super) fn is_over(&self, between: &Between) -> bool {
        self.has_converged(&results(&between.state))
            || between.state.iteration >= self.options.settings.iterations_max
    }

    fn has_converged(&self, rounds: &[RoundResult]) -> bool {
        schedule::is_over(self.mask_reach(), rounds)
    }

    /// Makes the final maps, post-processes them, and writes all there is to write.
    pub(super) async fn finish(
        &self,
        job: &Job,
        outcomes: &mut Outcomes,
        stacks: &[BlobRef],
        last: &Between,
    ) -> Result<Summary, RefineError> {
        self.observer.on(Progress::FinalMaps);
        let (maps, joined) = self.final_maps(job, outcomes, stacks, last).await?;
        let maps = Arc::new(maps);
        let found = self.postprocessed(&maps).await?;
        let mut record = self.record(&last.state, &maps, &found);
        record.final_stages = joined.stages;
        record.final_workers = joined.workers;
        record
            .instruction_classes
            .extend(joined.instruction_classes);
        let ending = Ending {
            state: &last.state,
            maps: &maps,
            found: &found,
            record: &record,
        };
        self.report_end(&ending);
        outputs::write(self.options, &self.prepared, &ending)?;
        Ok(Summary::of(&self.options.out, &record))
    }

    async fn final_maps(
        &self,
        job: &Job,
        outcomes: &mut Outcomes,
        stacks: &[BlobRef],
        last: &Between,
    ) -> Result<(FinalMaps, Joined), RefineError> {
        let state = &last.state;
        let noise = noise_of(state);
        let images = self.images(stacks, &state.scales);
        let start = round::Start {
            iteration: state.iteration,
            name: "final".to_owned(),
            images: &images,
            // Nothing is compared with a reference any more.
            halves: self.half_starts([None; 2], &noise),
            align: Default::default(),
            padding: self.padding(PADDING),
            memory: self.task_memory(1),
            known: &state.poses,
        };
        let joined = round::join(job, outcomes, &start, self.observer.as_ref()).await?;
        let totals = self.downloaded(job, &joined.totals).await?;
        job.release(&joined.totals.map(|total| total.digest))
            .await?;
        let making = self.making();
        let maps = off_the_runtime(move || maps::at_the_end(&totals, &making)).await?;
        Ok((maps, joined))
    }

    async fn postprocessed(&self, maps: &Arc<FinalMaps>) -> Result<Found, RefineError> {
        let settings = &self.options.postprocess;
        let params = Params {
            pixel_size_angstrom: self.prepared.set.pixel_size_angstrom,
            mask: self.prepared.postprocess.mask.clone(),
            b_factor_angstrom2: settings.b_factor_angstrom2,
            mtf: self.prepared.postprocess.mtf.clone(),
            seed: settings.seed,
        };
        let (maps, observer) = (Arc::clone(maps), Arc::clone(&self.observer));
        let with_local = settings.local_resolution;
        off_the_runtime(move || {
            let mut progress = |step, done, total| {
                observer.on(Progress::PostProcessing { step, done, total });
            };
            let halves = maps.halves.each_ref();
            Ok(postprocess::run(halves, params, with_local, &mut progress)?)
        })
        .await
    }

    fn record(&self, state: &State, maps: &FinalMaps, found: &Found) -> Record {
        let rounds = results(state);
        let own = dewar_task::instruction_class();
        let others = state
            .rounds
            .iter()
            .flat_map(|round| &round.instruction_classes);
        Record {
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            instruction_class: own.to_owned(),
            instruction_classes: others.cloned().chain([own.to_owned()]).collect(),
            command: record::command(),
            working_dir: std::env::current_dir().unwrap_or_default(),
            settings: self.options.settings.clone(),
            project_dir: self.options.project_dir.clone(),
            accept_images: self.options.accept_images,
            postprocess: self.options.absolute().postprocess,
            mask_diameter_angstrom: self.prepared.mask_diameter_angstrom,
            inputs: self.digests.clone(),
            particle_count: state.poses.len(),
            half_counts: self.prepared.halves.each_ref().map(Vec::len),
            group_count: self.prepared.groups.names.len(),
            box_size_px: self.prepared.set.box_size_px,
            pixel_size_angstrom: self.prepared.set.pixel_size_angstrom,
            iterations: state.iteration,
            converged: self.has_converged(&rounds),
            has_own_detail: schedule::has_own_detail(&rounds, self.mask_reach()),
            resolution_angstrom: self.resolution_angstrom(maps.resolution_shell),
            postprocessed: found.told(),
            coverage: ViewCoverage::of(&state.poses, &self.prepared.group),
            rounds: state.rounds.clone(),
            final_stages: StageSeconds::default(),
            final_workers: Vec::new(),
            warnings: self.prepared.warnings.clone(),
            seconds: self.started.elapsed().as_secs_f64(),
        }
    }

    /// How many shells the mask on references carries detail beyond where it ended.
    pub(super) fn mask_reach(&self) -> usize {
        let set = &self.prepared.set;
        let box_angstrom = set.box_size_px as f64 * set.pixel_size_angstrom;
        schedule::mask_reach(box_angstrom, self.prepared.mask_diameter_angstrom)
    }

    /// What is said of half-maps: the last whole shell before the curve falls. Between two shells it is anybody's guess, and
    /// half-maps that share a little of their particles' noise must not look finer than they are.
    pub(super) fn resolution_angstrom(&self, resolution_shell: f64) -> f64 {
        self.angstrom(resolution_shell.floor().max(1.0))
    }

    /// A shell as a length.
    pub(super) fn angstrom(&self, shell: f64) -> f64 {
        let set = &self.prepared.set;
        set.box_size_px as f64 * set.pixel_size_angstrom / shell
    }
}
