//! A worker: takes tasks, runs them for a while, keeps reports until they are received, and dies now and then.

use super::{
    customer::plan,
    link::Link,
    world::{WORKER_STREAM, World, about},
};
use anyhow::Result;
use dewar_broker::simulation::{Address, FromWorker, Hello, ToWorker, WorkerInfo};
use dewar_queue::{
    Failure, FailureClass, Kernel, Kind, Output, Payload, TaskResult, TaskSpec, WorkerHello,
    WorkerId,
};
use rand::{Rng as _, RngExt as _};
use rand_chacha::ChaCha8Rng;
use std::{rc::Rc, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, sleep_until};

/// As in `dewar-worker`.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// It lives for about so long.
const LIFE: Duration = Duration::from_secs(900);

/// It is away for about so long.
const ABSENCE: Duration = Duration::from_secs(20);

/// A task takes about so long.
const RUN: Duration = Duration::from_millis(2500);

struct Worker {
    world: Rc<World>,
    random: ChaCha8Rng,
    name: Arc<str>,
    id: WorkerId,
    slot_count: usize,
    link: Option<Link>,
    attempts: Vec<Attempt>,
    next_beat: Instant,
    reconnects_at: Instant,
}

struct Attempt {
    address: Address,
    spec: Arc<TaskSpec>,
    state: State,
}

enum State {
    Waiting,
    Running { since: Instant, until: Instant },
    Reported { result: TaskResult, run_ms: u64 },
}

/// One life after another.
pub(super) async fn live(world: Rc<World>, n: u64) -> Result<()> {
    let mut random = world.chance(WORKER_STREAM + n);
    loop {
        let mut id = [0; 16];
        random.fill_bytes(&mut id);
        let life = about(&mut random, LIFE);
        let worker = Worker {
            world: world.clone(),
            random: world.new_chance(),
            name: format!("w{n}").into(),
            id: WorkerId(id),
            slot_count: 1 + usize::try_from(n % 3)?,
            link: None,
            attempts: Vec::new(),
            next_beat: Instant::now(),
            reconnects_at: Instant::now(),
        };
        worker.run(life).await?;
        world.count(|counts| counts.worker_deaths += 1);
        sleep(about(&mut random, ABSENCE)).await;
    }
}

impl Worker {
    async fn run(mut self, life: Duration) -> Result<()> {
        let dies_at = Instant::now() + life;
        loop {
            self.fill_slots();
            if Instant::now() >= dies_at && !self.world.is_peace() {
                self.world.note(&self.name, "dies");
                return Ok(());
            }
            if self.link.is_none() && Instant::now() >= self.reconnects_at {
                self.connect().await?;
            }
            let wakes_at = self.wakes_at(dies_at);
            tokio::select! {
                biased;
                heard = hear(&mut self.link) => match heard {
                    Some(message) => self.obey(message),
                    None => self.lose_link(),
                },
                () = sleep_until(wakes_at) => self.go_on(),
            }
        }
    }

    fn wakes_at(&self, dies_at: Instant) -> Instant {
        let ends = self
            .attempts
            .iter()
            .filter_map(|attempt| match attempt.state {
                State::Running { until, .. } => Some(until),
                State::Waiting | State::Reported { .. } => None,
            });
        let other = match &self.link {
            Some(_) => self.next_beat,
            None => self.reconnects_at,
        };
        let first = ends.fold(other, Instant::min);
        // In peace nobody dies, and nobody waits for it.
        if self.world.is_peace() {
            first
        } else {
            first.min(dies_at)
        }
    }

    async fn connect(&mut self) -> Result<()> {
        let worker = WorkerHello {
            id: self.id,
            name: self.name.clone(),
            slot_count: u32::try_from(self.slot_count)?,
            memory_bytes: 0,
            kinds: vec![kind()],
            kernels: vec![Kernel {
                kind: kind(),
                revision: 1,
                deterministic: true,
            }],
            instruction_class: "sim".into(),
            held: Vec::new(),
        };
        let hello = Hello {
            worker,
            held: self
                .attempts
                .iter()
                .map(|attempt| attempt.address)
                .collect(),
            info: WorkerInfo {
                host_name: String::new(),
                site: String::new(),
                program_version: String::new(),
                owner: "sim".into(),
            },
        };
        self.link = Link::open(&self.world, hello).await?;
        if self.link.is_none() {
            self.lose_link();
            return Ok(());
        }
        self.world.note(
            &self.name,
            format_args!("joins with {}", self.attempts.len()),
        );
        for attempt in &self.attempts {
            self.say_report(attempt);
        }
        Ok(())
    }

    fn lose_link(&mut self) {
        self.link = None;
        let wait = Duration::from_millis(self.random.random_range(100..8000));
        self.reconnects_at = Instant::now() + wait;
    }

    fn obey(&mut self, message: ToWorker) {
        match message {
            ToWorker::Assign { address, spec, .. } => self.take(address, spec),
            ToWorker::Received(address) => self.attempts.retain(|attempt| {
                attempt.address != address || !matches!(attempt.state, State::Reported { .. })
            }),
            ToWorker::Stop(address) => {
                let index = self.attempts.iter().position(|a| a.address == address);
                if let Some(index) = index
                    && !matches!(self.attempts[index].state, State::Reported { .. })
                {
                    self.report(index, TaskResult::Stopped, 0);
                }
            }
            // Nobody drains it, and the end of the connection says the rest.
            ToWorker::Drain | ToWorker::BackSoon => {}
        }
    }

    fn take(&mut self, address: Address, spec: Arc<TaskSpec>) {
        // It may be said twice.
        let is_known = self.attempts.iter().any(|known| known.address == address);
        if !is_known {
            self.attempts.push(Attempt {
                address,
                spec,
                state: State::Waiting,
            });
        }
    }

    /// What time has brought.
    fn go_on(&mut self) {
        let now = Instant::now();
        while let Some(index) = self.attempts.iter().position(
            |attempt| matches!(attempt.state, State::Running { until, .. } if until <= now),
        ) {
            let State::Running { since, .. } = self.attempts[index].state else {
                return;
            };
            let run_ms = u64::try_from((now - since).as_millis()).unwrap_or(u64::MAX);
            let result = self.compute(index);
            self.report(index, result, run_ms);
        }
        if self.link.is_some() && self.next_beat <= now {
            self.next_beat = now + HEARTBEAT;
            self.say(FromWorker::Heartbeat {
                progress: Vec::new(),
            });
            if self.world.strikes(&mut self.random, 50) {
                self.hand_back();
            }
        }
    }

    fn compute(&mut self, index: usize) -> TaskResult {
        let spec = &self.attempts[index].spec;
        let Payload::Inline(parameters) = &spec.parameters else {
            return failed("parameters are not inline");
        };
        let plan = plan(self.attempts[index].address.index);
        if plan.always_fails || (plan.sometimes_fails && self.random.random_ratio(1, 2)) {
            return failed("as planned");
        }
        TaskResult::Succeeded(Output {
            message: Payload::Inline(parameters.iter().map(|byte| !byte).collect()),
            blobs: Vec::new(),
        })
    }

    fn fill_slots(&mut self) {
        let is_running = |a: &&Attempt| matches!(a.state, State::Running { .. });
        let mut free = self
            .slot_count
            .saturating_sub(self.attempts.iter().filter(is_running).count());
        for attempt in &mut self.attempts {
            if free > 0 && matches!(attempt.state, State::Waiting) {
                let since = Instant::now();
                // A few take long, so that some outlast leases and deaths.
                let factor = if self.random.random_ratio(1, 30) {
                    20
                } else {
                    1
                };
                let until = since + about(&mut self.random, RUN) * factor;
                attempt.state = State::Running { since, until };
                free -= 1;
            }
        }
    }

    fn hand_back(&mut self) {
        let (waiting, kept) = std::mem::take(&mut self.attempts)
            .into_iter()
            .partition(|attempt| matches!(attempt.state, State::Waiting));
        self.attempts = kept;
        let waiting: Vec<Attempt> = waiting;
        let attempts = waiting.iter().map(|attempt| attempt.address).collect();
        self.say(FromWorker::HandBack { attempts });
    }

    fn report(&mut self, index: usize, result: TaskResult, run_ms: u64) {
        self.attempts[index].state = State::Reported { result, run_ms };
        self.say_report(&self.attempts[index]);
    }

    fn say_report(&self, attempt: &Attempt) {
        if let State::Reported { result, run_ms } = &attempt.state {
            self.say(FromWorker::Report {
                address: attempt.address,
                result: result.clone(),
                run_ms: *run_ms,
                fetch_ms: 0,
            });
        }
    }

    fn say(&self, message: FromWorker) {
        if let Some(link) = &self.link {
            link.say(message);
        }
    }
}

async fn hear(link: &mut Option<Link>) -> Option<ToWorker> {
    match link {
        Some(link) => link.hear().await,
        None => std::future::pending().await,
    }
}

fn failed(message: &str) -> TaskResult {
    TaskResult::Failed(Failure {
        class: FailureClass::KernelError,
        message: message.to_owned(),
    })
}

/// The one kind there is.
pub(super) fn kind() -> Kind {
    Kind {
        name: "sim".into(),
        version: 1,
    }
}
