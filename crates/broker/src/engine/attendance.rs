//! Has the roster of workers written, and of what they have at hand, as that changes.

use crate::roster::Roster;
use dewar_queue::{Event, Expected, Queue};
use std::time::Duration;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::Instant,
};

/// A fleet that comes back to a restarted broker would otherwise have it written a thousand times, and small tasks more often.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// What was written, and whether it is out of date.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    roster: Option<Roster>,
    is_stale: bool,
    written_at: Option<Instant>,
    /// The last write: nobody waits for it but the next.
    writing: Option<JoinHandle<()>>,
}

impl Attendance {
    pub(super) fn kept_in(roster: Roster) -> Self {
        Self {
            roster: Some(roster),
            ..Self::default()
        }
    }

    /// Takes note of who came and went, and writes it down if that is due.
    pub(super) fn note(&mut self, events: &[Event], queue: &Queue) {
        let changes = |event: &Event| {
            matches!(
                event,
                Event::WorkerJoined { .. }
                    | Event::WorkerGone { .. }
                    | Event::ComebackOver
                    | Event::AttemptStarted { .. }
                    | Event::AttemptEnded { .. }
            )
        };
        if self.roster.is_none() {
            return;
        }
        self.is_stale |= events.iter().any(changes);
        let is_due = self.written_at.is_none_or(|at| at.elapsed() >= WRITE_EVERY);
        let is_writing = self.writing.as_ref().is_some_and(|it| !it.is_finished());
        if self.is_stale && is_due && !is_writing {
            self.write(queue);
        }
    }

    /// Writes it for the last time.
    pub(super) async fn conclude(&mut self, queue: &Queue) {
        self.finish().await;
        self.write(queue);
        self.finish().await;
    }

    async fn finish(&mut self) {
        if let Some(writing) = self.writing.take() {
            // A hint that is not written is none.
            let _ = writing.await;
        }
    }

    fn write(&mut self, queue: &Queue) {
        let Some(roster) = &self.roster else {
            return;
        };
        let present = queue.workers().map(|worker| Expected {
            id: worker.hello().id,
            name: worker.hello().name.clone(),
            held: worker.tasks_at_hand().collect(),
        });
        // Those that are waited for still may be so by the next broker, too.
        let missing = queue.missing_workers().cloned();
        let members: Vec<Expected> = present.chain(missing).collect();
        let roster = roster.clone();
        self.writing = Some(spawn_blocking(move || roster.write(&members)));
        self.is_stale = false;
        self.written_at = Some(Instant::now());
    }
}
