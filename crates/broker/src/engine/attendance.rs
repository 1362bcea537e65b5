//! Has the roster of workers written as they come and go.

use crate::roster::{Member, Roster};
use dewar_queue::{Event, Queue};
use std::time::Duration;
use tokio::{task::spawn_blocking, time::Instant};

/// A fleet that comes back to a restarted broker would otherwise have it written a thousand times.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// What was written, and whether it is out of date.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    roster: Option<Roster>,
    is_stale: bool,
    written_at: Option<Instant>,
}

impl Attendance {
    pub(super) fn kept_in(roster: Roster) -> Self {
        Self {
            roster: Some(roster),
            ..Self::default()
        }
    }

    /// Takes note of who came and went, and writes it down if that is due.
    pub(super) async fn note(&mut self, events: &[Event], queue: &Queue) {
        let Some(roster) = &self.roster else {
            return;
        };
        let changes = |event: &Event| {
            matches!(
                event,
                Event::WorkerJoined { .. } | Event::WorkerGone { .. } | Event::ComebackOver
            )
        };
        self.is_stale |= events.iter().any(changes);
        let is_due = self.written_at.is_none_or(|at| at.elapsed() >= WRITE_EVERY);
        if !self.is_stale || !is_due {
            return;
        }
        let present = queue.workers().map(|worker| worker.hello());
        let present = present.map(|hello| (hello.id, hello.name.clone()));
        // Those that are waited for still may be so by the next broker, too.
        let missing = queue.missing_workers();
        let missing = missing.map(|(id, name)| (id, name.clone()));
        let members: Vec<Member> = present.chain(missing).collect();
        let roster = roster.clone();
        // A hint that is not written is none.
        let _ = spawn_blocking(move || roster.write(&members)).await;
        self.is_stale = false;
        self.written_at = Some(Instant::now());
    }
}
