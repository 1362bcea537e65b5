//! What workers say, as commands to the queue.

use super::{
    Engine, EngineError, Turn,
    diary::Times,
    hex,
    message::{Address, FromWorker, Hello, ToWorker},
    tell::Release,
};
use dewar_queue::{Command, HeldAttempt, HoldingChange, Now, TaskId, WorkerHello, WorkerId};
use tokio::sync::mpsc;

impl Engine {
    pub(super) fn attend(
        &mut self,
        hello: Hello,
        outbox: mpsc::Sender<ToWorker>,
        now: Now,
        turn: &mut Turn,
    ) -> Result<u64, EngineError> {
        let (known, forgotten): (Vec<_>, Vec<_>) = hello
            .held
            .iter()
            .map(|address| (*address, self.held(address)))
            .partition(|(_, held)| held.is_some());
        let worker = WorkerHello {
            held: known.into_iter().filter_map(|(_, held)| held).collect(),
            ..hello.worker
        };
        let (id, name, slot_count) = (worker.id, worker.name.clone(), worker.slot_count);
        self.decide(Command::Join { hello: worker }, now, turn)?;
        tracing::info!(worker = %name, worker_id = %hex(id), slot_count, "attends");
        let session = self.fleet.attend(id, hello.info, outbox, now.unix_ms);
        for (address, _) in forgotten {
            turn.releases
                .push(Release::ToWorker(id, ToWorker::Stop(address)));
        }
        Ok(session)
    }

    pub(super) fn hear(
        &mut self,
        worker: WorkerId,
        session: u64,
        message: FromWorker,
        now: Now,
        turn: &mut Turn,
    ) {
        if !self.fleet.is_current(worker, session) {
            return;
        }
        let decided = match message {
            FromWorker::Heartbeat { progress } => {
                for (address, fraction) in progress {
                    let held = self.held(&address);
                    let task = held.and_then(|held| self.queue.task(held.task));
                    let live = (address.attempt, worker);
                    if task.is_some_and(|task| task.live().contains(&live)) {
                        self.fleet.set_progress(address.attempt, fraction);
                    }
                }
                self.decide(Command::Heartbeat { worker }, now, turn)
            }
            FromWorker::Report {
                address,
                result,
                run_ms,
                fetch_ms,
            } => {
                let times = Times { fetch_ms, run_ms };
                self.diary.note_times(address.attempt, times);
                // Told when durable, or when it turns out not to be wanted: either way the worker may forget it.
                turn.releases
                    .push(Release::ToWorker(worker, ToWorker::Received(address)));
                let Some(HeldAttempt { task, attempt }) = self.held(&address) else {
                    return;
                };
                let command = Command::Report {
                    worker,
                    task,
                    attempt,
                    result,
                    run_ms,
                };
                self.decide(command, now, turn)
            }
            FromWorker::HandBack { attempts } => {
                let attempts = attempts.iter().filter_map(|address| self.held(address));
                let attempts = attempts.collect();
                self.decide(Command::HandBack { worker, attempts }, now, turn)
            }
            FromWorker::Availability { busy_reason } => {
                let command = Command::SetAvailability {
                    worker,
                    busy_reason,
                };
                self.decide(command, now, turn)
            }
            FromWorker::Draining => self.decide(Command::Drain { worker }, now, turn),
            FromWorker::Disconnected => {
                self.fleet.leave(worker, session);
                self.decide(Command::Disconnect { worker }, now, turn)
            }
        };
        if let Err(refusal) = decided {
            // The session outlived the lease; its end follows from `WorkerGone`.
            tracing::debug!(worker = %hex(worker), %refusal, "not heard");
        }
    }

    pub(super) fn note_holdings(
        &mut self,
        worker: WorkerId,
        changes: Vec<HoldingChange>,
        now: Now,
        turn: &mut Turn,
    ) {
        let command = Command::NoteHoldings { worker, changes };
        if let Err(refusal) = self.decide(command, now, turn) {
            tracing::debug!(worker = %hex(worker), %refusal, "holdings not noted");
        }
    }

    fn held(&self, address: &Address) -> Option<HeldAttempt> {
        let job = self.queue.job_by_id(address.job)?;
        Some(HeldAttempt {
            task: TaskId {
                job: job.number(),
                index: address.index,
            },
            attempt: address.attempt,
        })
    }
}
