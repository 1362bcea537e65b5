//! How a run ends: whether it is over, and what is said of it.

use super::{Run, turn::Between};
use crate::{
    checkpoint,
    error::RefineError,
    outputs::{self, Summary},
    progress::Progress,
    record::{self, Record},
    schedule::{self, RoundResult},
};

impl Run<'_> {
    /// The summary of an earlier run that came to its end with at least as many rounds allowed.
    pub(super) fn already_done(&self) -> Result<Option<Summary>, RefineError> {
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

    pub(super) fn has_converged(&self, between: &Between) -> bool {
        let rounds: Vec<RoundResult> = between
            .state
            .resolution_shells
            .iter()
            .map(|&resolution_shell| RoundResult { resolution_shell })
            .collect();
        schedule::has_converged(&rounds)
    }

    pub(super) fn finish(&self, last: &Between) -> Result<Summary, RefineError> {
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
    pub(super) fn resolution_angstrom(&self, resolution_shell: f64) -> f64 {
        let set = &self.prepared.set;
        set.box_size_px as f64 * set.pixel_size_angstrom / resolution_shell.floor().max(1.0)
    }
}
