//! What is told once a batch is on disk: answers, assignments, and news.

use super::{
    Effect, Engine, EngineError, View, hex,
    message::{Address, ToWorker},
};
use dewar_queue::{AttemptEnd, AttemptId, Event, JobNumber, OutcomeResult, TaskId, WorkerId};
use tokio::sync::oneshot;

/// An answer that waits for the disk.
pub(super) enum Release {
    Reply(
        oneshot::Sender<Result<Effect, EngineError>>,
        Result<Effect, EngineError>,
    ),
    Query(Box<dyn FnOnce(View<'_>) + Send>),
    Attended(
        oneshot::Sender<Result<u64, EngineError>>,
        Result<u64, EngineError>,
    ),
    ToWorker(WorkerId, ToWorker),
}

impl Engine {
    /// What follows from an event that is on disk, or need not be.
    pub(super) fn tell(&mut self, event: &Event, cut_off: &mut Vec<WorkerId>) {
        match event {
            Event::AttemptStarted {
                task,
                attempt,
                worker,
                ..
            } => {
                let spec = self.queue.assignment(*task);
                if let (Some(address), Some(spec)) = (self.address(*task, *attempt), spec) {
                    let job = task.job;
                    let assign = ToWorker::Assign { address, job, spec };
                    self.send(*worker, assign, cut_off);
                }
            }
            Event::AttemptEnded {
                task,
                attempt,
                worker,
                end,
                ..
            } => {
                self.fleet.drop_progress(*attempt);
                if matches!(end, AttemptEnd::Stopped | AttemptEnd::OutOfTime)
                    && let Some(address) = self.address(*task, *attempt)
                {
                    self.send(*worker, ToWorker::Stop(address), cut_off);
                }
            }
            Event::WorkerDraining { worker } => self.send(*worker, ToWorker::Drain, cut_off),
            Event::WorkerGone { worker } => {
                let name = self.meter.worker_name(*worker);
                tracing::info!(worker = name.as_deref(), worker_id = %hex(*worker), "gone");
                self.fleet.forget(*worker);
            }
            Event::AttemptFailed {
                task,
                attempt,
                worker,
                failure,
                ..
            } => {
                let name = worker.and_then(|worker| self.meter.worker_name(worker));
                tracing::info!(%task, %attempt, worker = name.as_deref(), class = ?failure.class, reason = failure.message, "attempt failed");
            }
            Event::TaskEnded { outcome, .. } => {
                if let OutcomeResult::Failed(failure) = &outcome.result {
                    tracing::warn!(
                        task = %outcome.task,
                        worker = outcome.worker_name.as_deref(),
                        class = ?failure.class,
                        reason = failure.message,
                        "task failed"
                    );
                }
                self.wake(outcome.task.job);
            }
            Event::JobCreated { job, owner, name, .. } => {
                tracing::info!(%job, %owner, %name, "job opened");
            }
            Event::JobCancelled { job, .. } => {
                tracing::info!(%job, "job cancelled");
                self.wake(*job);
            }
            Event::JobClosed { job, .. }
            | Event::TasksCancelled { job, .. }
            // A task that waits for one that failed may fail as soon as it is there.
            | Event::TasksSubmitted { job, .. }
            | Event::TasksRerun { job, .. } => self.wake(*job),
            Event::WorkerOnProbation {
                worker, pause_ms, ..
            } => {
                let name = self.meter.worker_name(*worker);
                tracing::warn!(worker = name.as_deref(), worker_id = %hex(*worker), pause_ms, "on probation: it failed everything it touched");
            }
            Event::ComebackOver => tracing::warn!("workers of before the restart did not come back"),
            Event::JobForgotten { job } => {
                tracing::info!(%job, "job forgotten");
                // Watchers are woken for good by the end of their channel.
                self.watchers.remove(job);
            }
            Event::AttemptAcquitted { .. }
            | Event::BlobHeld { .. }
            | Event::BlobsReleased { .. }
            | Event::WorkerJoined { .. }
            | Event::WorkerSeen { .. }
            | Event::WorkerDisconnected { .. }
            | Event::WorkerAvailability { .. }
            | Event::HoldingsNoted { .. }
            | Event::WorkerOnTrial { .. }
            | Event::CustomerSeen { .. }
            | Event::CustomerWatches { .. }
            | Event::RerunSkipped { .. }
            | Event::RetryDue { .. } => {}
        }
    }

    pub(super) fn release(&mut self, release: Release, cut_off: &mut Vec<WorkerId>) {
        // Whoever asked may have gone meanwhile; then nobody is told.
        match release {
            Release::Reply(reply, answer) => {
                let _ = reply.send(answer);
            }
            Release::Query(query) => query(View {
                queue: &self.queue,
                fleet: &self.fleet,
                diary: &self.diary,
            }),
            Release::Attended(reply, answer) => {
                let _ = reply.send(answer);
            }
            Release::ToWorker(worker, message) => self.send(worker, message, cut_off),
        }
    }

    fn send(&mut self, worker: WorkerId, message: ToWorker, cut_off: &mut Vec<WorkerId>) {
        if !self.fleet.send(worker, message) {
            cut_off.push(worker);
        }
    }

    fn wake(&mut self, job: JobNumber) {
        if let Some(watcher) = self.watchers.get(&job) {
            if watcher.receiver_count() == 0 {
                self.watchers.remove(&job);
            } else {
                watcher.send_replace(());
            }
        }
    }

    fn address(&self, task: TaskId, attempt: AttemptId) -> Option<Address> {
        Some(Address {
            job: self.queue.job(task.job)?.id(),
            index: task.index,
            attempt,
        })
    }
}
