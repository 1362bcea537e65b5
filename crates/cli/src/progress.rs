//! Progress on a terminal: a bar for whatever takes over two seconds, and nothing where nobody watches.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{cell::Cell, time::Instant};

/// How long work may take before it shows a bar.
const QUIET_S: f64 = 2.0;

/// One bar on stderr.
pub struct Bar {
    bar: ProgressBar,
    started: Instant,
    shown: Cell<bool>,
}

impl Bar {
    /// A bar that appears once the work has taken two seconds.
    pub fn new(what: &'static str, unit: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let style =
            format!("{{msg:<28}} {{bar:24}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left");
        bar.set_style(ProgressStyle::with_template(&style).expect("the template is well-formed"));
        bar.set_message(what);
        Self {
            bar,
            started: Instant::now(),
            shown: Cell::new(false),
        }
    }

    /// Tells how far the work is.
    pub fn set(&self, done: u64, total: u64) {
        if !self.shown.get() && self.started.elapsed().as_secs_f64() > QUIET_S {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.shown.set(true);
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
