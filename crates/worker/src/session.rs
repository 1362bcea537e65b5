//! The session: the one owner of every attempt on this worker.
//!
//! It hears from the broker, from fetches, slots and deliveries, and never waits for any of them. What an attempt came
//! to is kept until the broker acknowledges it, and said again on every new connection.

use crate::{
    Config, StartError,
    attempt::{Attempt, AttemptKey, failure},
    connection::{self, Outbox},
    delivery::{self, Delivery},
    materials::{Materials, Prepared},
    slots::{Ran, Slots},
};
use dewar_blobs::{BlobClient, ChunkCache};
use dewar_proto::{check_protocol, transport, v1};
use dewar_task::{Context, Registry};
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{self, Instant},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use v1::{broker_message::Message as FromBroker, report, worker_message::Message as ToBroker};

/// Events that wait for the session. Those who send them wait when it is full.
const EVENTS_MAX: usize = 1024;

/// Heartbeats until the broker says how often it wants them.
const HEARTBEAT_AT_FIRST: Duration = Duration::from_secs(5);

/// How long a worker that was told to stop waits for kernels to heed it and for the broker to hear of it.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last messages may take to leave.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

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
    Delivered {
        key: AttemptKey,
        output: Result<v1::Output, v1::Failure>,
        run_ms: u64,
    },
    /// The people who run this worker want it to leave when it is done.
    Drain,
}

/// Starts workers.
#[derive(Debug)]
pub struct Worker;

/// A worker at work. Dropping it stops the worker.
#[derive(Debug)]
pub struct Running {
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
    /// None once it was waited for.
    session: Option<JoinHandle<Result<(), RunningError>>>,
}

/// Why a worker ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunningError {
    /// The broker does not want it.
    #[error("the broker at {address} refused this worker: {message}")]
    Refused {
        /// The broker.
        address: String,
        /// What it said.
        message: String,
    },
    /// The broker was away for longer than allowed.
    #[error("the broker at {address} was not reached for {} s: {reason}", after.as_secs())]
    Unreachable {
        /// The broker.
        address: String,
        /// How long that was.
        after: Duration,
        /// What the last try met.
        reason: String,
    },
    /// A bug.
    #[error("the session failed")]
    Failed(#[source] tokio::task::JoinError),
}

impl Worker {
    /// Starts a worker on the current runtime, with threads of its own for its kernels. It looks for its broker for as
    /// long as it takes.
    ///
    /// # Errors
    /// If the settings make no sense, or the cache folder or threads cannot be had.
    pub fn start(config: Config, registry: Registry) -> Result<Running, StartError> {
        if config.slot_count == 0 {
            return Err(StartError::NoSlots);
        }
        let channel =
            transport::channel(&config.broker, config.token.clone()).map_err(|source| {
                StartError::Address {
                    address: config.broker.clone(),
                    source,
                }
            })?;
        let unusable = |source| StartError::Cache {
            folder: config.cache_dir.clone(),
            source,
        };
        let cache =
            ChunkCache::open(&config.cache_dir, config.cache_bytes_max).map_err(unusable)?;
        let waiting_dir = config.cache_dir.join("results");
        std::fs::create_dir_all(&waiting_dir).map_err(unusable)?;

        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        let slots = Slots::start(config.slot_count, config.nice, &registry, &events)
            .map_err(StartError::Thread)?;
        let blobs = BlobClient::new(channel.clone());
        let leave = CancellationToken::new();
        let connection = tokio::spawn(connection::keep_connected(
            channel,
            events.clone(),
            leave.clone(),
        ));
        let stop = CancellationToken::new();
        let session = Session {
            kinds: registry.kinds().cloned().collect(),
            worker_id: uuid::Uuid::new_v4().into_bytes(),
            config,
            inbox,
            events: events.clone(),
            slots,
            materials: Materials::new(cache, blobs.clone()),
            delivery: Delivery::new(blobs, waiting_dir),
            attempts: HashMap::new(),
            ready: VecDeque::new(),
            outbox: None,
            heartbeat: heartbeat(HEARTBEAT_AT_FIRST),
            is_draining: false,
            stop_by: None,
            idle_since: Some(Instant::now()),
            unreachable: Some((Instant::now(), "not tried yet".to_owned())),
        };
        let ends = stop.clone();
        let session = tokio::spawn(async move {
            let ended = session.run(ends).await;
            leave.cancel();
            // The outbox is gone with the session: the connection ends once its last messages are out.
            let mut connection = connection;
            if time::timeout(FAREWELL_TIMEOUT, &mut connection)
                .await
                .is_err()
            {
                connection.abort();
            }
            ended
        });
        Ok(Running {
            events,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
            session: Some(session),
        })
    }
}

impl Running {
    /// Lets the worker finish what runs, and leave.
    pub async fn drain(&self) {
        // A session that has ended has nothing to finish.
        let _ = self.events.send(Event::Drain).await;
    }

    /// Makes the worker hand back what it runs, and leave at once.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until the worker has left. May be dropped and called again, as in `select!`; the
    /// end is told once.
    ///
    /// # Errors
    /// If it left because the broker refused it or was away for too long.
    pub async fn wait(&mut self) -> Result<(), RunningError> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let ended = session.await;
        self.session = None;
        ended.unwrap_or_else(|error| Err(RunningError::Failed(error)))
    }
}

struct Session {
    config: Config,
    kinds: Vec<dewar_task::Kind>,
    /// The same on every connection of this process.
    worker_id: [u8; 16],
    inbox: mpsc::Receiver<Event>,
    events: mpsc::Sender<Event>,
    slots: Slots,
    materials: Materials,
    delivery: Delivery,
    attempts: HashMap<AttemptKey, Attempt>,
    /// Attempts that are [`Attempt::Ready`], in the order they became so; some may be gone since.
    ready: VecDeque<AttemptKey>,
    outbox: Option<Outbox>,
    heartbeat: time::Interval,
    /// Takes nothing new, and leaves when what it has is done.
    is_draining: bool,
    /// Leaves by then whatever is unfinished.
    stop_by: Option<Instant>,
    idle_since: Option<Instant>,
    /// Since when there is no session with the broker, and why.
    unreachable: Option<(Instant, String)>,
}

impl Session {
    async fn run(mut self, stop: CancellationToken) -> Result<(), RunningError> {
        loop {
            if self.has_left() {
                return Ok(());
            }
            let deadline = self.deadline();
            tokio::select! {
                Some(event) = self.inbox.recv() => self.hear(event)?,
                _ = self.heartbeat.tick() => self.beat(),
                () = stop.cancelled(), if self.stop_by.is_none() => self.stop(),
                () = sleep_until(deadline) => self.reach_deadline()?,
            }
            self.fill_slots();
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
            Event::Prepared { key, prepared } => self.take_up(key, prepared),
            Event::Ran {
                key,
                slot,
                ran,
                run_ms,
            } => {
                self.slots.end(slot);
                self.finish(key, ran, run_ms);
            }
            Event::Delivered {
                key,
                output,
                run_ms,
            } => {
                let result = match output {
                    Ok(output) => report::Result::Succeeded(output),
                    Err(failure) => report::Result::Failed(failure),
                };
                self.report(key, result, run_ms);
            }
            Event::Drain => self.drain(),
        }
        Ok(())
    }

    fn obey(&mut self, message: FromBroker) -> Result<(), RunningError> {
        match message {
            FromBroker::Welcome(welcome) => self.settle(&welcome)?,
            FromBroker::Assignments(v1::Assignments { assignments }) => {
                for assignment in assignments {
                    self.accept(assignment);
                }
            }
            FromBroker::ReportReceived(v1::ReportReceived { task, attempt }) => {
                if let Some(key) = AttemptKey::from_wire(task.as_ref(), attempt.as_ref()) {
                    self.forget(key);
                }
            }
            FromBroker::Stop(v1::Stop { task, attempt }) => {
                if let Some(key) = AttemptKey::from_wire(task.as_ref(), attempt.as_ref()) {
                    self.stop_attempt(key);
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
        let kinds = self.kinds.iter().map(|kind| v1::Kind {
            name: kind.name.clone(),
            version: kind.version,
        });
        outbox.send(ToBroker::Hello(v1::Hello {
            protocol: Some(dewar_proto::PROTOCOL),
            worker_id: self.worker_id.to_vec(),
            name: self.config.name.clone(),
            host_name: dewar_settings::host_name(),
            slot_count: self.config.slot_count.into(),
            kinds: kinds.collect(),
            site: self.config.site.clone(),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            instruction_class: instruction_class().to_owned(),
            held: self.attempts.keys().map(AttemptKey::held).collect(),
            ..Default::default()
        }));
        if self.is_draining {
            outbox.send(ToBroker::Draining(v1::Draining {}));
        }
        for attempt in self.attempts.values() {
            if let Attempt::Reported(report) = attempt {
                outbox.send(ToBroker::Report(report.clone()));
            }
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
            self.heartbeat = heartbeat(Duration::from_millis(welcome.heartbeat_ms.into()));
        }
        self.unreachable = None;
        tracing::info!(
            broker = self.config.broker,
            broker_start = welcome.broker_start,
            name = self.config.name,
            slot_count = self.config.slot_count,
            held_count = self.attempts.len(),
            "joined"
        );
        Ok(())
    }

    fn lose(&mut self, reason: String) {
        self.outbox = None;
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

    fn accept(&mut self, assignment: v1::Assignment) {
        let key = AttemptKey::from_wire(assignment.task.as_ref(), assignment.attempt.as_ref());
        let Some(key) = key else {
            tracing::warn!(
                task = assignment.display_name,
                "assignment without task or attempt"
            );
            return;
        };
        if self.attempts.contains_key(&key) {
            return;
        }
        if self.is_draining || self.stop_by.is_some() {
            self.hand_back([key]);
            return;
        }
        tracing::debug!(task = assignment.display_name, attempt = %key, "assigned");
        let (materials, events) = (self.materials.clone(), self.events.clone());
        let spec = assignment.spec.unwrap_or_default();
        let preparing = tokio::spawn(async move {
            let prepared = materials.prepare(spec).await;
            // The session may have left meanwhile.
            let _ = events.send(Event::Prepared { key, prepared }).await;
        });
        self.attempts
            .insert(key, Attempt::Preparing(preparing.abort_handle()));
    }

    fn take_up(&mut self, key: AttemptKey, prepared: Result<Prepared, v1::Failure>) {
        // It may have been stopped while it was fetched.
        if !matches!(self.attempts.get(&key), Some(Attempt::Preparing(_))) {
            return;
        }
        match prepared {
            Ok(prepared) => {
                self.attempts.insert(key, Attempt::Ready(prepared));
                self.ready.push_back(key);
            }
            Err(failure) => self.report(key, report::Result::Failed(failure), 0),
        }
    }

    fn fill_slots(&mut self) {
        while self.slots.has_idle()
            && let Some(key) = self.ready.pop_front()
        {
            match self.attempts.remove(&key) {
                Some(Attempt::Ready(prepared)) => {
                    let context: Context = prepared.context.clone();
                    let running = Attempt::Running {
                        context,
                        stopped: false,
                    };
                    self.attempts.insert(key, running);
                    self.slots.run(key, prepared);
                }
                Some(other) => {
                    self.attempts.insert(key, other);
                }
                None => {}
            }
        }
    }

    fn finish(&mut self, key: AttemptKey, ran: Ran, run_ms: u64) {
        // What was handed back is nobody's.
        let Some(Attempt::Running { stopped, .. }) = self.attempts.get(&key) else {
            return;
        };
        let result = match ran {
            _ if *stopped => report::Result::Cancelled(v1::Cancelled {}),
            Ran::Output(output) if delivery::fits_report(&output) => {
                report::Result::Succeeded(delivery::inline(output))
            }
            Ran::Output(output) => {
                let (delivery, events) = (self.delivery.clone(), self.events.clone());
                let delivering = tokio::spawn(async move {
                    let output = delivery.deliver(output).await;
                    let event = Event::Delivered {
                        key,
                        output,
                        run_ms,
                    };
                    let _ = events.send(event).await;
                });
                let delivering = Attempt::Delivering(delivering.abort_handle());
                self.attempts.insert(key, delivering);
                return;
            }
            Ran::Failed(failure) => {
                tracing::warn!(attempt = %key, message = failure.message, "failed");
                report::Result::Failed(failure)
            }
            Ran::Cancelled => report::Result::Failed(failure(
                v1::FailureClass::KernelError,
                "the kernel says it was cancelled, but nobody cancelled it",
            )),
        };
        self.report(key, result, run_ms);
    }

    /// Says what an attempt came to, and keeps it until the broker has it.
    fn report(&mut self, key: AttemptKey, result: report::Result, run_ms: u64) {
        if !self.attempts.contains_key(&key) {
            return;
        }
        let report = key.report(result, run_ms);
        self.say(ToBroker::Report(report.clone()));
        self.attempts.insert(key, Attempt::Reported(report));
    }

    fn stop_attempt(&mut self, key: AttemptKey) {
        match self.attempts.get_mut(&key) {
            Some(Attempt::Running { context, stopped }) => {
                context.stop();
                *stopped = true;
            }
            Some(Attempt::Preparing(work) | Attempt::Delivering(work)) => {
                work.abort();
                self.report(key, report::Result::Cancelled(v1::Cancelled {}), 0);
            }
            Some(Attempt::Ready(_)) => {
                self.report(key, report::Result::Cancelled(v1::Cancelled {}), 0);
            }
            Some(Attempt::Reported(_)) | None => {}
        }
    }

    /// The broker has the report, or wants none.
    fn forget(&mut self, key: AttemptKey) {
        if matches!(self.attempts.get(&key), Some(Attempt::Reported(_))) {
            self.attempts.remove(&key);
        }
    }

    fn beat(&mut self) {
        let progress = self.attempts.iter().filter_map(|(key, attempt)| {
            let Attempt::Running { context, .. } = attempt else {
                return None;
            };
            Some(v1::AttemptProgress {
                task: Some(key.task()),
                attempt: Some(key.attempt()),
                fraction: context.progress(),
            })
        });
        let progress = progress.collect();
        self.say(ToBroker::Heartbeat(v1::Heartbeat { progress }));
    }

    fn drain(&mut self) {
        if self.is_draining {
            return;
        }
        tracing::info!("draining");
        self.is_draining = true;
        self.say(ToBroker::Draining(v1::Draining {}));
        self.give_up(|attempt| matches!(attempt, Attempt::Preparing(_) | Attempt::Ready(_)));
    }

    fn stop(&mut self) {
        self.is_draining = true;
        self.stop_by = Some(Instant::now() + STOP_TIMEOUT);
        self.say(ToBroker::Draining(v1::Draining {}));
        self.give_up(|attempt| {
            matches!(
                attempt,
                Attempt::Preparing(_) | Attempt::Ready(_) | Attempt::Running { .. }
            )
        });
    }

    /// Hands back attempts of a kind.
    fn give_up(&mut self, which: impl Fn(&Attempt) -> bool) {
        let given_up = self.attempts.extract_if(|_, attempt| which(attempt));
        let keys: Vec<_> = given_up
            .map(|(key, attempt)| {
                match attempt {
                    Attempt::Preparing(work) => work.abort(),
                    Attempt::Running { context, .. } => context.stop(),
                    Attempt::Ready(_) | Attempt::Delivering(_) | Attempt::Reported(_) => {}
                }
                key
            })
            .collect();
        self.hand_back(keys);
    }

    fn hand_back(&self, keys: impl IntoIterator<Item = AttemptKey>) {
        let attempts: Vec<_> = keys.into_iter().map(|key| key.held()).collect();
        if !attempts.is_empty() {
            self.say(ToBroker::HandBack(v1::HandBack { attempts }));
        }
    }

    /// What is said while there is no connection is lost; what must not be is said again by [`Session::greet`].
    fn say(&self, message: ToBroker) {
        if let Some(outbox) = &self.outbox {
            outbox.send(message);
        }
    }

    fn has_left(&self) -> bool {
        let is_done = self.attempts.is_empty() && self.slots.all_idle();
        match self.stop_by {
            // Nobody is there to hear of what is left.
            Some(_) if self.unreachable.is_some() => self.slots.all_idle(),
            Some(_) => is_done,
            None => self.is_draining && is_done,
        }
    }

    fn note_idleness(&mut self) {
        if self.attempts.is_empty() {
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
            tracing::warn!(unfinished_count = self.attempts.len(), "leaving in haste");
            self.attempts.clear();
            self.slots.abandon();
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

fn heartbeat(every: Duration) -> time::Interval {
    let mut interval = time::interval(every);
    // Beats that were missed tell nobody anything.
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    interval
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The class within which results are the same bytes.
fn instruction_class() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        let is_v3 = std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("f16c")
            && std::arch::is_x86_feature_detected!("lzcnt")
            && std::arch::is_x86_feature_detected!("movbe");
        if is_v3 { "x86-64-v3" } else { "x86-64" }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH
    }
}
