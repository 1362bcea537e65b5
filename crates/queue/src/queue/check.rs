//! What holds between any two events, counted anew from the tasks themselves.

use super::{Queue, decide::PASSED_OVER_COUNT_MAX, makers::Makers};
use crate::{
    Digest, Job, OutcomeResult, TaskCounts, TaskId, holds, job::Phase, ready::Need, turns::Turn,
};
use std::collections::{HashMap, HashSet};

/// An invariant that does not hold: a bug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant broken: {0}")]
pub struct Broken(String);

/// Fails the check with a sentence unless the condition holds.
macro_rules! hold {
    ($condition:expr, $($sentence:tt)+) => {
        if !$condition {
            return Err(Broken(format!($($sentence)+)));
        }
    };
}

impl Queue {
    /// Verifies every invariant, at the cost of looking at everything. For tests.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        let mut counts = TaskCounts::default();
        let mut uses: HashMap<Digest, u32> = HashMap::new();
        let (mut ready_count, mut suspect_count, mut paused_count) = (0, 0, 0);
        let mut live_count = 0;
        let mut demanded: HashMap<Need, u64> = HashMap::new();
        for job in self.jobs.values() {
            self.check_outcomes(job)?;
            let mut job_counts = TaskCounts::default();
            for (index, task) in (0..).zip(&job.tasks) {
                let id = TaskId {
                    job: job.number,
                    index,
                };
                let turn = Turn::new(job.priority, id);
                *job_counts.of_state(task.state()) += 1;
                hold!(
                    task.passed_over_count <= PASSED_OVER_COUNT_MAX,
                    "{id} was passed over {} times",
                    task.passed_over_count
                );
                *counts.of_state(task.state()) += 1;
                match &task.phase {
                    Phase::Blocked => hold!(
                        task.waits_for().next().is_some(),
                        "{id} is blocked by nothing"
                    ),
                    Phase::Waiting { alone: false } => {
                        ready_count += 1;
                        let listed = self.ready.contains(&task.lane(), &job.owner, turn);
                        hold!(listed, "{id} waits but is not listed");
                    }
                    Phase::Waiting { alone: true } => {
                        suspect_count += 1;
                        hold!(
                            self.ready.contains_alone(&task.need(), turn),
                            "{id} is not listed as suspect"
                        );
                    }
                    Phase::Paused { until } => {
                        paused_count += 1;
                        hold!(
                            self.paused.contains(&(*until, id)),
                            "{id} is not listed as paused"
                        );
                    }
                    Phase::Running { live } => {
                        live_count += live.len();
                        hold!(!live.is_empty(), "{id} runs nowhere");
                        for (attempt, worker) in live {
                            let held = self.worker(*worker).and_then(|w| w.book.get(*attempt));
                            hold!(
                                held.is_some_and(|held| held.task == id),
                                "{id} is live as {attempt}, but its worker does not hold that"
                            );
                        }
                    }
                    Phase::Ended { .. } => {}
                }
                if task.outcome().is_none() {
                    *demanded.entry(task.need()).or_default() += 1;
                    for digest in holds::read_by(&task.spec, &task.parameters) {
                        *uses.entry(digest).or_default() += 1;
                    }
                    let fed = task.needed.iter().flat_map(|needed| &needed.inputs);
                    for digest in fed.filter_map(|(_, source)| holds::digest_of(source)) {
                        *uses.entry(digest).or_default() += 1;
                    }
                }
            }
            hold!(
                job_counts == job.counts,
                "the counts of {} are wrong",
                job.number
            );
            hold!(
                !job.cancelled || job.counts.waiting + job.counts.running == 0,
                "{} is cancelled but goes on",
                job.number
            );
            hold!(
                job.due_at_unix_ms(&self.config) == job.listed_due_at_unix_ms
                    && job
                        .listed_due_at_unix_ms
                        .is_none_or(|at| self.idle.contains(&(at, job.number))),
                "{} is filed wrongly as idle or not",
                job.number
            );
            let uploads = job.uploads.iter().map(|digest| (digest, &1));
            for (digest, count) in uploads.chain(&job.outputs) {
                *uses.entry(*digest).or_default() += count;
            }
            hold!(
                job.absence_deadline() == job.listed_absence
                    && job
                        .listed_absence
                        .is_none_or(|at| self.absences.contains(&(at, job.number))),
                "the customer of {} is missed wrongly",
                job.number
            );
            hold!(
                job.is_near_end() == self.near_end.contains(&job.number),
                "{} is filed wrongly as near its end or not",
                job.number
            );
            let needs: u64 = job.needs.iter().map(|(_, count)| count).sum();
            let listed = job.tasks.iter().filter(|task| task.phase.is_listed());
            hold!(
                needs == listed.count() as u64,
                "the needs of {} are miscounted",
                job.number
            );
            hold!(
                self.by_id.get(&job.id) == Some(&job.number),
                "{} is lost by id",
                job.number
            );
        }
        hold!(
            self.by_id.len() == self.jobs.len(),
            "there are ids without jobs"
        );
        hold!(counts == self.counts, "the counts of all jobs are wrong");
        hold!(&uses == self.holds.uses(), "blob holds are miscounted");
        hold!(
            &demanded == self.ready.demanded(),
            "what unfinished tasks demand is miscounted"
        );
        hold!(
            ready_count == self.ready.listed_count(),
            "tasks are listed that do not wait"
        );
        hold!(
            suspect_count == self.ready.alone_count(),
            "tasks are suspect that do not wait"
        );
        hold!(
            paused_count == self.paused.len(),
            "tasks are paused that do not wait"
        );
        if let Some(disorder) = self.ready.disorder() {
            return Err(Broken(disorder));
        }
        if let Some(disorder) = self.holdings.disorder(|id| self.workers.contains_key(&id)) {
            return Err(Broken(disorder.into()));
        }
        hold!(
            self.awaited
                .iter()
                .all(|(_, worker)| self.missing.contains_key(worker)),
            "tasks wait for a worker that is not missing"
        );
        let mut makers = Makers::default();
        let able = self.workers.values().filter(|worker| worker.listed.able);
        able.for_each(|worker| makers.add(&worker.hello));
        hold!(makers == self.makers, "what workers make is miscounted");
        self.check_owners()?;
        self.check_workers(live_count)
    }

    fn check_owners(&self) -> Result<(), Broken> {
        let mut open: HashMap<&std::sync::Arc<str>, u64> = HashMap::new();
        let mut unfinished: HashMap<&std::sync::Arc<str>, (u64, u64)> = HashMap::new();
        for job in self.jobs.values() {
            *open.entry(&job.owner).or_default() += u64::from(!job.is_finished());
            let sums = unfinished.entry(&job.owner).or_default();
            for task in job.tasks.iter().filter(|task| task.outcome().is_none()) {
                sums.0 += 1;
                sums.1 += task.kept_bytes();
            }
        }
        for (owner, count) in open {
            hold!(
                count == self.ready.shares.open_job_count(owner),
                "the open jobs of {owner} are miscounted"
            );
        }
        for (owner, sums) in unfinished {
            hold!(
                sums == self.ready.shares.unfinished(owner),
                "what {owner} has in the queue is miscounted"
            );
        }
        Ok(())
    }

    fn check_outcomes(&self, job: &Job) -> Result<(), Broken> {
        let number = job.number;
        let mut distinct = HashSet::new();
        for (sequence, outcome) in (1..).zip(&job.outcomes) {
            hold!(
                outcome.sequence == sequence && outcome.task.job == number,
                "outcome {sequence} of {number} is not where it should be"
            );
            hold!(
                distinct.insert((outcome.task.index, outcome.generation)),
                "{} has two outcomes in one generation",
                outcome.task
            );
        }
        for (index, task) in (0..).zip(&job.tasks) {
            let current = (index, task.generation);
            hold!(
                task.outcome().is_some() == distinct.contains(&current),
                "{number}.{index} has no outcome where it has one, or the other way round"
            );
            let generations = u64::from(task.generation) + u64::from(task.outcome().is_some());
            let outcomes = distinct.iter().filter(|(other, _)| *other == index);
            hold!(
                outcomes.count() as u64 == generations,
                "{number}.{index} lost an outcome"
            );
        }
        let given = job.outcomes.iter();
        let mut given = given.filter_map(|outcome| match &outcome.result {
            OutcomeResult::Succeeded(output) => Some(output),
            OutcomeResult::Failed(_) | OutcomeResult::Cancelled => None,
        });
        let given_digests: HashSet<Digest> = given.by_ref().flat_map(holds::given_by).collect();
        hold!(
            job.outputs
                .keys()
                .all(|digest| given_digests.contains(digest)),
            "{number} holds an output that no task gave"
        );
        Ok(())
    }

    fn check_workers(&self, live_count: usize) -> Result<(), Broken> {
        let (mut held_count, mut clock_count, mut queueing_count) = (0, 0, 0);
        for (id, worker) in &self.workers {
            held_count += worker.book.len();
            hold!(worker.book.adds_up(), "a worker's book does not add up");
            hold!(
                worker.listed == worker.listing(&self.config),
                "a worker is listed wrongly"
            );
            if let Some(deadline) = worker.listed.deadline {
                hold!(
                    self.leases.contains(&(deadline, *id)),
                    "a lease is not listed"
                );
            }
            if let Some(count) = worker.listed.queued_count {
                queueing_count += 1;
                hold!(
                    self.queueing.contains(&(count, *id)),
                    "a queueing worker is not listed"
                );
            }
            for need in self.ready.needs() {
                let listed = self.ready.standing(need, *id);
                hold!(
                    listed == worker.standing_under(need),
                    "a worker is listed wrongly under {}",
                    need.kind.name
                );
            }
            for (attempt, held) in worker.book.iter() {
                let live = self
                    .task(held.task)
                    .is_some_and(|task| task.live().contains(&(attempt, *id)));
                hold!(live, "a worker holds {attempt}, which is over");
                let limited = self
                    .task(held.task)
                    .is_some_and(|task| task.spec.time_limit_ms > 0);
                hold!(
                    !worker.is_running(attempt)
                        || (held.running_since.is_some() && held.deadline.is_some() == limited),
                    "{attempt} runs without its clock"
                );
                if let Some(deadline) = held.deadline {
                    clock_count += 1;
                    let listed = self.time_limits.contains(&(deadline, *id, attempt));
                    hold!(listed, "the clock of {attempt} is not listed");
                }
            }
        }
        hold!(
            held_count == live_count,
            "workers hold {held_count} tries, but {live_count} live"
        );
        hold!(
            clock_count == self.time_limits.len(),
            "there are clocks without tries"
        );
        hold!(
            self.leases.len() == self.workers.len(),
            "there are leases without workers"
        );
        hold!(
            queueing_count == self.queueing.len(),
            "workers queue that do not"
        );
        Ok(())
    }
}
