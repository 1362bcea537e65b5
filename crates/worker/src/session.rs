//! The session: hears from the broker and from whatever works on attempts, and decides.
//!
//! It is the one owner of the book of attempts, and waits for nobody. What an attempt came to is kept until the broker
//! acknowledges it, and said again on every new connection.

mod leaving;

use crate::{
    Config, RunningError, StuckKernel, attempt::AttemptKey, book::Book, connection::Outbox,
    delivery::DeliveryError, handover::Handover, hello::hello, load::LoadWatch,
    materials::Prepared, restart, results::Kept, slots::Finished, speech::Speech,
};
use dewar_proto::{check_protocol, v1};
use dewar_task::KernelInfo;
use std::time::Duration;
use tokio::{
    sync::{mpsc, oneshot},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;
use v1::{broker_message::Message as FromBroker, worker_message::Message as ToBroker};

/// Events heard before anything is said or given to the slots: a burst of small tasks is one round of the session.
const EVENTS_AT_ONCE: usize = 256;

/// Brokers of this minor version and later know workers that are busy.
const AVAILABILITY_MINOR: u32 = 1;

/// Heartbeats until the broker says how often it wants them.
const HEARTBEAT_AT_FIRST: Duration = Duration::from_secs(5);

/// Between two looks for reports that were not acknowledged: one that was seen twice goes to disk. A broker at work
/// acknowledges within milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a worker that was told to stop waits for kernels to heed it and for the broker to hear of it.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What the session hears.
pub(crate) enum Event {
    /// A connection is being made; what goes into its outbox is said on it.
    Connecting(Outbox),
    Heard(FromBroker),
    Disconnected {
        reason: String,
        /// The broker ended a session that it had begun, over something that was said.
        is_refusal: bool,
    },
    /// The broker will never have us.
    Refused(Status),
    Prepared {
        key: AttemptKey,
        prepared: Result<Prepared, v1::Failure>,
    },
    Ran(Finished),
    /// A result that is being delivered is on disk now.
    Kept {
        key: AttemptKey,
    },
    Delivered {
        key: AttemptKey,
        result: Result<Kept, DeliveryError>,
    },
    /// A worker that is gone left results for the broker that has answered.
    LeftResults {
        worker_id: Uuid,
    },
    /// What only this worker keeps, now that it leaves.
    StillNeeded(v1::StillNeeded),
    /// The people who run this worker want it to leave when it is done.
    Drain,
    /// Somebody wants to know whether the session still decides.
    Pulse(oneshot::Sender<()>),
}

/// The session's whole state.
pub(crate) struct Session {
    config: Config,
    kernels: Vec<KernelInfo>,
    /// The same on every connection of this process, and of the next that takes over its results.
    worker_id: [u8; 16],
    inbox: mpsc::Receiver<Event>,
    book: Book,
    handover: Handover,
    speech: Speech,
    heartbeat: time::Interval,
    /// When to look for reports that were not acknowledged.
    patience: time::Interval,
    load: Option<LoadWatch>,
    look: time::Interval,
    /// Why nothing new is taken for now; empty if it is.
    busy_reason: String,
    /// Whether the broker understands that a worker is busy.
    may_be_busy: bool,
    /// Takes nothing new, and leaves when what it has is done.
    is_draining: bool,
    /// Leaves by then whatever is unfinished.
    stop_by: Option<Instant>,
    /// Why only a new process can go on.
    anew: Option<RunningError>,
    /// Whose results these are, if it was ever told.
    broker_id: Option<Uuid>,
    idle_since: Option<Instant>,
    /// Since when there is no session with the broker, and why.
    unreachable: Option<(Instant, String)>,
}

impl Session {
    /// A session that has not met its broker yet.
    pub(crate) fn new(
        config: Config,
        kernels: Vec<KernelInfo>,
        worker_id: [u8; 16],
        broker_id: Option<Uuid>,
        inbox: mpsc::Receiver<Event>,
        (book, handover): (Book, Handover),
    ) -> Self {
        let limit = config.load_limit.clone();
        // Unused without a limit.
        let look = every(limit.as_ref().map_or(PATIENCE, |limit| limit.every));
        let load = limit.map(LoadWatch::new);
        Self {
            kernels,
            worker_id,
            config,
            inbox,
            book,
            handover,
            speech: Speech::default(),
            heartbeat: every(HEARTBEAT_AT_FIRST),
            patience: every(PATIENCE),
            load,
            look,
            busy_reason: String::new(),
            may_be_busy: false,
            is_draining: false,
            stop_by: None,
            anew: None,
            broker_id,
            idle_since: Some(Instant::now()),
            unreachable: Some((Instant::now(), "not tried yet".to_owned())),
        }
    }

    /// Serves until there is nothing left to do, or no broker to do it for.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), RunningError> {
        let ended = self.serve(stop).await;
        self.book.close().await;
        ended
    }

    async fn serve(&mut self, stop: CancellationToken) -> Result<(), RunningError> {
        loop {
            if self.has_left() {
                return self.anew.take().map_or(Ok(()), Err);
            }
            let deadline = self.deadline();
            let mut heard = Vec::new();
            tokio::select! {
                _ = self.inbox.recv_many(&mut heard, EVENTS_AT_ONCE) => {}
                () = self.speech.proceed() => {}
                _ = self.heartbeat.tick() => self.beat(),
                _ = self.patience.tick() => self.book.keep_overdue(),
                () = stop.cancelled(), if self.stop_by.is_none() => self.stop(),
                _ = self.look.tick(), if self.load.is_some() => self.look_at_load(),
                () = sleep_until(deadline) => self.reach_deadline()?,
            }
            for event in heard {
                self.hear(event)?;
            }
            self.book.fill_slots();
            // Until the broker has said who it is it hears hello alone: it may be another one. Without a connection all
            // is said to nobody; what matters is said again.
            if self.unreachable.is_none() || !self.speech.has_begun() {
                self.speech.say_all(self.book.take_said());
            }
            self.note_idleness();
            if self.is_draining && self.book.is_empty() {
                self.handover.go_on();
            }
        }
    }

    fn hear(&mut self, event: Event) -> Result<(), RunningError> {
        match event {
            Event::Connecting(outbox) => self.greet(outbox),
            Event::Heard(message) => self.obey(message)?,
            Event::Disconnected { reason, is_refusal } => {
                if is_refusal {
                    self.book.note_refusal(&reason);
                }
                self.lose(reason);
            }
            Event::Refused(status) => {
                return Err(RunningError::Refused {
                    address: self.config.broker.clone(),
                    message: status.message().to_owned(),
                });
            }
            Event::Prepared { key, prepared } => self.book.take_up(key, prepared),
            Event::Ran(finished) => self.book.finish(finished),
            Event::Kept { key } => self.book.note_kept(key),
            Event::Delivered { key, result } => self.book.finish_delivery(key, result),
            Event::LeftResults { worker_id } => self.note_left_results(worker_id),
            Event::StillNeeded(left) => self.handover.note_left(left),
            Event::Drain => self.drain(),
            // Who asked may have gone.
            Event::Pulse(answer) => drop(answer.send(())),
        }
        Ok(())
    }

    fn obey(&mut self, message: FromBroker) -> Result<(), RunningError> {
        match message {
            FromBroker::Welcome(welcome) => self.settle(&welcome)?,
            FromBroker::Assignments(v1::Assignments { assignments }) => {
                for assignment in assignments {
                    self.book.accept(assignment, !self.is_draining);
                }
            }
            FromBroker::ReportReceived(v1::ReportReceived { task, attempt }) => {
                if let Some(key) = AttemptKey::from_wire(task.as_ref(), attempt.as_ref()) {
                    self.book.forget(key);
                }
            }
            FromBroker::Stop(v1::Stop { task, attempt }) => {
                if let Some(key) = AttemptKey::from_wire(task.as_ref(), attempt.as_ref()) {
                    self.book.stop_attempt(key);
                }
            }
            FromBroker::Drain(v1::Drain {}) => self.drain(),
            // The end of the connection says the same.
            FromBroker::BackSoon(v1::BackSoon {}) => {}
        }
        Ok(())
    }

    /// Hello, with all that is held.
    fn greet(&mut self, outbox: Outbox) {
        let held = self.book.held();
        let hello = hello(&self.config, self.worker_id, &self.kernels, held);
        self.speech.begin(outbox, hello);
        if self.is_draining {
            self.speech.say(ToBroker::Draining(v1::Draining {}));
        }
    }

    /// The broker has said who it is. It hears every report that was not acknowledged.
    fn settle(&mut self, welcome: &v1::Welcome) -> Result<(), RunningError> {
        check_protocol(welcome.protocol, "the broker", "worker").map_err(|error| {
            RunningError::Refused {
                address: self.config.broker.clone(),
                message: error.to_string(),
            }
        })?;
        self.meet(Uuid::from_slice(&welcome.broker_id).ok())?;
        if welcome.heartbeat_ms > 0 {
            self.heartbeat = every(Duration::from_millis(welcome.heartbeat_ms.into()));
        }
        self.may_be_busy = minor(welcome) >= AVAILABILITY_MINOR;
        self.handover.note_broker(minor(welcome));
        self.say_availability();
        self.unreachable = None;
        self.book.note_broker(false);
        self.book.say_again();
        tracing::info!(
            broker = self.config.broker,
            broker_start = welcome.broker_start,
            name = self.config.name,
            slot_count = self.config.slot_count,
            held_count = self.book.len(),
            "joined"
        );
        Ok(())
    }

    /// Another broker than before must not hear of what the one before is to have. One of an older minor tells no id.
    fn meet(&mut self, broker_id: Option<Uuid>) -> Result<(), RunningError> {
        let Some(broker_id) = broker_id.filter(|id| self.broker_id != Some(*id)) else {
            return Ok(());
        };
        self.book.settle(broker_id);
        if self.broker_id.is_some() && !self.book.is_empty() {
            return Err(RunningError::OtherBroker {
                address: self.config.broker.clone(),
            });
        }
        self.broker_id = Some(broker_id);
        Ok(())
    }

    /// Another worker is gone and left results for this broker: this process becomes that worker. Only its first time: where
    /// several have left results that cannot be delivered, it would do nothing else.
    fn note_left_results(&mut self, worker_id: Uuid) {
        let may_begin_anew = self.config.stuck == StuckKernel::End && restart::identity().is_none();
        if may_begin_anew && self.stop_by.is_none() {
            tracing::info!(%worker_id, "beginning anew as a worker that left results for this broker");
            self.anew = Some(RunningError::LeftResults { worker_id });
            self.stop();
        } else {
            tracing::info!(%worker_id, "results that were left for this broker wait for the next worker");
        }
    }

    fn lose(&mut self, reason: String) {
        self.speech.end();
        self.book.note_broker(true);
        match &mut self.unreachable {
            // Said once for each absence, and not for every try.
            Some((_, known)) => {
                tracing::debug!(reason, "broker away");
                *known = reason;
            }
            None => {
                tracing::warn!(broker = self.config.broker, reason, "broker away");
                self.unreachable = Some((Instant::now(), reason));
            }
        }
    }

    fn beat(&mut self) {
        let progress = self.book.progress();
        self.speech.beat(v1::Heartbeat { progress });
    }

    fn look_at_load(&mut self) {
        if let Some(load) = &mut self.load
            && let Some(reason) = load.look(self.book.busy_count())
        {
            tracing::info!(
                reason,
                "{}",
                if reason.is_empty() {
                    "the machine is free again"
                } else {
                    "other programs need the machine"
                }
            );
            self.busy_reason = reason;
            self.say_availability();
        }
        // Also what was on its way when the broker was told. Not at once, but from look to look: a broker that does
        // not know what busy means would send it again as fast as it comes.
        if !self.busy_reason.is_empty() && self.may_be_busy {
            self.book.give_up_waiting();
        }
    }

    /// Towards a broker that does not understand it, what waits stays here and waits on.
    fn say_availability(&mut self) {
        self.book.pause(!self.busy_reason.is_empty());
        if self.may_be_busy && self.load.is_some() {
            let busy_reason = self.busy_reason.clone();
            let availability = v1::Availability { busy_reason };
            self.speech.say(ToBroker::Availability(availability));
        }
    }
}

fn minor(welcome: &v1::Welcome) -> u32 {
    welcome.protocol.map_or(0, |protocol| protocol.minor)
}

fn every(period: Duration) -> time::Interval {
    let mut interval = time::interval(period);
    // Ticks that were missed tell nobody anything.
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    interval
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
