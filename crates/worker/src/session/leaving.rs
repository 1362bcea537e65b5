//! When the worker leaves: told to, or by itself, at once or when all is done, and what else has a time.

use super::{STOP_TIMEOUT, Session};
use crate::{RunningError, StuckKernel, attempt::AttemptKey};
use dewar_proto::v1;
use tokio::time::Instant;
use v1::worker_message::Message as ToBroker;

impl Session {
    pub(super) fn drain(&mut self) {
        if self.is_draining {
            return;
        }
        tracing::info!("draining");
        self.is_draining = true;
        self.speech.say(ToBroker::Draining(v1::Draining {}));
        self.book.give_up_waiting();
        self.handover.begin();
    }

    pub(super) fn stop(&mut self) {
        self.is_draining = true;
        self.stop_by = Some(Instant::now() + STOP_TIMEOUT);
        self.speech.say(ToBroker::Draining(v1::Draining {}));
        self.book.give_up_unfinished();
        self.book.hurry();
        if self.anew.is_none() {
            self.handover.begin();
        }
    }

    /// A kernel was told to stop and did not.
    fn note_stuck(&mut self, key: AttemptKey) {
        match self.config.stuck {
            StuckKernel::Replace => {
                tracing::error!(task = %self.book.task_name(key), attempt = %key, "the kernel does not stop; another thread takes its slot");
            }
            StuckKernel::End if self.stop_by.is_some() => {}
            StuckKernel::End => {
                tracing::error!(task = %self.book.task_name(key), attempt = %key, "the kernel does not stop; the worker begins anew");
                let attempt = key.to_string();
                self.anew = Some(RunningError::Stuck { attempt });
                self.stop();
            }
        }
    }

    fn is_idle_for_long(&self) -> bool {
        let idle = self.idle_since.zip(self.config.exit_when_idle);
        idle.is_some_and(|(since, wait)| since + wait <= Instant::now())
    }

    pub(super) fn has_left(&self) -> bool {
        let is_done = self.book.is_empty() && self.book.all_idle();
        match self.stop_by {
            // Nobody is there to hear of what is left.
            Some(by) if by <= Instant::now() => true,
            Some(_) if self.unreachable.is_some() => {
                self.book.all_idle() && self.book.is_all_kept()
            }
            // The same folder is open again in a moment.
            Some(_) if self.anew.is_some() => is_done && self.speech.is_over(),
            Some(_) => is_done && self.handover.is_over() && self.speech.is_over(),
            None => self.is_draining && is_done && self.handover.is_over() && self.speech.is_over(),
        }
    }

    pub(super) fn note_idleness(&mut self) {
        if self.book.is_empty() {
            self.idle_since.get_or_insert_with(Instant::now);
        } else {
            self.idle_since = None;
        }
    }

    /// When [`Session::reach_deadline`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let idle = self.idle_since.zip(self.config.exit_when_idle);
        let unreachable = self.unreachable.as_ref().map(|(since, _)| *since);
        let unreachable = unreachable.zip(self.config.exit_when_unreachable);
        let waits = idle.into_iter().chain(unreachable);
        waits
            .map(|(since, wait)| since + wait)
            .chain(self.stop_by)
            .chain(self.handover.patience_ends_at())
            .chain(self.book.out_of_time_at())
            .chain(self.book.stuck_at())
            .min()
    }

    pub(super) fn reach_deadline(&mut self) -> Result<(), RunningError> {
        let now = Instant::now();
        if self.stop_by.is_some_and(|at| at <= now) {
            self.handover.give_up();
            if !self.book.is_empty() {
                tracing::warn!(unfinished_count = self.book.len(), "leaving in haste");
            }
            return Ok(());
        }
        if self.handover.patience_ends_at().is_some_and(|at| at <= now) {
            self.handover.give_up();
        }
        if let (Some((since, reason)), Some(after)) =
            (&self.unreachable, self.config.exit_when_unreachable)
            && *since + after <= now
        {
            return Err(RunningError::Unreachable {
                address: self.config.broker.clone(),
                after,
                reason: reason.clone(),
            });
        }
        self.book.stop_out_of_time();
        for key in self.book.give_up_stuck() {
            self.note_stuck(key);
        }
        if !self.is_idle_for_long() {
            return Ok(());
        }
        tracing::info!("idle for long enough");
        self.drain();
        Ok(())
    }
}
