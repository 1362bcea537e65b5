//! Progress on a terminal: a bar for whatever takes over two seconds, and nothing where nobody watches.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    borrow::Cow,
    io::{self, Write as _},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

/// How long work may take before it shows a bar.
const QUIET_S: f64 = 2.0;

/// One bar on stderr.
pub struct Bar {
    bar: ProgressBar,
    started: Instant,
    shown: AtomicBool,
}

impl Bar {
    /// A bar that appears once the work has taken two seconds.
    pub fn new(what: impl Into<Cow<'static, str>>, unit: &str) -> Self {
        Self::with_style(
            what,
            &format!("{{msg:<28}} {{bar:24}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left"),
        )
    }

    /// The same for bytes.
    pub fn of_bytes(what: impl Into<Cow<'static, str>>) -> Self {
        Self::with_style(
            what,
            "{msg:<28} {bar:24} {binary_bytes}/{binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
        )
    }

    fn with_style(what: impl Into<Cow<'static, str>>, style: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
        bar.set_message(what);
        Self {
            bar,
            started: Instant::now(),
            shown: AtomicBool::new(false),
        }
    }

    /// Says what is done from now on, and begins anew.
    pub fn turn_to(&self, what: impl Into<Cow<'static, str>>) {
        self.bar.reset();
        self.bar.set_message(what);
    }

    /// Tells how far the work is.
    pub fn set(&self, done: u64, total: u64) {
        if self.started.elapsed().as_secs_f64() > QUIET_S
            && !self.shown.swap(true, Ordering::Relaxed)
        {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
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
}
