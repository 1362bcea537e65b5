//! A customer: job after job, every request repeated until it is acknowledged, every outcome awaited in sequence.

use super::{
    verdict,
    worker::kind,
    world::{CUSTOMER_STREAM, JobModel, World, about},
};
use anyhow::{Context as _, Result, ensure};
use dewar_broker::EngineError;
use dewar_queue::{Command, JobId, JobNumber, JobTerms, Payload, Refusal, Resources, TaskSpec};
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
        let number = self.create(id, &mut random).await?;
        let watching = spawn_local(self.clone().watch(number, self.world.new_chance()));
        let is_cancelled = random.random_ratio(1, 4);
        let patience = about(&mut random, Duration::from_secs(40));
        let submitting = self.submit_and_close(number, id, &mut random);
        if is_cancelled {
            // Dropped in the middle of whatever it does.
            if let Ok(submitted) = timeout(patience, submitting).await {
                submitted?;
            }
            self.cancel(number, id).await?;
        } else {
            submitting.await?;
        }
        watching.await?
    }

    async fn create(&self, id: JobId, random: &mut ChaCha8Rng) -> Result<JobNumber> {
        self.request(
            Command::CreateJob {
                id,
                owner: self.name.clone(),
                name: "".into(),
                priority: random.random_range(-2..=2),
                terms: JobTerms::default(),
            },
            random,
        )
        .await??;
        let number = self.look_up(id).await?;
        self.world.note(&self.name, format_args!("opens {number}"));
        self.world.count(|counts| counts.jobs += 1);
        let model = JobModel {
            id,
            acknowledged: 0,
            sent: 0,
            cancelled: false,
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
                specs: (next..end).map(|index| spec(number, index)).collect(),
            };
            self.request(command, random).await??;
            self.model(number, |model| model.acknowledged = end);
            self.world.count(|counts| counts.tasks += end - next);
            self.world
                .note(&self.name, format_args!("has {number}.{end} accepted"));
            next = end;
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

    /// Asks until it is answered. Requests and answers get lost, and some requests come a second time, late.
    async fn request(
        &self,
        command: Command,
        random: &mut ChaCha8Rng,
    ) -> Result<Result<(), Refusal>> {
        loop {
            let door = self.world.door().await;
            self.world.travel(random).await;
            if self.loses(random) {
                sleep(ANSWER).await;
                continue;
            }
            if self.loses(random) {
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

    /// Awaits every outcome of a job.
    async fn watch(self, number: JobNumber, mut random: ChaCha8Rng) -> Result<()> {
        let mut sequence = 0;
        loop {
            let door = self.world.door().await;
            self.world.travel(&mut random).await;
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
                return Ok(());
            }
            if outcomes.is_empty() {
                // Woken, or late, or left alone by a broker that has died.
                let _ = timeout(ANSWER, changes.changed()).await;
                continue;
            }
            for outcome in outcomes {
                sequence += 1;
                verdict::see(&self.world, &self.name, sequence, &outcome)?;
                self.model(number, |model| model.outcomes.push(outcome));
            }
        }
    }
}

fn spec(job: JobNumber, index: u64) -> Arc<TaskSpec> {
    let parameters = Payload::Inline(parameters(job, index).into());
    let plan = plan(index);
    Arc::new(TaskSpec {
        attempts_max: if plan.always_fails { 3 } else { 1000 },
        after: plan.after.into_iter().collect(),
        resources: Resources {
            slot_count: 1 + u32::from(index % 13 == 2),
            ..Resources::default()
        },
        ..TaskSpec::new(kind(), parameters)
    })
}

/// Distinct for every task.
pub(super) fn parameters(job: JobNumber, index: u64) -> Vec<u8> {
    [job.0.to_le_bytes(), index.to_le_bytes()].concat()
}
