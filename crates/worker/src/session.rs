//! The session: hears from the broker and from whatever works on attempts, and decides.
//!
//! It is the one owner of the book of attempts, and waits for nobody. What an attempt came to is kept until the broker
//! acknowledges it, and said again on every new connection.

use crate::{
    Config, RunningError, attempt::AttemptKey, book::Book, connection::Outbox,
    delivery::DeliveryError, hello::hello, materials::Prepared, slots::Ran,
};
use dewar_proto::{check_protocol, v1};
use dewar_task::Kind;
use std::time::Duration;
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use v1::{broker_message::Message as FromBroker, worker_message::Message as ToBroker};

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
    },
    /// The broker will never have us.
    Refused(Status),
    Prepared {
        key: AttemptKey,
        prepared: Result<Prepared, v1::Failure>,
    },
    Ran {
        key: AttemptKey,
        slot: usize,
        ran: Ran,
        run_ms: u64,
    },
    /// A result that is being delivered is on disk now.
    Kept {
        key: AttemptKey,
    },
    Delivered {
        key: AttemptKey,
        report: Result<v1::Report, DeliveryError>,
    },
    /// The people who run this worker want it to leave when it is done.
    Drain,
}

/// The session's whole state.
pub(crate) struct Session {
    config: Config,
    kinds: Vec<Kind>,
    /// The same on every connection of this process, and of the next that takes over its results.
    worker_id: [u8; 16],
    inbox: mpsc::Receiver<Event>,
    book: Book,
    outbox: Option<Outbox>,
    heartbeat: time::Interval,
    /// When to look for reports that were not acknowledged.
    patience: time::Interval,
    /// Takes nothing new, and leaves when what it has is done.
    is_draining: bool,
    /// Leaves by then whatever is unfinished.
    stop_by: Option<Instant>,
    idle_since: Option<Instant>,
    /// Since when there is no session with the broker, and why.
    unreachable: Option<(Instant, String)>,
}

impl Session {
    /// A session that has not met its broker yet.
    pub(crate) fn new(
        config: Config,
        kinds: Vec<Kind>,
        worker_id: [u8; 16],
        inbox: mpsc::Receiver<Event>,
        book: Book,
    ) -> Self {
        Self {
            kinds,
            worker_id,
            config,
            inbox,
            book,
            outbox: None,
            heartbeat: every(HEARTBEAT_AT_FIRST),
            patience: every(PATIENCE),
            is_draining: false,
            stop_by: None,
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
                return Ok(());
            }
            let deadline = self.deadline();
            tokio::select! {
                Some(event) = self.inbox.recv() => self.hear(event)?,
                _ = self.heartbeat.tick() => self.beat(),
                _ = self.patience.tick() => self.book.keep_overdue(),
                () = stop.cancelled(), if self.stop_by.is_none() => self.stop(),
                () = sleep_until(deadline) => self.reach_deadline()?,
            }
            self.book.fill_slots();
            self.say_all();
            self.note_idleness();
        }
    }

    fn hear(&mut self, event: Event) -> Result<(), RunningError> {
        match event {
            Event::Connecting(outbox) => self.greet(outbox),
            Event::Heard(message) => self.obey(message)?,
            Event::Disconnected { reason } => self.lose(reason),
            Event::Refused(status) => {
                return Err(RunningError::Refused {
                    address: self.config.broker.clone(),
                    message: status.message().to_owned(),
                });
            }
            Event::Prepared { key, prepared } => self.book.take_up(key, prepared),
            Event::Ran {
                key,
                slot,
                ran,
                run_ms,
            } => self.book.finish(key, slot, ran, run_ms),
            Event::Kept { key } => self.book.note_kept(key),
            Event::Delivered { key, report } => self.book.finish_delivery(key, report),
            Event::Drain => self.drain(),
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

    /// Hello, with all that is held, and then every report that was not acknowledged.
    fn greet(&mut self, outbox: Outbox) {
        let held = self.book.held();
        let hello = hello(&self.config, self.worker_id, &self.kinds, held);
        outbox.send(ToBroker::Hello(hello));
        if self.is_draining {
            outbox.send(ToBroker::Draining(v1::Draining {}));
        }
        for report in self.book.reports() {
            outbox.send(ToBroker::Report(report.clone()));
        }
        self.outbox = Some(outbox);
    }

    fn settle(&mut self, welcome: &v1::Welcome) -> Result<(), RunningError> {
        check_protocol(welcome.protocol, "the broker", "worker").map_err(|error| {
            RunningError::Refused {
                address: self.config.broker.clone(),
                message: error.to_string(),
            }
        })?;
        if welcome.heartbeat_ms > 0 {
            self.heartbeat = every(Duration::from_millis(welcome.heartbeat_ms.into()));
        }
        self.unreachable = None;
        self.book.note_broker(false);
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

    fn lose(&mut self, reason: String) {
        self.outbox = None;
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
        self.say(ToBroker::Heartbeat(v1::Heartbeat { progress }));
    }

    fn drain(&mut self) {
        if self.is_draining {
            return;
        }
        tracing::info!("draining");
        self.is_draining = true;
        self.say(ToBroker::Draining(v1::Draining {}));
        self.book.give_up_waiting();
    }

    fn stop(&mut self) {
        self.is_draining = true;
        self.stop_by = Some(Instant::now() + STOP_TIMEOUT);
        self.say(ToBroker::Draining(v1::Draining {}));
        self.book.give_up_unfinished();
        self.book.hurry();
    }

    /// Says what the book has put down.
    fn say_all(&mut self) {
        for message in self.book.take_said() {
            self.say(message);
        }
    }

    /// What is said while there is no connection is lost; what must not be is said again by [`Session::greet`].
    fn say(&self, message: ToBroker) {
        if let Some(outbox) = &self.outbox {
            outbox.send(message);
        }
    }

    fn has_left(&self) -> bool {
        let is_done = self.book.is_empty() && self.book.all_idle();
        match self.stop_by {
            // Nobody is there to hear of what is left.
            Some(by) if by <= Instant::now() => true,
            Some(_) if self.unreachable.is_some() => {
                self.book.all_idle() && self.book.is_all_kept()
            }
            Some(_) => is_done,
            None => self.is_draining && is_done,
        }
    }

    fn note_idleness(&mut self) {
        if self.book.is_empty() {
            self.idle_since.get_or_insert_with(Instant::now);
        } else {
            self.idle_since = None;
        }
    }

    /// When [`Session::reach_deadline`] is due.
    fn deadline(&self) -> Option<Instant> {
        let idle = self.idle_since.zip(self.config.exit_when_idle);
        let unreachable = self.unreachable.as_ref().map(|(since, _)| *since);
        let unreachable = unreachable.zip(self.config.exit_when_unreachable);
        let waits = idle.into_iter().chain(unreachable);
        waits
            .map(|(since, wait)| since + wait)
            .chain(self.stop_by)
            .min()
    }

    fn reach_deadline(&mut self) -> Result<(), RunningError> {
        let now = Instant::now();
        if self.stop_by.is_some_and(|at| at <= now) {
            tracing::warn!(unfinished_count = self.book.len(), "leaving in haste");
            self.book.abandon();
            return Ok(());
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
        tracing::info!("idle for long enough");
        self.drain();
        Ok(())
    }
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
