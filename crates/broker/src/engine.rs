//! The engine: one task that owns the queue, and the order in which anything may be told.
//!
//! It takes what waits in its channel, decides and folds in, writes the durable events in one batch, and only then
//! answers, assigns and notifies: an answer is a promise, so it waits for the disk. Meanwhile the next batch gathers.
//! If the disk fails the engine ends, and the process with it; a restart rebuilds the queue from what was written.

mod batch;
mod clock;
mod diary;
mod disk;
mod fleet;
mod handle;
mod hear;
mod message;
mod tell;

pub(crate) use clock::unix_ms;
pub(crate) use diary::{Diary, Try};
pub(crate) use disk::read_payloads;
pub(crate) use fleet::{Fleet, OUTBOX_MESSAGE_COUNT_MAX};
pub use handle::EngineHandle;
pub use message::{Address, FromWorker, Hello, ToWorker, WorkerInfo};

use crate::{
    disk_space::Reserve,
    meter::Meter,
    roster::Roster,
    store::{PackError, Packs, Store, StoreError},
};
use batch::{has_parameters_in_bulk, take};
use clock::Clock;
use dewar_queue::{
    Command, Config, Digest, Event, JobNumber, Now, Queue, Refusal, TaskCounts, WorkerId,
};
use disk::Disk;
use futures::future::BoxFuture;
use message::Message;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tell::Release;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Messages that may wait for the engine; whoever sends more waits, and so does its customer.
const MESSAGE_COUNT_MAX: usize = 4096;

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
    pub(crate) diary: &'a Diary,
}

/// The task's own state.
pub(crate) struct Engine {
    queue: Queue,
    fleet: Fleet,
    diary: Diary,
    disk: Disk,
    clock: Clock,
    meter: Arc<Meter>,
    drop_blobs: DropBlobs,
    receiver: mpsc::Receiver<Message>,
    /// In order, for the sake of simulations, as in [`Fleet`].
    watchers: BTreeMap<JobNumber, watch::Sender<()>>,
}

/// What a batch has decided, and what is told once that is on disk.
#[derive(Default)]
struct Turn {
    events: Vec<Event>,
    releases: Vec<Release>,
    /// More could be done at once.
    unfinished: bool,
    /// Its submits have more parameters than events should carry.
    parameters_in_bulk: bool,
}

/// Jobs of which an answer says why tasks were not rerun: whoever reads more has stopped reading.
const SKIPPED_COUNT_MAX: usize = 100;

/// What a command did to jobs that were there before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Jobs it cancelled or reran, wholly or in part.
    pub jobs: Vec<JobNumber>,
    /// Tasks that ended by it, or wait again.
    pub task_count: u64,
    /// What could not be rerun and why, a line for each job.
    pub skipped: Vec<String>,
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
        let meter = Arc::<Meter>::default();
        let handle = EngineHandle {
            sender,
            meter: meter.clone(),
            packs: packs.reader(),
            broker_start,
        };
        let engine = Self {
            queue,
            fleet: Fleet::default(),
            diary: Diary::default(),
            disk: Disk::new(store, packs, reserve),
            clock: Clock::new(),
            meter,
            drop_blobs,
            receiver,
            watchers: BTreeMap::new(),
        };
        Ok((engine, handle))
    }

    /// Has it written down who attends and has which tasks, for the next start.
    pub(crate) fn keep_roster(&mut self, roster: Roster) {
        self.disk.keep_roster(roster);
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

    fn wake_at(&self, unfinished: bool) -> Instant {
        let now = Instant::now();
        if unfinished {
            return now;
        }
        let tick = now + TICK;
        let deadline = self.queue.next_deadline();
        deadline.map_or(tick, |at| tick.min(self.clock.instant_of(at)))
    }

    /// One batch: decide, write, tell.
    async fn turn(&mut self, messages: Vec<Message>) -> Result<bool, EngineFault> {
        let began = Instant::now();
        let now = self.clock.now();
        let mut turn = Turn {
            parameters_in_bulk: has_parameters_in_bulk(&messages),
            ..Turn::default()
        };
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

        let is_written = turn.events.iter().any(Event::is_durable);
        let decided = Instant::now();
        let events = self.disk.append(turn.events, &self.queue).await?;
        if is_written {
            self.meter.observe_flush(decided.elapsed());
        }
        // A worker whose outbox was full is cut off; the queue hears of it like of any lost connection.
        let mut cut_off = Vec::new();
        let mut any_started = false;
        for event in &events {
            self.meter.note(event, &self.queue, now);
            self.diary.note(event, &self.queue, now.unix_ms);
            self.tell(event, &mut cut_off);
            any_started |= matches!(event, Event::AttemptStarted { .. });
        }
        if any_started {
            self.meter.observe_dispatch(began.elapsed());
        }
        for release in turn.releases {
            self.release(release, &mut cut_off);
        }
        let mut after = Turn::default();
        for worker in cut_off {
            let name = self.meter.worker_name(worker);
            tracing::warn!(worker = name.as_deref(), worker_id = %hex(worker), "does not read what it is told; cut off");
            // Unknown workers have nothing to lose.
            let _ = self.decide(Command::Disconnect { worker }, now, &mut after);
        }
        for event in &after.events {
            self.meter.note(event, &self.queue, now);
            self.tell(event, &mut Vec::new());
        }
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
            Message::Holdings { worker, changes } => {
                self.note_holdings(worker, changes, now, turn);
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
        let mut events = self.queue.decide(command, now)?;
        for event in &mut events {
            self.disk.place(event, turn.parameters_in_bulk);
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
        let of_command = &turn.events[event_count..];
        let jobs = of_command.iter().filter_map(|event| match event {
            Event::JobCancelled { job, .. }
            | Event::TasksCancelled { job, .. }
            | Event::TasksRerun { job, .. } => Some(*job),
            _ => None,
        });
        let skipped = of_command.iter().filter_map(|event| match event {
            Event::RerunSkipped {
                job,
                task_count,
                reason,
            } => Some(format!(
                "{task_count} tasks of {job} were skipped: {reason}"
            )),
            _ => None,
        });
        Ok(Effect {
            skipped: skipped.take(SKIPPED_COUNT_MAX).collect(),
            jobs: jobs.collect(),
            task_count: ended(before).abs_diff(ended(after)),
        })
    }
}

fn hex(worker: WorkerId) -> String {
    uuid::Uuid::from_bytes(worker.0).simple().to_string()
}

#[cfg(test)]
mod tests;
