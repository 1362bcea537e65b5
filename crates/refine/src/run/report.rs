//! The report of a run: when it starts, after every round and at the end. It may fail: that is said, and the refinement
//! goes on.

use super::Run;
use crate::{
    checkpoint::{self, State},
    error::RefineError,
    maps::RoundMaps,
    outputs::Ending,
    progress::Progress,
    report::{self, Source},
};
use dewar_compute::{fsc, volume::Volume};
use std::panic::{self, AssertUnwindSafe};

impl Run<'_> {
    /// What is known at the start: after the last finished round of an earlier run, or of nothing yet.
    pub(super) fn report_start(&self, finished: Option<&State>) {
        let Some(state) = finished else {
            self.report(&self.source(&State::default(), None));
            return;
        };
        match self.maps_of(state) {
            Ok((map, fsc)) => self.report(&self.source(state, Some((&map, &fsc)))),
            Err(error) => {
                self.tell_broken(&error.to_string());
                self.report(&self.source(state, None));
            }
        }
    }

    /// What is known after a round.
    pub(super) fn report_round(&self, state: &State, maps: &RoundMaps) {
        self.report(&self.source(state, Some((&maps.map, &maps.fsc))));
    }

    /// What is known at the end.
    pub(super) fn report_end(&self, ending: &Ending<'_>) {
        let maps = (&ending.maps.map, &ending.maps.fsc[..]);
        self.report(&Source {
            ending: Some(ending),
            ..self.source(ending.state, Some(maps))
        });
    }

    fn maps_of(&self, state: &State) -> Result<(Volume, Vec<f64>), RefineError> {
        let (map, [first, second]) = checkpoint::maps_of(&self.options.out, state.iteration)?;
        let fsc = fsc::fsc(&first, &second, None);
        Ok((
            map,
            fsc.map_err(|error| RefineError::Output(error.to_string()))?,
        ))
    }

    fn source<'b>(&'b self, state: &'b State, maps: Option<(&'b Volume, &'b [f64])>) -> Source<'b> {
        Source {
            options: self.options,
            prepared: &self.prepared,
            digests: &self.digests,
            state,
            map: maps.map(|(map, _)| map),
            fsc: maps.map(|(_, fsc)| fsc),
            ending: None,
        }
    }

    fn report(&self, source: &Source<'_>) {
        // Whatever a library that draws makes of odd numbers, the maps are worth more.
        let drawn = panic::catch_unwind(AssertUnwindSafe(|| report::page(source)));
        let Ok((page, problems)) = drawn else {
            self.tell_broken("drawing it stopped");
            return;
        };
        problems
            .iter()
            .for_each(|problem| self.tell_broken(problem));
        if let Err(error) = self.live.show(page) {
            self.tell_broken(&error.to_string());
        }
    }

    fn tell_broken(&self, problem: &str) {
        let note = format!("the report is not whole: {problem}");
        self.observer.on(Progress::Note(&note));
    }
}
