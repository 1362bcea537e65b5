//! Leaving without taking results along: what only this worker keeps is brought elsewhere before it goes.
//!
//! The broker decides where to, and says how much is left. A worker that drains waits for that, for as long as it gets less;
//! one that was told to stop has seconds, and what is still here then is computed again if it does not come back.

use crate::{near::Near, session::Event};
use dewar_proto::v1;
use std::time::Duration;
use tokio::{sync::mpsc, time::Instant};

/// Brokers of this minor version and later take over what a worker that leaves keeps.
const HANDOVER_MINOR: u32 = 5;

/// A worker that drains leaves, whatever is left, when it was told of no progress for so long.
const PATIENCE: Duration = Duration::from_secs(600);

/// How far it is.
pub(crate) struct Handover {
    near: Near,
    events: mpsc::Sender<Event>,
    stage: Stage,
    /// The broker knows nothing of it.
    is_in_vain: bool,
    /// What was still needed when the broker last said so.
    left: Option<v1::StillNeeded>,
    /// The least that was left since it was asked for: blobs and bytes.
    least: Option<(u64, u64)>,
    progress_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    NotBegun,
    /// Tasks go on, and may give more.
    Begun,
    /// All that will ever be here is.
    Last,
    Over,
}

impl Handover {
    pub(crate) fn new(near: Near, events: mpsc::Sender<Event>) -> Self {
        Self {
            near,
            events,
            stage: Stage::NotBegun,
            is_in_vain: false,
            left: None,
            least: None,
            progress_at: Instant::now(),
        }
    }

    /// A broker of this minor version has answered.
    pub(crate) fn note_broker(&mut self, minor: u32) {
        self.is_in_vain = minor < HANDOVER_MINOR;
    }

    /// The worker is about to leave.
    pub(crate) fn begin(&mut self) {
        if self.stage == Stage::NotBegun {
            self.stage = Stage::Begun;
            self.ask();
        }
    }

    /// No task is left that could give more: what is said from now on counts.
    pub(crate) fn go_on(&mut self) {
        if self.stage == Stage::Begun {
            self.stage = Stage::Last;
            self.ask();
        }
    }

    fn ask(&mut self) {
        self.left = None;
        self.least = None;
        self.progress_at = Instant::now();
        self.near.leave(self.events.clone());
    }

    /// The broker has said what is still needed.
    pub(crate) fn note_left(&mut self, left: v1::StillNeeded) {
        let is_nothing = left.blob_count == 0;
        self.left = Some(left);
        let now = (left.blob_count, left.size_bytes);
        if self.least.is_none_or(|least| now < least) {
            self.least = Some(now);
            self.progress_at = Instant::now();
            if !is_nothing {
                tracing::info!(
                    results = left.blob_count,
                    bytes = left.size_bytes,
                    "handing over results that are kept only here"
                );
            }
        }
        if is_nothing && self.stage == Stage::Last {
            self.stage = Stage::Over;
        }
    }

    /// Whether the worker may go, as far as this is concerned.
    pub(crate) fn is_over(&self) -> bool {
        self.is_in_vain || self.stage == Stage::Over
    }

    /// When [`Handover::give_up`] is due, if it is not over before.
    pub(crate) fn patience_ends_at(&self) -> Option<Instant> {
        (self.stage == Stage::Last).then(|| self.progress_at + PATIENCE)
    }

    /// The worker goes now, whatever is left.
    pub(crate) fn give_up(&mut self) {
        if self.stage == Stage::Over || self.is_in_vain {
            return;
        }
        self.stage = Stage::Over;
        match self.left {
            Some(left) if left.blob_count > 0 => tracing::warn!(
                results = left.blob_count,
                bytes = left.size_bytes,
                "leaving with results that nobody else keeps; their tasks run again unless a worker with this cache folder comes \
                 within minutes"
            ),
            None if self.near.keeps_some() => tracing::warn!(
                "leaving with results kept here, and the broker did not say which of them nobody else keeps"
            ),
            _ => {}
        }
    }
}
