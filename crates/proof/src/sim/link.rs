//! One connection between a worker and the broker: in order, but late, sometimes twice, and never for long.

use super::world::{World, about, delay};
use anyhow::{Result, ensure};
use dewar_broker::simulation::{Door, FromWorker, Hello, ToWorker};
use dewar_queue::WorkerId;
use rand::RngExt as _;
use std::{cell::Cell, rc::Rc, time::Duration};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::spawn_local,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// As many as the broker's own connections hold.
const OUTBOX_MESSAGE_COUNT_MAX: usize = 4096;

/// A connection lasts for about so long.
const LIFE: Duration = Duration::from_secs(150);

/// One message in so many is said twice.
const REPEATS_ONCE_IN: u32 = 60;

/// The worker's end. Dropped, the connection is cut.
pub(super) struct Link {
    said: UnboundedSender<FromWorker>,
    heard: UnboundedReceiver<ToWorker>,
    cut: CancellationToken,
}

/// What both directions know of their connection.
struct Wire {
    world: Rc<World>,
    door: Door,
    worker: WorkerId,
    session: u64,
    cut: CancellationToken,
    /// Nothing travels any more, and nobody has noticed yet.
    is_dead: Cell<bool>,
}

impl Link {
    /// Says hello. None if that, or its answer, was lost.
    pub(super) async fn open(world: &Rc<World>, hello: Hello) -> Result<Option<Self>> {
        let mut random = world.new_chance();
        let door = world.door().await;
        world.travel(&mut random).await;
        let worker = hello.worker.id;
        let (outbox, inbox) = mpsc::channel(OUTBOX_MESSAGE_COUNT_MAX);
        let Ok(session) = door.attend(hello, outbox).await else {
            return Ok(None);
        };
        if world.strikes(&mut random, 20) {
            world.count(|counts| counts.losses += 1);
            return Ok(None);
        }
        let wire = Rc::new(Wire {
            world: world.clone(),
            door,
            worker,
            session,
            cut: CancellationToken::new(),
            is_dead: Cell::new(false),
        });
        let (said, to_broker) = mpsc::unbounded_channel();
        let (under_way, arriving) = mpsc::unbounded_channel();
        let (to_worker, heard) = mpsc::unbounded_channel();
        spawn_local(wire.clone().carry_up(to_broker));
        spawn_local(wire.clone().depart(inbox, under_way));
        spawn_local(wire.clone().arrive(arriving, to_worker));
        spawn_local(wire.clone().break_some_time());
        Ok(Some(Self {
            said,
            heard,
            cut: wire.cut.clone(),
        }))
    }

    pub(super) fn say(&self, message: FromWorker) {
        // A cut connection is noticed by its silence.
        let _ = self.said.send(message);
    }

    /// What the broker says; none once the connection has broken.
    pub(super) async fn hear(&mut self) -> Option<ToWorker> {
        self.heard.recv().await
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}

impl Wire {
    async fn carry_up(self: Rc<Self>, mut said: UnboundedReceiver<FromWorker>) {
        let mut random = self.world.new_chance();
        loop {
            let message = tokio::select! {
                biased;
                () = self.cut.cancelled() => break,
                message = said.recv() => message,
            };
            let Some(message) = message else { break };
            self.world.travel(&mut random).await;
            if self.is_dead.get() {
                continue;
            }
            if self.world.strikes(&mut random, REPEATS_ONCE_IN) {
                self.world.count(|counts| counts.losses += 1);
                let _ = self.hear(message.clone()).await;
            }
            if self.hear(message).await.is_err() {
                break;
            }
        }
        self.cut.cancel();
        sleep(Duration::from_millis(random.random_range(0..2000))).await;
        // A broker that is gone knows no sessions.
        let _ = self.hear(FromWorker::Disconnected).await;
    }

    async fn hear(&self, message: FromWorker) -> Result<()> {
        Ok(self.door.hear(self.worker, self.session, message).await?)
    }

    /// Sees what the broker says in the moment it does.
    async fn depart(
        self: Rc<Self>,
        mut inbox: mpsc::Receiver<ToWorker>,
        under_way: UnboundedSender<(Instant, ToWorker)>,
    ) {
        let mut random = self.world.new_chance();
        let mut arrives_at = Instant::now();
        loop {
            let message = tokio::select! {
                biased;
                () = self.cut.cancelled() => break,
                message = inbox.recv() => message,
            };
            let Some(message) = message else { break };
            if let Err(broken) = self.see(&message) {
                self.world.break_off(&broken);
            }
            arrives_at = arrives_at.max(Instant::now() + delay(&mut random));
            if self.world.strikes(&mut random, REPEATS_ONCE_IN) {
                self.world.count(|counts| counts.losses += 1);
                let _ = under_way.send((arrives_at, message.clone()));
            }
            let _ = under_way.send((arrives_at, message));
        }
        self.cut.cancel();
    }

    fn see(&self, message: &ToWorker) -> Result<()> {
        let ToWorker::Assign { address, job, .. } = message else {
            return Ok(());
        };
        let (task, attempt) = (address.index, address.attempt);
        self.world.count(|counts| counts.attempts += 1);
        self.world
            .note("broker", format_args!("assigns {job}.{task} {attempt}"));
        let jobs = self.world.jobs.borrow();
        let is_cancelled = jobs
            .get(job)
            .is_some_and(|job| job.cancelled && !job.is_rerun);
        ensure!(
            !is_cancelled,
            "{job}.{task} is assigned although {job} is cancelled"
        );
        Ok(())
    }

    async fn arrive(
        self: Rc<Self>,
        mut arriving: UnboundedReceiver<(Instant, ToWorker)>,
        to_worker: UnboundedSender<ToWorker>,
    ) {
        while let Some((at, message)) = arriving.recv().await {
            sleep_until(at).await;
            if self.cut.is_cancelled() {
                return;
            }
            if !self.is_dead.get() {
                let _ = to_worker.send(message);
            }
        }
    }

    async fn break_some_time(self: Rc<Self>) {
        let mut random = self.world.new_chance();
        sleep(about(&mut random, LIFE)).await;
        if self.world.is_peace() || self.cut.is_cancelled() {
            return;
        }
        self.world.count(|counts| counts.cuts += 1);
        if random.random_ratio(1, 3) {
            self.is_dead.set(true);
            sleep(Duration::from_millis(random.random_range(1000..40_000))).await;
        }
        self.cut.cancel();
    }
}
