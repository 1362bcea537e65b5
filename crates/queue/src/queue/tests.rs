//! Tables of given, when, then; and random histories in `tests/histories.rs`.

mod dependencies;
mod fairness;
mod histories;
mod limits;
mod locality;
mod reruns;
mod reuse;
mod second_copies;
mod trust;

use super::*;
use crate::{
    AttemptEnd, BlobRef, Failure, FailureClass, Input, InputSource, JobTerms, Kind, Output,
    Payload, TaskResult, TaskSpec, TaskState, WorkerHello,
};
use std::sync::Arc;

const JOB: JobId = JobId([7; 16]);
const NUMBER: JobNumber = JobNumber(1);

fn task(index: u64) -> TaskId {
    TaskId { job: NUMBER, index }
}

fn worker(n: u8) -> WorkerId {
    WorkerId([n; 16])
}

fn kind(name: &str) -> Kind {
    Kind {
        name: name.into(),
        version: 1,
    }
}

fn digest(n: u8) -> Digest {
    Digest([n; 32])
}

fn blob(n: u8) -> BlobRef {
    BlobRef {
        digest: digest(n),
        size_bytes: 1,
    }
}

fn spec() -> TaskSpec {
    TaskSpec::new(kind("a"), Payload::Inline(Arc::from([])))
}

/// Waits for other tasks.
fn after(indices: &[u64]) -> TaskSpec {
    TaskSpec {
        after: indices.to_vec(),
        ..spec()
    }
}

fn reading_blob(n: u8) -> TaskSpec {
    TaskSpec {
        inputs: vec![Input {
            source: InputSource::Blob(blob(n)),
            ranges: Vec::new(),
        }],
        ..spec()
    }
}

fn hello(n: u8, slot_count: u32) -> WorkerHello {
    WorkerHello {
        id: worker(n),
        name: format!("w{n}").into(),
        slot_count,
        memory_bytes: 0,
        kinds: vec![kind("a")],
        kernels: Vec::new(),
        instruction_class: "x86-64-v3".into(),
        held: Vec::new(),
    }
}

fn success(n: u8) -> TaskResult {
    TaskResult::Succeeded(Output {
        message: Payload::Inline(Arc::from([n])),
        blobs: vec![blob(n)],
    })
}

fn failure(class: FailureClass) -> TaskResult {
    TaskResult::Failed(Failure {
        class,
        message: "no".into(),
    })
}

/// A queue, its clock, and all it ever wrote.
struct Scene {
    queue: Queue,
    now: Now,
    written: Vec<Event>,
}

impl Scene {
    fn new() -> Self {
        Self {
            queue: Queue::new(Config::new(1)),
            now: Now::default(),
            written: Vec::new(),
        }
    }

    /// With one job, of these tasks.
    fn with(specs: Vec<TaskSpec>) -> Self {
        let mut scene = Self::new();
        scene.create(JOB, "ann", 0);
        scene.submit(JOB, specs);
        scene
    }

    fn create(&mut self, id: JobId, owner: &str, priority: i32) {
        self.tell(Command::CreateJob {
            id,
            owner: owner.into(),
            name: "job".into(),
            priority,
            terms: JobTerms::default(),
        });
    }

    fn submit(&mut self, job: JobId, specs: Vec<TaskSpec>) {
        let first_index = self.queue.job_by_id(job).unwrap().task_count();
        self.tell(Command::Submit {
            job,
            first_index,
            specs: specs.into_iter().map(Arc::new).collect(),
        });
    }

    fn join(&mut self, hello: WorkerHello) -> Vec<Event> {
        self.tell(Command::Join { hello })
    }

    fn ask(&mut self, command: Command) -> Result<Vec<Event>, Refusal> {
        let events = self.queue.decide(command, self.now)?;
        for event in &events {
            self.queue.apply(event);
        }
        self.written
            .extend(events.iter().filter(|event| event.is_durable()).cloned());
        self.queue.check().unwrap();
        Ok(events)
    }

    fn tell(&mut self, command: Command) -> Vec<Event> {
        self.ask(command).unwrap()
    }

    /// Gives out all it can: which task, as which attempt, to whom.
    fn dispatch(&mut self) -> Vec<(TaskId, AttemptId, WorkerId)> {
        let mut started = Vec::new();
        loop {
            let events = self.tell(Command::Dispatch);
            if events.is_empty() {
                return started;
            }
            for event in events {
                if let Event::AttemptStarted {
                    task,
                    attempt,
                    worker,
                    ..
                } = event
                {
                    started.push((task, attempt, worker));
                }
            }
        }
    }

    fn pass(&mut self, ms: u64) -> Vec<Event> {
        self.now.at = self.now.at.after_ms(ms);
        self.now.unix_ms += ms;
        let mut all = Vec::new();
        loop {
            let events = self.tell(Command::Tick);
            if events.is_empty() {
                return all;
            }
            all.extend(events);
        }
    }

    fn report(
        &mut self,
        (task, attempt, worker): (TaskId, AttemptId, WorkerId),
        result: TaskResult,
    ) -> Vec<Event> {
        self.tell(Command::Report {
            worker,
            task,
            attempt,
            result,
            run_ms: 5,
        })
    }

    /// The broker dies, and remembers what it wrote.
    fn restart(&mut self) {
        self.restart_expecting(Vec::new());
    }

    /// And who attended.
    fn restart_expecting(&mut self, expected_workers: Vec<crate::Expected>) {
        let config = Config {
            expected_workers,
            ..Config::new(self.queue.config.broker_start + 1)
        };
        self.queue = Queue::new(config);
        self.now.at = Timestamp::default();
        for event in &self.written {
            self.queue.apply(event);
        }
        self.queue.check().unwrap();
    }

    fn state(&self, index: u64) -> TaskState {
        self.queue.task(task(index)).unwrap().state()
    }

    fn failure_class(&self, index: u64) -> Option<FailureClass> {
        self.queue
            .task(task(index))
            .unwrap()
            .failure()
            .map(|failure| failure.class)
    }
}

fn ended(events: &[Event]) -> Vec<(u64, u64)> {
    let outcomes = events.iter().filter_map(|event| match event {
        Event::TaskEnded { outcome, .. } => Some((outcome.task.index, outcome.sequence)),
        _ => None,
    });
    outcomes.collect()
}

fn stopped(events: &[Event]) -> Vec<AttemptId> {
    let stops = events.iter().filter_map(|event| match event {
        Event::AttemptEnded {
            attempt,
            end: AttemptEnd::Stopped | AttemptEnd::OutOfTime,
            ..
        } => Some(*attempt),
        _ => None,
    });
    stops.collect()
}

#[test]
fn a_task_ends_once_however_often_it_is_reported() {
    let mut scene = Scene::with(vec![spec(), spec()]);
    scene.join(hello(1, 2));
    let tries = scene.dispatch();
    assert_eq!(ended(&scene.report(tries[1], success(1))), [(1, 1)]);
    assert_eq!(scene.report(tries[1], success(1)), []);
    assert_eq!(scene.report(tries[1], failure(FailureClass::BadInput)), []);
    assert_eq!(ended(&scene.report(tries[0], success(1))), [(0, 2)]);
    let job = scene.queue.job(NUMBER).unwrap();
    let order: Vec<_> = job.outcomes_after(0).map(|o| o.task.index).collect();
    assert_eq!(order, [1, 0]);
    assert_eq!(job.outcomes_after(1).count(), 1);
    assert_eq!(job.outcomes_after(u64::MAX).count(), 0);
}

#[test]
fn submits_may_be_repeated_but_leave_no_gap() {
    let mut scene = Scene::with(vec![spec(), spec()]);
    let submit = |first_index, count| Command::Submit {
        job: JOB,
        first_index,
        specs: std::iter::repeat_with(|| Arc::new(spec()))
            .take(count)
            .collect(),
    };
    assert_eq!(scene.tell(submit(0, 2)), []);
    scene.tell(submit(1, 2));
    assert_eq!(scene.queue.job(NUMBER).unwrap().task_count(), 3);
    let gap = scene.ask(submit(4, 1)).unwrap_err();
    assert_eq!(
        gap.to_string(),
        "j1 has 3 tasks, so the next index is 3, not 4"
    );
    scene.tell(Command::CloseJob { job: JOB });
    assert_eq!(scene.tell(submit(0, 3)), [], "a repeated submit is fine");
    assert_eq!(
        scene.ask(submit(3, 1)),
        Err(Refusal::JobClosed("j1".into()))
    );
    scene.queue.config.waiting_count_max = 3;
    scene.create(JobId([8; 16]), "ann", 0);
    let full = Command::Submit {
        job: JobId([8; 16]),
        first_index: 0,
        specs: vec![Arc::new(spec())],
    };
    assert!(matches!(scene.ask(full), Err(Refusal::QueueFull { .. })));
}

#[test]
fn absurd_requests_are_refused() {
    let mut scene = Scene::new();
    for (slot_count, kinds) in [(0, 1), (SLOTS_TOO_MANY, 1), (1, 0), (1, 65)] {
        let mut hello = hello(1, slot_count);
        hello.kinds = vec![kind("a"); kinds];
        assert_eq!(
            scene.ask(Command::Join { hello }),
            Err(Refusal::AbsurdWorker)
        );
    }
    let worker = worker(9);
    for command in [
        Command::Heartbeat { worker },
        Command::Drain { worker },
        Command::Disconnect { worker },
    ] {
        assert_eq!(scene.ask(command), Err(Refusal::UnknownWorker));
    }
    assert_eq!(
        scene.ask(Command::CloseJob { job: JOB }),
        Err(Refusal::UnknownJob)
    );
    scene.create(JOB, "ann", 0);
    let taken = Command::CreateJob {
        id: JOB,
        owner: "bob".into(),
        name: "".into(),
        priority: 0,
        terms: JobTerms::default(),
    };
    assert_eq!(scene.ask(taken), Err(Refusal::OtherOwner("ann".into())));
}

const SLOTS_TOO_MANY: u32 = crate::SLOT_COUNT_MAX + 1;

#[test]
fn failures_are_retried_with_growing_pauses_until_there_are_enough() {
    let mut scene = Scene::with(vec![spec()]);
    scene.join(hello(1, 1));
    for pause_ms in [500, 1000] {
        let tried = scene.dispatch()[0];
        scene.report(tried, failure(FailureClass::KernelError));
        assert_eq!(scene.dispatch(), []);
        scene.pass(pause_ms - 1);
        assert_eq!(scene.dispatch(), []);
        scene.pass(1);
    }
    let tried = scene.dispatch()[0];
    let events = scene.report(tried, failure(FailureClass::KernelError));
    assert_eq!(ended(&events), [(0, 1)]);
    assert_eq!(scene.failure_class(0), Some(FailureClass::KernelError));
}

#[test]
fn bad_input_is_never_tried_again() {
    let mut scene = Scene::with(vec![spec()]);
    scene.join(hello(1, 1));
    let tried = scene.dispatch()[0];
    scene.report(tried, failure(FailureClass::BadInput));
    assert_eq!(scene.state(0), TaskState::Failed);
}

#[test]
fn failed_tries_count_across_a_restart() {
    let mut scene = Scene::with(vec![spec()]);
    for _ in 0..3 {
        scene.restart();
        scene.join(hello(1, 1));
        let tried = scene.dispatch()[0];
        scene.report(tried, failure(FailureClass::KernelError));
    }
    assert_eq!(scene.state(0), TaskState::Failed);
}

#[test]
fn a_silent_worker_is_lost_and_its_tasks_go_elsewhere() {
    let mut scene = Scene::with(vec![spec(), spec()]);
    scene.join(hello(1, 2));
    assert_eq!(scene.dispatch().len(), 2);
    scene.pass(29_999);
    assert_eq!(scene.queue.workers().count(), 1);
    assert_eq!(
        scene.queue.next_deadline(),
        Some(Timestamp(30_000)),
        "the shell must know when to look again"
    );
    scene.pass(1);
    assert_eq!(scene.queue.workers().count(), 0);
    assert_eq!(scene.failure_class(0), Some(FailureClass::WorkerLost));
    scene.join(hello(2, 2));
    assert_eq!(scene.dispatch().len(), 2);
}

#[test]
fn heartbeats_keep_a_worker() {
    let mut scene = Scene::new();
    scene.join(hello(1, 1));
    for _ in 0..10 {
        scene.pass(20_000);
        scene.tell(Command::Heartbeat { worker: worker(1) });
    }
    assert_eq!(scene.queue.workers().count(), 1);
}

#[test]
fn a_closed_connection_costs_the_worker_after_five_seconds_unless_it_returns() {
    let mut scene = Scene::with(vec![spec()]);
    scene.join(hello(1, 1));
    let (task, attempt, id) = scene.dispatch()[0];
    scene.tell(Command::Disconnect { worker: id });
    scene.pass(4_999);
    let mut again = hello(1, 1);
    again.held = vec![HeldAttempt { task, attempt }];
    scene.join(again);
    scene.pass(10_000);
    assert_eq!(scene.state(0), TaskState::Running);
    scene.tell(Command::Disconnect { worker: id });
    scene.pass(5_000);
    assert_eq!(scene.queue.workers().count(), 0);
    assert_eq!(scene.state(0), TaskState::Waiting);
}

#[test]
fn what_never_arrived_goes_back_without_blame() {
    let mut scene = Scene::with(vec![spec()]);
    scene.join(hello(1, 1));
    scene.dispatch();
    scene.join(hello(1, 1));
    assert_eq!(scene.state(0), TaskState::Waiting);
    assert_eq!(scene.failure_class(0), None);
}

#[test]
fn a_worker_goes_on_after_the_broker_restarts() {
    let mut scene = Scene::with(vec![spec()]);
    scene.join(hello(1, 1));
    let (task, attempt, id) = scene.dispatch()[0];
    scene.restart();
    let mut again = hello(1, 1);
    again.held = vec![HeldAttempt { task, attempt }];
    scene.join(again);
    assert_eq!(scene.state(0), TaskState::Running);
    let events = scene.report((task, attempt, id), success(1));
    assert_eq!(ended(&events), [(0, 1)]);
}

#[test]
fn a_worker_that_returns_late_races_the_second_try_and_the_first_answer_wins() {
    let mut scene = Scene::with(vec![spec()]);
    scene.join(hello(1, 1));
    let first = scene.dispatch()[0];
    scene.restart();
    scene.join(hello(2, 1));
    let second = scene.dispatch()[0];
    assert_ne!(first.1, second.1);
    let mut again = hello(1, 1);
    again.held = vec![HeldAttempt {
        task: first.0,
        attempt: first.1,
    }];
    scene.join(again);
    let events = scene.report(first, success(1));
    assert_eq!(stopped(&events), [second.1]);
    assert_eq!(scene.report(second, success(2)), []);
}

#[test]
fn an_answered_or_unheard_of_try_is_stopped_at_hello() {
    let mut scene = Scene::with(vec![spec()]);
    scene.join(hello(1, 1));
    let first = scene.dispatch()[0];
    scene.report(first, success(1));
    let never = AttemptId {
        broker_start: 1,
        n: 99,
    };
    let mut again = hello(1, 1);
    again.held = [first.1, never]
        .map(|attempt| HeldAttempt {
            task: task(0),
            attempt,
        })
        .into();
    assert_eq!(stopped(&scene.join(again)), [first.1, never]);
}

#[test]
fn cancel_is_final() {
    let mut scene = Scene::with(vec![spec(), spec(), spec()]);
    scene.join(hello(1, 1));
    let tries = scene.dispatch();
    scene.report(tries[0], success(1));
    let events = scene.tell(Command::CancelJob { job: JOB });
    assert_eq!(stopped(&events), [tries[1].1]);
    assert_eq!(scene.report(tries[1], success(1)), []);
    assert_eq!(scene.tell(Command::CancelJob { job: JOB }), []);
    assert_eq!(scene.dispatch(), []);
    let states = [0, 1, 2].map(|index| scene.state(index));
    assert_eq!(
        states,
        [
            TaskState::Succeeded,
            TaskState::Cancelled,
            TaskState::Cancelled
        ]
    );
    scene.restart();
    assert_eq!(states, [0, 1, 2].map(|index| scene.state(index)));
    let sequences: Vec<_> = scene
        .queue
        .job(NUMBER)
        .unwrap()
        .outcomes_after(0)
        .map(|o| o.sequence)
        .collect();
    assert_eq!(sequences, [1, 2, 3]);
}

#[test]
fn handing_back_is_charged_to_nobody() {
    let mut scene = Scene::with(vec![spec()]);
    scene.join(hello(1, 1));
    for _ in 0..10 {
        let (task, attempt, id) = scene.dispatch()[0];
        let attempts = vec![HeldAttempt { task, attempt }];
        scene.tell(Command::HandBack {
            worker: id,
            attempts,
        });
    }
    assert_eq!(scene.state(0), TaskState::Waiting);
    assert_eq!(scene.failure_class(0), None);
}

#[test]
fn a_draining_worker_gets_nothing_and_may_leave() {
    let mut scene = Scene::with(vec![spec(), spec(), spec(), spec()]);
    scene.join(hello(1, 1));
    let tries = scene.dispatch();
    assert_eq!(tries.len(), 2, "one runs, one is ready to");
    scene.tell(Command::Drain { worker: worker(1) });
    for tried in tries {
        scene.report(tried, success(1));
    }
    assert_eq!(scene.dispatch(), []);
    let job = scene.queue.job(NUMBER).unwrap();
    assert!(
        scene
            .queue
            .blocked_reason(job)
            .unwrap()
            .contains("draining")
    );
    let events = scene.tell(Command::Disconnect { worker: worker(1) });
    assert_eq!(events, [Event::WorkerGone { worker: worker(1) }]);
}

#[test]
fn a_try_that_outlasts_its_limit_is_stopped_and_never_counts() {
    let mut slow = spec();
    (slow.time_limit_ms, slow.attempts_max) = (1000, 2);
    let mut scene = Scene::with(vec![slow.clone(), slow]);
    scene.join(hello(1, 1));
    let tries = scene.dispatch();
    assert_eq!(tries.len(), 2);
    assert_eq!(stopped(&scene.pass(999)), []);
    assert_eq!(stopped(&scene.pass(1)), [tries[0].1]);
    // The other waited behind it until now.
    assert_eq!(stopped(&scene.pass(999)).len(), 0);
    let mut again = hello(1, 1);
    again.held = tries
        .iter()
        .map(|(task, attempt, _)| HeldAttempt {
            task: *task,
            attempt: *attempt,
        })
        .collect();
    assert_eq!(stopped(&scene.join(again)), [tries[0].1]);
    scene.pass(1);
    scene.pass(2000);
    scene.dispatch();
    scene.pass(1000);
    assert_eq!(scene.failure_class(0), Some(FailureClass::TimedOut));
}

#[test]
fn a_task_that_kills_three_workers_alone_is_set_aside() {
    let mut scene = Scene::with(vec![spec()]);
    for n in 1..=3 {
        assert_eq!(scene.state(0), TaskState::Waiting);
        if n == 2 {
            scene.restart();
        }
        scene.join(hello(n, 1));
        assert_eq!(scene.dispatch().len(), 1);
        scene.pass(30_000);
    }
    assert_eq!(scene.state(0), TaskState::Failed);
    assert_eq!(scene.failure_class(0), Some(FailureClass::KilledWorkers));
}

#[test]
fn tasks_lost_together_are_tried_alone_before_any_is_blamed() {
    let mut scene = Scene::with(vec![spec(), spec()]);
    for n in 1..=2 {
        scene.join(hello(n, 2));
        assert_eq!(scene.dispatch().len(), 2);
        scene.pass(30_000);
    }
    scene.submit(JOB, vec![spec(); 8]);
    scene.join(hello(3, 2));
    let tries = scene.dispatch();
    assert_eq!(tries.len(), 1, "a suspect has the whole worker");
    scene.report(tries[0], success(1));
    assert_eq!(scene.dispatch().len(), 1);
    scene.pass(30_000);
    assert_eq!(scene.state(1), TaskState::Waiting);
    assert_eq!(scene.failure_class(1), Some(FailureClass::KilledWorkers));
}

#[test]
fn a_suspect_gets_its_worker_although_others_wait() {
    let mut scene = Scene::with(vec![spec(), spec()]);
    for n in 1..=2 {
        scene.join(hello(n, 2));
        scene.dispatch();
        scene.pass(30_000);
    }
    scene.queue.config.lease_ms = u64::MAX;
    scene.submit(JOB, vec![spec(); 20]);
    // Both workers come with something to do already.
    scene.join(hello(3, 2));
    let mut busy = scene.dispatch();
    let mut suspects_begun = 0;
    for _ in 0..20 {
        let Some(tried) = busy.pop() else { break };
        suspects_begun += u32::from(tried.0.index < 2);
        scene.report(tried, success(1));
        busy.extend(scene.dispatch());
    }
    assert_eq!(suspects_begun, 2);
}

#[test]
fn a_worker_that_was_only_out_of_reach_is_acquitted() {
    let mut scene = Scene::with(vec![spec()]);
    scene.join(hello(1, 1));
    let (task, attempt, _) = scene.dispatch()[0];
    for _ in 0..5 {
        scene.pass(30_000);
        assert_eq!(scene.queue.workers().count(), 0);
        let mut again = hello(1, 1);
        again.held = vec![HeldAttempt { task, attempt }];
        scene.join(again);
    }
    assert_eq!(scene.state(0), TaskState::Running);
    let is_suspect = |scene: &Scene| scene.queue.task(task).unwrap().is_suspect(1);
    assert!(!is_suspect(&scene));
    scene.restart();
    assert!(!is_suspect(&scene), "a restart remembers it");
}

#[test]
fn owners_share_and_priority_counts_within_one_owners_jobs() {
    let mut scene = Scene::new();
    let jobs = [(1, "ann", 0), (2, "ann", 5), (3, "bob", 0)];
    for (n, owner, priority) in jobs {
        scene.create(JobId([n; 16]), owner, priority);
        scene.submit(JobId([n; 16]), vec![spec(); 4]);
    }
    scene.join(hello(1, 4));
    let order: Vec<u64> = scene
        .dispatch()
        .iter()
        .map(|(task, ..)| task.job.0)
        .collect();
    assert_eq!(order, [2, 3, 2, 3, 2, 3, 2, 3]);
}

#[test]
fn a_kind_nobody_has_holds_nothing_up() {
    let mut rare = spec();
    rare.kind = kind("rare");
    let mut scene = Scene::with(vec![rare; 200]);
    scene.submit(JOB, vec![spec()]);
    let reason = |scene: &Scene| scene.queue.blocked_reason(scene.queue.job(NUMBER).unwrap());
    assert_eq!(reason(&scene).unwrap(), "no worker is connected");
    scene.join(hello(1, 1));
    assert_eq!(reason(&scene).unwrap(), "no worker has the kind rare/1");
    let tries = scene.dispatch();
    assert_eq!(tries[0].0, task(200));
}

#[test]
fn work_is_spread_and_levelled() {
    let mut scene = Scene::with(vec![spec(); 4]);
    scene.join(hello(1, 2));
    assert_eq!(scene.dispatch().len(), 4, "two run, two are ready to");
    scene.join(hello(2, 2));
    let moved = scene.dispatch();
    assert_eq!(moved.len(), 2);
    assert!(moved.iter().all(|(.., to)| *to == worker(2)));
}

#[test]
fn blobs_are_held_while_anything_needs_them() {
    let mut scene = Scene::new();
    scene.create(JOB, "ann", 0);
    scene.tell(Command::HoldBlob {
        job: JOB,
        blob: blob(1),
    });
    scene.submit(JOB, vec![reading_blob(1)]);
    let release = |n| Command::ReleaseBlobs {
        job: JOB,
        digests: vec![digest(n), digest(77)],
    };
    scene.tell(release(1));
    assert_eq!(scene.queue.take_unheld(), [], "a task still reads it");
    scene.join(hello(1, 1));
    let tried = scene.dispatch()[0];
    scene.report(tried, success(2));
    assert_eq!(scene.queue.take_unheld(), [digest(1)]);
    assert!(scene.queue.is_held(&digest(2)));
    scene.restart();
    assert!(scene.queue.is_held(&digest(2)));
    scene.queue.take_unheld();
    scene.tell(release(2));
    assert_eq!(scene.queue.take_unheld(), [digest(2)]);
    assert_eq!(scene.tell(release(2)), []);
}

#[test]
fn finished_jobs_are_forgotten_in_time_but_not_their_numbers() {
    let mut scene = Scene::with(vec![spec()]);
    scene.tell(Command::CancelJob { job: JOB });
    assert_eq!(scene.pass(scene.queue.config.keep_cancelled_ms - 1), []);
    assert_eq!(scene.pass(1), [Event::JobForgotten { job: NUMBER }]);
    assert!(scene.queue.job_by_id(JOB).is_none());
    scene.written = vec![Event::JobForgotten { job: NUMBER }];
    scene.restart();
    scene.create(JOB, "ann", 0);
    let newest = scene.queue.jobs().next().unwrap();
    assert_eq!(newest.number(), JobNumber(2));
}

#[test]
fn records_of_what_is_forgotten_change_nothing() {
    let mut scene = Scene::with(vec![spec()]);
    scene.join(hello(1, 1));
    let tried = scene.dispatch()[0];
    scene.report(tried, success(1));
    let written = std::mem::take(&mut scene.written);
    let mut queue = Queue::new(Config::new(2));
    for event in written.iter().skip(1) {
        queue.apply(event);
        queue.check().unwrap();
    }
    assert_eq!(queue.jobs().count(), 0);
    // Records read twice are as good as once.
    for event in written.iter().chain(&written) {
        queue.apply(event);
        queue.check().unwrap();
    }
    assert_eq!(queue.job(NUMBER).unwrap().outcome_count(), 1);
}
