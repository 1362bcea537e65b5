//! The report of a run, after every round and at the end. It may fail: that is said, and the refinement goes on.

use super::Run;
use crate::{
    checkpoint::State,
    maps::RoundMaps,
    outputs::Ending,
    progress::Progress,
    report::{self, Source},
};
use std::panic::{self, AssertUnwindSafe};

impl Run<'_> {
    /// What is known after a round.
    pub(super) fn report_round(&self, state: &State, maps: &RoundMaps) {
        self.report(&Source {
            ending: None,
            ..self.source(state, &maps.map, &maps.fsc)
        });
    }

    /// What is known at the end.
    pub(super) fn report_end(&self, ending: &Ending<'_>) {
        self.report(&Source {
            ending: Some(ending),
            ..self.source(ending.state, &ending.maps.map, &ending.maps.fsc)
        });
    }

    fn source<'b>(
        &'b self,
        state: &'b State,
        map: &'b dewar_compute::volume::Volume,
        fsc: &'b [f64],
    ) -> Source<'b> {
        Source {
            options: self.options,
            prepared: &self.prepared,
            digests: &self.digests,
            state,
            map,
            fsc,
            ending: None,
        }
    }

    fn report(&self, source: &Source<'_>) {
        // Whatever a library that draws makes of odd numbers, the maps are worth more.
        let written = panic::catch_unwind(AssertUnwindSafe(|| report::write(source)));
        let problems = match written {
            Ok(Ok(problems)) => problems,
            Ok(Err(error)) => vec![error.to_string()],
            Err(_) => vec!["drawing it stopped".to_owned()],
        };
        for problem in problems {
            let note = format!("the report is not whole: {problem}");
            self.observer.on(Progress::Note(&note));
        }
    }
}
