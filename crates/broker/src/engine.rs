//! The engine: one task that owns the queue, and the order in which anything may be told.
//!
//! It takes what waits in its channel, decides and folds in, writes the durable events in one batch, and only then
//! answers, assigns and notifies: an answer is a promise, so it waits for the disk. Meanwhile the next batch gathers.
//! If the disk fails the engine ends, and the process with it; a restart rebuilds the queue from what was written.

mod attendance;
mod clock;
mod disk;
mod fleet;
mod message;

pub(crate) use clock::unix_ms;
pub(crate) use disk::read_payloads;
pub(crate) use fleet::{Fleet, OUTBOX_MESSAGE_COUNT_MAX};
pub use message::{Address, FromWorker, Hello, ToWorker, WorkerInfo};

use crate::{
    disk_space::Reserve,
    roster::Roster,
    store::{PackError, PackReader, Packs, Store, StoreError},
};
use attendance::Attendance;
use clock::Clock;
use dewar_queue::{
    AttemptEnd, Command, Config, Digest, Event, HeldAttempt, JobNumber, Now, Output, Queue,
    Refusal, TaskCounts, TaskId, TaskResult, WorkerHello, WorkerId,
};
use disk::{Disk, Payloads};
use futures::future::BoxFuture;
use message::Message;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;

/// Messages that may wait for the engine; whoever sends more waits, and so does its customer.
const MESSAGE_COUNT_MAX: usize = 4096;

/// Messages in one batch: with a few events each they make one commit of the store.
const BATCH_MESSAGE_COUNT_MAX: usize = 512;

/// Tasks in the submits of one batch, about: what the store commits well at once.
const BATCH_TASK_COUNT_MAX: usize = 16_000;

/// Tasks given out, or overdue things dealt with, before the messages that came meanwhile have their turn.
const TURN_COUNT_MAX: usize = 4096;

/// Longest sleep: the clock tells absence by it, and old jobs are looked for.
const TICK: Duration = Duration::from_millis(500);

/// What the shell does with blobs that nothing needs any more. No command is decided before it is done.
pub(crate) type DropBlobs = Box<dyn Fn(Vec<Digest>) -> BoxFuture<'static, ()> + Send + Sync>;

/// Why the engine ended. The store's state is then in doubt, so the process must end too.
#[derive(Debug, thiserror::Error)]
pub enum EngineFault {
    /// Events could not be written.
    #[error("cannot write to the store")]
    Store(#[source] StoreError),
    /// Payloads could not be written.
    #[error("cannot write to the pack files")]
    Packs(#[source] PackError),
    /// The thread that writes panicked.
    #[error("the thread that writes to the store was lost")]
    Lost,
}

/// Why a command has no effect.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The rules say no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The broker is shutting down.
    #[error("the broker stops and will be back")]
    Gone,
}

/// What a question may look at.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) queue: &'a Queue,
    pub(crate) fleet: &'a Fleet,
}

/// How everyone else reaches the engine.
#[derive(Clone)]
pub struct EngineHandle {
    sender: mpsc::Sender<Message>,
    packs: PackReader,
    broker_start: u64,
}

/// The task's own state.
pub(crate) struct Engine {
    queue: Queue,
    fleet: Fleet,
    disk: Disk,
    clock: Clock,
    drop_blobs: DropBlobs,
    receiver: mpsc::Receiver<Message>,
    /// In order, for the sake of simulations, as in [`Fleet`].
    watchers: BTreeMap<JobNumber, watch::Sender<()>>,
    attendance: Attendance,
}

/// What a batch has decided, and what is told once that is on disk.
#[derive(Default)]
struct Turn {
    events: Vec<Event>,
    releases: Vec<Release>,
    /// More could be done at once.
    unfinished: bool,
}

/// What a command did to jobs that were there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Jobs it cancelled or reran, wholly or in part.
    pub job_count: u64,
    /// Tasks that ended by it, or wait again.
    pub task_count: u64,
}

enum Release {
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
    /// Rebuilds the queue from the store.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(crate) fn open(
        mut store: Box<dyn Store>,
        mut packs: Packs,
        reserve: Reserve,
        config: Config,
        drop_blobs: DropBlobs,
    ) -> Result<(Self, EngineHandle), StoreError> {
        let broker_start = config.broker_start;
        let mut queue = Queue::new(config);
        store.replay(&mut |event| {
            packs.observe(&event);
            queue.apply(&event);
        })?;
        packs.sweep();
        let (sender, receiver) = mpsc::channel(MESSAGE_COUNT_MAX);
        let handle = EngineHandle {
            sender,
            packs: packs.reader(),
            broker_start,
        };
        let engine = Self {
            queue,
            fleet: Fleet::default(),
            disk: Disk::new(store, packs, reserve),
            clock: Clock::new(),
            drop_blobs,
            receiver,
            watchers: BTreeMap::new(),
            attendance: Attendance::default(),
        };
        Ok((engine, handle))
    }

    /// Has it written down who attends, for the next start.
    pub(crate) fn keep_roster(&mut self, roster: Roster) {
        self.attendance = Attendance::kept_in(roster);
    }

    /// Tells the time of day by another clock, so that a simulation repeats to the bit.
    pub(crate) fn with_wall_clock(mut self, unix_ms: impl Fn() -> u64 + Send + 'static) -> Self {
        self.clock.set_wall(unix_ms);
        self
    }

    /// The queue as the store remembered it.
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Runs until told to stop. What was taken from the channel by then is written and answered.
    ///
    /// # Errors
    /// If the disk failed. Nothing that was decided since is answered.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), EngineFault> {
        let mut messages = Vec::new();
        let mut unfinished = false;
        loop {
            let stopping = stop.is_cancelled();
            if stopping {
                // Nothing more comes in, but what waits already is dealt with.
                self.receiver.close();
            }
            let wake_at = self.wake_at(unfinished);
            tokio::select! {
                biased;
                count = take(&mut self.receiver, &mut messages) => if count == 0 {
                    self.fleet.say_back_soon();
                    return Ok(());
                },
                () = stop.cancelled(), if !stopping => continue,
                () = sleep_until(wake_at), if !stopping => {}
            }
            unfinished = self.turn(std::mem::take(&mut messages)).await?;
        }
    }

    fn wake_at(&self, unfinished: bool) -> tokio::time::Instant {
        let now = tokio::time::Instant::now();
        if unfinished {
            return now;
        }
        let tick = now + TICK;
        let deadline = self.queue.next_deadline();
        deadline.map_or(tick, |at| tick.min(self.clock.instant_of(at)))
    }

    /// One batch: decide, write, tell.
    async fn turn(&mut self, mut messages: Vec<Message>) -> Result<bool, EngineFault> {
        self.disk.pack(payloads_of(&mut messages)).await?;

        let now = self.clock.now();
        let mut turn = Turn::default();
        for message in messages {
            self.take(message, now, &mut turn);
        }
        for command in [Command::Tick, Command::Dispatch] {
            let mut count = 0;
            while count < TURN_COUNT_MAX && self.decide(command.clone(), now, &mut turn) == Ok(true)
            {
                count += 1;
            }
            turn.unfinished |= count == TURN_COUNT_MAX;
        }

        let events = self.disk.append(turn.events).await?;
        // A worker whose outbox was full is cut off; the queue hears of it like of any lost connection.
        let mut cut_off = Vec::new();
        for event in &events {
            self.tell(event, &mut cut_off);
        }
        for release in turn.releases {
            self.release(release, &mut cut_off);
        }
        let mut after = Turn::default();
        for worker in cut_off {
            tracing::warn!(worker = %hex(worker), "does not read what it is told; cut off");
            // Unknown workers have nothing to lose.
            let _ = self.decide(Command::Disconnect { worker }, now, &mut after);
        }
        for event in &after.events {
            self.tell(event, &mut Vec::new());
        }
        self.attendance.note(&events, &self.queue).await;
        let unheld = self.queue.take_unheld();
        if !unheld.is_empty() {
            (self.drop_blobs)(unheld).await;
        }
        Ok(turn.unfinished)
    }

    fn take(&mut self, message: Message, now: Now, turn: &mut Turn) {
        match message {
            Message::Command { command, reply } => {
                let answer = self.decide_for_effect(command, now, turn);
                let answer = answer.map_err(EngineError::from);
                turn.releases.push(Release::Reply(reply, answer));
            }
            Message::Query(query) => turn.releases.push(Release::Query(query)),
            Message::Subscribe { job, reply } => {
                let receiver = if self.queue.job(job).is_some() {
                    self.watchers.entry(job).or_default().subscribe()
                } else {
                    watch::channel(()).1
                };
                // The asker may have gone.
                let _ = reply.send(receiver);
            }
            Message::Attend {
                hello,
                outbox,
                reply,
            } => {
                let answer = self.attend(*hello, outbox, now, turn);
                turn.releases.push(Release::Attended(reply, answer));
            }
            Message::FromWorker {
                worker,
                session,
                message,
            } => self.hear(worker, session, message, now, turn),
        }
    }

    /// Decides a command and folds it in. Whether anything came of it.
    fn decide(&mut self, command: Command, now: Now, turn: &mut Turn) -> Result<bool, Refusal> {
        let events = self.queue.decide(command, now)?;
        for event in &events {
            self.queue.apply(event);
        }
        let any = !events.is_empty();
        turn.events.extend(events);
        Ok(any)
    }

    /// Decides a command, and says how much it changed.
    fn decide_for_effect(
        &mut self,
        command: Command,
        now: Now,
        turn: &mut Turn,
    ) -> Result<Effect, Refusal> {
        let ended = |counts: TaskCounts| counts.succeeded + counts.failed + counts.cancelled;
        let (before, event_count) = (self.queue.counts(), turn.events.len());
        self.decide(command, now, turn)?;
        let after = self.queue.counts();
        let jobs = turn.events[event_count..].iter().filter(|event| {
            matches!(
                event,
                Event::JobCancelled { .. }
                    | Event::TasksCancelled { .. }
                    | Event::TasksRerun { .. }
            )
        });
        Ok(Effect {
            job_count: jobs.count() as u64,
            task_count: ended(before).abs_diff(ended(after)),
        })
    }

    fn attend(
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
        let (id, name, slot_count) = (hello.id, hello.name.clone(), hello.slot_count);
        let command = Command::Join {
            hello: WorkerHello {
                id,
                name: hello.name,
                slot_count,
                memory_bytes: hello.memory_bytes,
                kinds: hello.kinds,
                kernels: hello.kernels,
                instruction_class: hello.instruction_class,
                held: known.into_iter().filter_map(|(_, held)| held).collect(),
            },
        };
        self.decide(command, now, turn)?;
        tracing::info!(worker = %name, slot_count, "attends");
        let session = self.fleet.attend(id, hello.info, outbox, now.unix_ms);
        for (address, _) in forgotten {
            turn.releases
                .push(Release::ToWorker(id, ToWorker::Stop(address)));
        }
        Ok(session)
    }

    fn hear(
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
            } => {
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

    /// What follows from an event that is on disk, or need not be.
    fn tell(&mut self, event: &Event, cut_off: &mut Vec<WorkerId>) {
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
                if *end == AttemptEnd::Stopped
                    && let Some(address) = self.address(*task, *attempt)
                {
                    self.send(*worker, ToWorker::Stop(address), cut_off);
                }
            }
            Event::WorkerDraining { worker } => self.send(*worker, ToWorker::Drain, cut_off),
            Event::WorkerGone { worker } => {
                tracing::info!(worker = %hex(*worker), "gone");
                self.fleet.forget(*worker);
            }
            Event::AttemptFailed {
                task,
                attempt,
                failure,
                ..
            } => {
                tracing::info!(%task, %attempt, class = ?failure.class, reason = failure.message, "attempt failed");
            }
            Event::TaskEnded { outcome, .. } => self.wake(outcome.task.job),
            Event::JobClosed { job, .. }
            | Event::JobCancelled { job, .. }
            | Event::TasksCancelled { job, .. }
            // A task that waits for one that failed may fail as soon as it is there.
            | Event::TasksSubmitted { job, .. }
            | Event::TasksRerun { job, .. } => self.wake(*job),
            Event::WorkerOnProbation {
                worker, pause_ms, ..
            } => {
                tracing::warn!(worker = %hex(*worker), pause_ms, "on probation: it failed everything it touched");
            }
            Event::ComebackOver => tracing::warn!("workers of before the restart did not come back"),
            Event::JobForgotten { job } => {
                // Watchers are woken for good by the end of their channel.
                self.watchers.remove(job);
            }
            Event::JobCreated { .. }
            | Event::BlobHeld { .. }
            | Event::BlobsReleased { .. }
            | Event::WorkerJoined { .. }
            | Event::WorkerSeen { .. }
            | Event::WorkerDisconnected { .. }
            | Event::WorkerAvailability { .. }
            | Event::WorkerOnTrial { .. }
            | Event::CustomerSeen { .. }
            | Event::CustomerWatches { .. }
            | Event::RetryDue { .. } => {}
        }
    }

    fn release(&mut self, release: Release, cut_off: &mut Vec<WorkerId>) {
        // Whoever asked may have gone meanwhile; then nobody is told.
        match release {
            Release::Reply(reply, answer) => {
                let _ = reply.send(answer);
            }
            Release::Query(query) => query(View {
                queue: &self.queue,
                fleet: &self.fleet,
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

    fn address(&self, task: TaskId, attempt: dewar_queue::AttemptId) -> Option<Address> {
        Some(Address {
            job: self.queue.job(task.job)?.id(),
            index: task.index,
            attempt,
        })
    }
}

impl EngineHandle {
    /// Gives a command to the queue; what it brings is durable when this returns.
    ///
    /// # Errors
    /// If the rules say no, or the broker is shutting down.
    pub async fn command(&self, command: Command) -> Result<Effect, EngineError> {
        self.begin(command).await?.await
    }

    /// Gives a command to the queue, and returns what waits until that is durable. Commands begun one after another are
    /// decided in that order, and share a batch if they can.
    ///
    /// # Errors
    /// If the broker is shutting down.
    pub(crate) async fn begin(
        &self,
        command: Command,
    ) -> Result<impl Future<Output = Result<Effect, EngineError>> + use<>, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Command { command, reply }).await?;
        Ok(async { answer.await.map_err(|_| EngineError::Gone)? })
    }

    /// Looks at the queue. The engine waits meanwhile, so the look must be short.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        look: impl FnOnce(View<'_>) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        let query = move |view: View<'_>| {
            // The asker may have gone.
            let _ = reply.send(look(view));
        };
        self.send(Message::Query(Box::new(query))).await?;
        answer.await.map_err(|_| EngineError::Gone)
    }

    /// A receiver that changes whenever the job gets outcomes or ends, and closes when it is forgotten.
    pub(crate) async fn subscribe(
        &self,
        job: JobNumber,
    ) -> Result<watch::Receiver<()>, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Subscribe { job, reply }).await?;
        answer.await.map_err(|_| EngineError::Gone)
    }

    /// Begins a worker's session, and gives its number.
    pub(crate) async fn attend(
        &self,
        hello: Hello,
        outbox: mpsc::Sender<ToWorker>,
    ) -> Result<u64, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Attend {
            hello: Box::new(hello),
            outbox,
            reply,
        })
        .await?;
        answer.await.map_err(|_| EngineError::Gone)?
    }

    /// Passes on what a worker said.
    pub(crate) async fn hear(
        &self,
        worker: WorkerId,
        session: u64,
        message: FromWorker,
    ) -> Result<(), EngineError> {
        self.send(Message::FromWorker {
            worker,
            session,
            message,
        })
        .await
    }

    /// Reads packed payloads.
    pub(crate) fn packs(&self) -> &PackReader {
        &self.packs
    }

    /// How often the data folder was opened.
    pub(crate) fn broker_start(&self) -> u64 {
        self.broker_start
    }

    async fn send(&self, message: Message) -> Result<(), EngineError> {
        self.sender
            .send(message)
            .await
            .map_err(|_| EngineError::Gone)
    }
}

/// Takes what waits, up to a batch. Waits for the first; 0 if none will ever come.
async fn take(receiver: &mut mpsc::Receiver<Message>, messages: &mut Vec<Message>) -> usize {
    let Some(first) = receiver.recv().await else {
        return 0;
    };
    let mut task_count = task_count_of(&first);
    messages.push(first);
    while messages.len() < BATCH_MESSAGE_COUNT_MAX && task_count < BATCH_TASK_COUNT_MAX {
        let Ok(message) = receiver.try_recv() else {
            break;
        };
        task_count += task_count_of(&message);
        messages.push(message);
    }
    messages.len()
}

fn task_count_of(message: &Message) -> usize {
    match message {
        Message::Command {
            command: Command::Submit { specs, .. },
            ..
        } => specs.len(),
        _ => 0,
    }
}

/// Payloads in messages that their events will carry.
fn payloads_of(messages: &mut [Message]) -> Payloads<'_> {
    let mut payloads = Payloads::default();
    for message in messages {
        match message {
            Message::Command {
                command: Command::Submit { specs, .. },
                ..
            } => {
                // A spec that comes in belongs to its message alone, so nothing is copied here.
                let specs = specs.iter_mut().map(Arc::make_mut);
                payloads
                    .parameters
                    .extend(specs.map(|spec| &mut spec.parameters));
            }
            Message::FromWorker {
                message:
                    FromWorker::Report {
                        result: TaskResult::Succeeded(Output { message, .. }),
                        ..
                    },
                ..
            } => payloads.outputs.push(message),
            _ => {}
        }
    }
    payloads
}

fn hex(worker: WorkerId) -> String {
    uuid::Uuid::from_bytes(worker.0).simple().to_string()
}

#[cfg(test)]
mod tests;
