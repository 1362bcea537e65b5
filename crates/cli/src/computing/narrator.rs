//! Tells on stderr how a refinement goes: a bar for each round on a terminal, lines for what is done.

use crate::clock;
use dewar_refine::{Observer, Progress, postprocess::Step};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::{self, Write as _},
    sync::Mutex,
    time::Duration,
};

/// Tells how a refinement goes.
pub struct Narrator {
    bar: ProgressBar,
    /// FSC 0.143 of the last finished round.
    resolution_angstrom: Mutex<Option<f64>>,
}

impl Narrator {
    /// Draws nothing until there is something to tell.
    pub fn new() -> Self {
        let bar = ProgressBar::no_length();
        let style = ProgressStyle::with_template("{msg} {bar:24} {pos}/{len} {elapsed}");
        bar.set_style(style.expect("the template is well-formed"));
        Self {
            bar,
            resolution_angstrom: Mutex::new(None),
        }
    }

    /// Prints a line, above the bar if there is one.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| {
            // The work goes on where nobody reads along any more, as after `2>&1 | head`.
            let _ = writeln!(io::stderr(), "{line}");
        });
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn begin(&self, message: String, total: u64) {
        self.bar.reset();
        self.bar.set_length(total);
        self.bar.set_message(message);
        // Time goes on also while a long task does not end.
        self.bar.enable_steady_tick(Duration::from_millis(500));
    }

    fn resolution(&self) -> Option<f64> {
        *self
            .resolution_angstrom
            .lock()
            .expect("nothing panics while it is held")
    }
}

impl Observer for Narrator {
    fn on(&self, progress: Progress<'_>) {
        match progress {
            Progress::Note(line) => self.say(line),
            Progress::Importing {
                stack,
                done_bytes,
                total_bytes,
            } => {
                let name = stack.file_name().unwrap_or_default().to_string_lossy();
                if done_bytes == 0 {
                    self.begin(format!("reading {name}"), total_bytes);
                }
                self.bar.set_position(done_bytes);
            }
            Progress::RoundStarted {
                iteration,
                limit_angstrom,
            } => {
                let so_far = self
                    .resolution()
                    .map_or(String::new(), |best| format!(", {best:.2} A so far"));
                self.begin(
                    format!("round {iteration} to {limit_angstrom:.1} A{so_far}"),
                    0,
                );
            }
            Progress::Tasks { done, total, .. } => {
                self.bar.set_length(total as u64);
                self.bar.set_position(done as u64);
            }
            Progress::FinalMaps => self.begin("final maps".to_owned(), 0),
            Progress::PostProcessing { step, done, total } => {
                if done <= 1 {
                    let what = match step {
                        Step::Map => "post-processing",
                        Step::Local => "local resolution",
                    };
                    self.begin(what.to_owned(), total);
                }
                self.bar.set_position(done);
            }
            Progress::RoundFinished {
                iteration,
                resolution_angstrom,
                median_change_deg,
                seconds,
            } => {
                *self
                    .resolution_angstrom
                    .lock()
                    .expect("nothing panics while it is held") = Some(resolution_angstrom);
                let change = median_change_deg.map_or(String::new(), |deg| {
                    format!(", orientations moved by {deg:.2} deg")
                });
                let took = clock::duration(Duration::from_secs_f64(seconds.max(0.0)));
                self.say(&format!(
                    "round {iteration}: {resolution_angstrom:.2} A{change}, {took}"
                ));
            }
        }
    }
}
