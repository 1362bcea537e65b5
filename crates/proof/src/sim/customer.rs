//! A customer: job after job, every request repeated until it is acknowledged, every outcome awaited in sequence.

use super::{
    style::{GLANCE, Presence, Style},
    verdict,
    world::{CUSTOMER_STREAM, JobModel, World, about},
};
use anyhow::{Context as _, Result, ensure};
use dewar_broker::{EngineError, simulation::Door};
use dewar_queue::{Command, JobId, JobNumber, Refusal, TaskSelection};
use rand::{Rng as _, RngExt as _};
use rand_chacha::ChaCha8Rng;
use std::{rc::Rc, sync::Arc, time::Duration};
use tokio::{
    task::{JoinSet, spawn_local},
    time::{sleep, timeout},
};

/// Outcomes asked for at a time.
const PAGE_COUNT: usize = 32;

/// How long a customer waits for an answer that was lost.
const ANSWER: Duration = Duration::from_secs(5);

/// One request or answer in so many is lost, one request in so many comes again later.
const LOSES_ONCE_IN: u32 = 40;

/// What is going to become of a task.
pub(super) struct Plan {
    pub(super) always_fails: bool,
    pub(super) sometimes_fails: bool,
    /// A task that must succeed first.
    pub(super) after: Option<u64>,
}

/// What is going to become of the task with this index.
pub(super) fn plan(index: u64) -> Plan {
    Plan {
        always_fails: index % 23 == 7,
        sometimes_fails: index % 11 == 5,
        // Some wait for one that waits, and some for one that fails.
        after: (index % 5 == 4).then(|| index - 1 - index % 4),
    }
}

#[derive(Clone)]
struct Customer {
    world: Rc<World>,
    name: Arc<str>,
}

/// Opens jobs until peace, and sees them all to their end.
pub(super) async fn live(world: Rc<World>, n: u64) -> Result<()> {
    let mut random = world.chance(CUSTOMER_STREAM + n);
    let customer = Customer {
        name: format!("c{n}").into(),
        world,
    };
    let mut jobs = JoinSet::new();
    while !customer.world.is_peace() {
        let job = customer.clone().see_through(customer.world.new_chance());
        jobs.spawn_local(job);
        // Several at a time, but not without end.
        while jobs.len() > 3 {
            jobs.join_next().await.context("there are some")???;
        }
        sleep(about(&mut random, Duration::from_secs(60))).await;
    }
    while let Some(ended) = jobs.join_next().await {
        ended??;
    }
    Ok(())
}

impl Customer {
    /// One job, from its opening to its last outcome.
    async fn see_through(self, mut random: ChaCha8Rng) -> Result<()> {
        let mut id = [0; 16];
        random.fill_bytes(&mut id);
        let id = JobId(id);
        let style = Style::draw(&mut random);
        let number = self.create(id, style, &mut random).await?;
        let watching = spawn_local(
            self.clone()
                .watch(number, style, 0, self.world.new_chance()),
        );
        let is_cancelled = random.random_ratio(1, 4);
        let patience = about(&mut random, Duration::from_secs(40));
        let submitting = self.submit_and_close(number, id, style, &mut random);
        if is_cancelled {
            // Dropped in the middle of whatever it does.
            if let Ok(submitted) = timeout(patience, submitting).await {
                submitted?;
            }
            self.cancel(number, id).await?;
        } else {
            submitting.await?;
        }
        let sequence = watching.await??;
        if style.is_rerun {
            self.rerun(number, &mut random).await?;
            let random = self.world.new_chance();
            self.watch(number, style, sequence, random).await?;
        }
        Ok(())
    }

    async fn create(&self, id: JobId, style: Style, random: &mut ChaCha8Rng) -> Result<JobNumber> {
        self.request(
            Command::CreateJob {
                id,
                owner: self.name.clone(),
                name: "".into(),
                priority: random.random_range(-2..=2),
                terms: style.terms(),
            },
            random,
        )
        .await??;
        let number = self.look_up(id).await?;
        self.world.note(&self.name, format_args!("opens {number}"));
        self.world.count(|counts| counts.jobs += 1);
        let model = JobModel {
            id,
            style,
            acknowledged: 0,
            sent: 0,
            cancelled: false,
            is_rerun: false,
            outcomes: Vec::new(),
        };
        let known = self.world.jobs.borrow_mut().insert(number, model);
        ensure!(known.is_none(), "{number} is given twice");
        Ok(number)
    }

    async fn look_up(&self, id: JobId) -> Result<JobNumber> {
        loop {
            let door = self.world.door().await;
            let found = door.look(move |queue| queue.job_by_id(id).map(|job| job.number()));
            match found.await {
                Ok(number) => return number.context("a job that was acknowledged is lost"),
                Err(_) => sleep(ANSWER).await,
            }
        }
    }

    async fn submit_and_close(
        &self,
        number: JobNumber,
        id: JobId,
        style: Style,
        random: &mut ChaCha8Rng,
    ) -> Result<()> {
        let count = random.random_range(1..150);
        let mut next = 0;
        while next < count {
            let end = (next + random.random_range(1..=30)).min(count);
            self.model(number, |model| model.sent = end);
            let command = Command::Submit {
                job: id,
                first_index: next,
                specs: (next..end).map(|index| style.spec(number, index)).collect(),
            };
            if !goes_on(self.request(command, random).await?, style)? {
                return Ok(());
            }
            self.model(number, |model| model.acknowledged = end);
            self.world.count(|counts| counts.tasks += end - next);
            self.world
                .note(&self.name, format_args!("has {number}.{end} accepted"));
            next = end;
            if style.has_keys && random.random_ratio(1, 4) {
                // As by a customer that starts anew: all that is known by its keys.
                let command = Command::Submit {
                    job: id,
                    first_index: random.random_range(0..=next),
                    specs: (0..next).map(|index| style.spec(number, index)).collect(),
                };
                if !goes_on(self.request(command, random).await?, style)? {
                    return Ok(());
                }
            }
            self.world.travel(random).await;
        }
        self.request(Command::CloseJob { job: id }, random)
            .await??;
        Ok(())
    }

    async fn cancel(&self, number: JobNumber, id: JobId) -> Result<()> {
        let mut random = self.world.new_chance();
        self.request(Command::CancelJob { job: id }, &mut random)
            .await??;
        self.model(number, |model| model.cancelled = true);
        self.world
            .note(&self.name, format_args!("has {number} cancelled"));
        self.world.count(|counts| counts.cancels += 1);
        Ok(())
    }

    fn model(&self, number: JobNumber, change: impl FnOnce(&mut JobModel)) {
        if let Some(model) = self.world.jobs.borrow_mut().get_mut(&number) {
            change(model);
        }
    }

    /// Has some of an ended job run once more.
    async fn rerun(&self, number: JobNumber, random: &mut ChaCha8Rng) -> Result<()> {
        let command = Command::Rerun {
            tasks: TaskSelection::Job(number),
            succeeded: random.random_ratio(1, 2),
        };
        self.model(number, |model| model.is_rerun = true);
        // Said again late, it would find the tasks ended and run them yet another time.
        self.ask(command, random, false).await??;
        self.world
            .note(&self.name, format_args!("has {number} run once more"));
        self.world.count(|counts| counts.reruns += 1);
        Ok(())
    }

    /// Asks until it is answered. Requests and answers get lost, and some requests come a second time, late.
    async fn request(
        &self,
        command: Command,
        random: &mut ChaCha8Rng,
    ) -> Result<Result<(), Refusal>> {
        self.ask(command, random, true).await
    }

    async fn ask(
        &self,
        command: Command,
        random: &mut ChaCha8Rng,
        may_come_late: bool,
    ) -> Result<Result<(), Refusal>> {
        loop {
            let door = self.world.door().await;
            self.world.travel(random).await;
            if self.loses(random) {
                sleep(ANSWER).await;
                continue;
            }
            if may_come_late && self.loses(random) {
                self.repeat_later(command.clone());
            }
            let answer = door.command(command.clone()).await;
            let is_lost = self.loses(random);
            match answer {
                Ok(()) if !is_lost => return Ok(Ok(())),
                Err(EngineError::Refused(refusal)) if !is_lost => return Ok(Err(refusal)),
                _ => sleep(Duration::from_millis(random.random_range(100..5000))).await,
            }
        }
    }

    fn loses(&self, random: &mut ChaCha8Rng) -> bool {
        let loses = self.world.strikes(random, LOSES_ONCE_IN);
        if loses {
            self.world.count(|counts| counts.losses += 1);
        }
        loses
    }

    fn repeat_later(&self, command: Command) {
        let (world, mut random) = (self.world.clone(), self.world.new_chance());
        spawn_local(async move {
            sleep(about(&mut random, Duration::from_secs(10))).await;
            // Whatever the answer, nobody waits for it.
            let _ = world.door().await.command(command).await;
        });
    }

    /// Awaits every outcome of a job beyond a sequence number, and gives that of the last.
    async fn watch(
        self,
        number: JobNumber,
        style: Style,
        mut sequence: u64,
        mut random: ChaCha8Rng,
    ) -> Result<u64> {
        if style.presence == Presence::WalksAway {
            self.stay_away(number).await?;
        }
        let mut known_to = None;
        loop {
            let door = self.world.door().await;
            self.world.travel(&mut random).await;
            if style.presence == Presence::Watches {
                known_to = self.be_known(&door, number, known_to).await;
            }
            let Ok(mut changes) = door.subscribe(number).await else {
                sleep(ANSWER).await;
                continue;
            };
            let page = door.look(move |queue| {
                let job = queue.job(number)?;
                let outcomes = job.outcomes_after(sequence).take(PAGE_COUNT);
                Some((outcomes.cloned().collect::<Vec<_>>(), job.is_finished()))
            });
            let Ok(page) = page.await else {
                sleep(ANSWER).await;
                continue;
            };
            let (outcomes, is_finished) = page.context("a job that was acknowledged is lost")?;
            if self.loses(&mut random) {
                continue;
            }
            if outcomes.is_empty() && is_finished {
                self.world
                    .note(&self.name, format_args!("sees the end of {number}"));
                return Ok(sequence);
            }
            if outcomes.is_empty() {
                // Woken, or late, or left alone by a broker that has died.
                let _ = timeout(ANSWER, changes.changed()).await;
                continue;
            }
            for outcome in outcomes {
                sequence += 1;
                verdict::see(&self.world, &self.name, style, sequence, &outcome)?;
                self.model(number, |model| model.outcomes.push(outcome));
            }
        }
    }

    /// Glances at a job until it has ended, without a word that it is watched.
    async fn stay_away(&self, number: JobNumber) -> Result<()> {
        loop {
            let door = self.world.door().await;
            let is_finished = door.look(move |queue| Some(queue.job(number)?.is_finished()));
            if let Ok(is_finished) = is_finished.await
                && is_finished.context("a job that was acknowledged is lost")?
            {
                self.world.count(|counts| counts.walks_away += 1);
                return Ok(());
            }
            sleep(GLANCE).await;
        }
    }

    /// Tells each start of the broker once that the job is watched. Gives the start that knows.
    async fn be_known(&self, door: &Door, number: JobNumber, known_to: Option<u64>) -> Option<u64> {
        let start = door.look(|queue| queue.config().broker_start).await.ok()?;
        if known_to == Some(start) {
            return known_to;
        }
        let watches = Command::Watch {
            job: number,
            begins: true,
        };
        let told = door.command(watches).await;
        told.ok().map(|()| start)
    }
}

/// Whether there is more to submit: a job whose customer was missed is closed.
fn goes_on(answer: Result<(), Refusal>, style: Style) -> Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(Refusal::JobClosed(_)) if style.may_be_missed() => Ok(false),
        Err(refusal) => Err(refusal.into()),
    }
}
