//! Random histories of customers, workers, time and restarts; after each step everything is counted anew.

use super::*;
use crate::Outcome;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

#[derive(Debug, Clone)]
enum Step {
    Create {
        job: u8,
    },
    Submit {
        job: u8,
        count: u8,
        kind: bool,
        limited: bool,
        input: u8,
    },
    Close {
        job: u8,
    },
    Cancel {
        job: u8,
    },
    Hold {
        job: u8,
        blob: u8,
    },
    Release {
        job: u8,
        blob: u8,
    },
    Join {
        worker: u8,
        slots: u8,
        claim: u8,
    },
    Heartbeat {
        worker: u8,
    },
    Disconnect {
        worker: u8,
    },
    Drain {
        worker: u8,
    },
    Report {
        pick: u16,
        result: u8,
    },
    HandBack {
        pick: u16,
    },
    Dispatch,
    Pass {
        ms: u32,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let (job, worker) = (0..4u8, 0..4u8);
    prop_oneof![
        2 => job.clone().prop_map(|job| Step::Create { job }),
        6 => (job.clone(), 1..6u8, any::<bool>(), any::<bool>(), 0..4u8).prop_map(
            |(job, count, kind, limited, input)| Step::Submit { job, count, kind, limited, input }),
        1 => job.clone().prop_map(|job| Step::Close { job }),
        1 => job.clone().prop_map(|job| Step::Cancel { job }),
        1 => (job.clone(), 0..6u8).prop_map(|(job, blob)| Step::Hold { job, blob }),
        1 => (job, 0..6u8).prop_map(|(job, blob)| Step::Release { job, blob }),
        4 => (worker.clone(), 1..4u8, any::<u8>())
            .prop_map(|(worker, slots, claim)| Step::Join { worker, slots, claim }),
        4 => worker.clone().prop_map(|worker| Step::Heartbeat { worker }),
        2 => worker.clone().prop_map(|worker| Step::Disconnect { worker }),
        1 => worker.prop_map(|worker| Step::Drain { worker }),
        12 => (any::<u16>(), 0..8u8).prop_map(|(pick, result)| Step::Report { pick, result }),
        2 => any::<u16>().prop_map(|pick| Step::HandBack { pick }),
        10 => Just(Step::Dispatch),
        4 => (0..40_000u32).prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Restart),
    ]
}

/// A scene, and what must never change in it.
struct History {
    scene: Scene,
    begun: Vec<(TaskId, AttemptId, WorkerId)>,
    attempts: HashSet<AttemptId>,
    submitted: HashMap<JobNumber, u64>,
    outcomes: HashMap<TaskId, Outcome>,
    cancelled: HashSet<JobNumber>,
}

impl History {
    fn new() -> Self {
        Self {
            scene: Scene::new(),
            begun: Vec::new(),
            attempts: HashSet::new(),
            submitted: HashMap::new(),
            outcomes: HashMap::new(),
            cancelled: HashSet::new(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Create { job } => {
                let owner = if job % 2 == 0 { "ann" } else { "bob" };
                let id = JobId([job; 16]);
                self.tell(Command::CreateJob {
                    id,
                    owner: owner.into(),
                    name: "".into(),
                    priority: i32::from(job),
                    created_unix_ms: self.scene.now.unix_ms,
                });
            }
            Step::Submit {
                job,
                count,
                kind: rare,
                limited,
                input,
            } => {
                let id = JobId([job; 16]);
                let first_index = self.scene.queue.job_by_id(id).map_or(0, Job::task_count);
                let spec = Arc::new(TaskSpec {
                    kind: kind(if rare { "b" } else { "a" }),
                    inputs: vec![Input {
                        blob: blob(input),
                        ranges: Vec::new(),
                    }],
                    time_limit_ms: if limited { 20_000 } else { 0 },
                    ..spec()
                });
                self.tell(Command::Submit {
                    job: id,
                    first_index: first_index.saturating_sub(1),
                    specs: vec![spec; count.into()],
                });
            }
            Step::Close { job } => self.tell(Command::CloseJob {
                job: JobId([job; 16]),
            }),
            Step::Cancel { job } => {
                let id = JobId([job; 16]);
                self.tell(Command::CancelJob { job: id });
                let job = self.scene.queue.job_by_id(id);
                self.cancelled.extend(job.map(Job::number));
            }
            Step::Hold { job, blob: n } => {
                self.tell(Command::HoldBlob {
                    job: JobId([job; 16]),
                    blob: blob(n),
                });
            }
            Step::Release { job, blob } => self.tell(Command::ReleaseBlobs {
                job: JobId([job; 16]),
                digests: vec![digest(blob)],
            }),
            Step::Join {
                worker: n,
                slots,
                claim,
            } => {
                let own = self.begun.iter().rev().filter(|(.., by)| *by == worker(n));
                let held = (0..8).zip(own).filter(|(bit, _)| claim >> bit & 1 == 1);
                let held = held.map(|(_, (task, attempt, _))| HeldAttempt {
                    task: *task,
                    attempt: *attempt,
                });
                let mut hello = hello(n, slots.into());
                hello.held = held.collect();
                if n == 3 {
                    hello.kinds.push(kind("b"));
                }
                self.tell(Command::Join { hello });
            }
            Step::Heartbeat { worker: n } => self.tell(Command::Heartbeat { worker: worker(n) }),
            Step::Disconnect { worker: n } => self.tell(Command::Disconnect { worker: worker(n) }),
            Step::Drain { worker: n } => self.tell(Command::Drain { worker: worker(n) }),
            Step::Report { pick, result } => {
                let Some((task, attempt, worker)) = self.pick(pick) else {
                    return;
                };
                let result = match result {
                    0 => TaskResult::Stopped,
                    1 => failure(FailureClass::KernelError),
                    2 => failure(FailureClass::BadInput),
                    3 => failure(FailureClass::KilledWorkers),
                    n => success(n),
                };
                self.tell(Command::Report {
                    worker,
                    task,
                    attempt,
                    result,
                    run_ms: 1,
                });
            }
            Step::HandBack { pick } => {
                let Some((task, attempt, worker)) = self.pick(pick) else {
                    return;
                };
                self.tell(Command::HandBack {
                    worker,
                    attempts: vec![HeldAttempt { task, attempt }],
                });
            }
            Step::Dispatch => while self.tell_some(Command::Dispatch) {},
            Step::Pass { ms } => {
                self.scene.now.at = self.scene.now.at.after_ms(ms.into());
                self.scene.now.unix_ms += u64::from(ms) * 1000;
                while self.tell_some(Command::Tick) {}
                let next = self.scene.queue.next_deadline();
                assert!(
                    next.is_none_or(|next| next > self.scene.now.at),
                    "it would spin"
                );
            }
            Step::Restart => {
                let before = self.ends();
                self.scene.restart();
                assert_eq!(before, self.ends(), "a restart remembers every end");
            }
        }
        self.verify();
    }

    /// Mostly a recent one.
    fn pick(&self, n: u16) -> Option<(TaskId, AttemptId, WorkerId)> {
        let back = usize::from(n % 16) % self.begun.len().max(1);
        self.begun.iter().rev().nth(back).copied()
    }

    fn ends(&self) -> Vec<Vec<Outcome>> {
        let jobs = self.scene.queue.jobs();
        jobs.map(|job| {
            job.outcomes_after(0)
                .map(|outcome| Outcome::clone(outcome))
                .collect()
        })
        .collect()
    }

    fn tell(&mut self, command: Command) {
        self.tell_some(command);
    }

    /// Whether anything came of it. Refusals are fine: histories are full of nonsense.
    fn tell_some(&mut self, command: Command) -> bool {
        let events = self.scene.ask(command).unwrap_or_default();
        for event in &events {
            match event {
                Event::AttemptStarted {
                    task,
                    attempt,
                    worker,
                    ..
                } => {
                    assert!(self.attempts.insert(*attempt), "{attempt} is used twice");
                    assert!(
                        !self.cancelled.contains(&task.job),
                        "{task} runs after its end"
                    );
                    assert!(
                        !self.outcomes.contains_key(task),
                        "{task} runs after its end"
                    );
                    self.begun.push((*task, *attempt, *worker));
                }
                Event::TasksSubmitted { job, specs, .. } => {
                    *self.submitted.entry(*job).or_default() += specs.len() as u64;
                }
                Event::JobForgotten { job } => {
                    self.submitted.remove(job);
                    self.outcomes.retain(|task, _| task.job != *job);
                }
                _ => {}
            }
        }
        !events.is_empty()
    }

    fn verify(&mut self) {
        for (number, count) in &self.submitted {
            let job = self.scene.queue.job(*number).expect("no job is lost");
            assert_eq!(job.task_count(), *count, "no acknowledged task is lost");
        }
        for job in self.scene.queue.jobs() {
            for outcome in job.outcomes_after(0) {
                let first = self
                    .outcomes
                    .entry(outcome.task)
                    .or_insert_with(|| Outcome::clone(outcome));
                assert_eq!(first, &**outcome, "an outcome changed");
            }
        }
        for digest in self.scene.queue.take_unheld() {
            assert!(!self.scene.queue.is_held(&digest));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_whatever_happens(steps in prop::collection::vec(step(), 1..200)) {
        let mut history = History::new();
        for step in steps {
            history.take(step);
        }
    }
}
