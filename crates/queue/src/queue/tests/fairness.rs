//! Whose turn it is, and who has room.

use super::{histories::config, *};
use crate::Resources;
use proptest::prelude::*;
use std::collections::HashMap;

const ANN: JobId = JobId([1; 16]);
const BOB: JobId = JobId([2; 16]);

fn wide(slot_count: u32) -> TaskSpec {
    TaskSpec {
        resources: Resources {
            slot_count,
            memory_bytes: 0,
        },
        ..spec()
    }
}

/// Runs what is given out for as long as its owner's tasks take, over and over; the slot-time each got.
fn share(scene: &mut Scene, rounds: usize, take_ms: impl Fn(TaskId) -> u64) -> HashMap<u64, u64> {
    let mut used: HashMap<u64, u64> = HashMap::new();
    let mut running: Vec<(u64, (TaskId, AttemptId, WorkerId))> = Vec::new();
    for _ in 0..rounds {
        let now = scene.now.at.0;
        let begun = scene.dispatch();
        running.extend(
            begun
                .into_iter()
                .map(|tried| (now + take_ms(tried.0), tried)),
        );
        running.sort();
        let (ends_at, tried) = running.remove(0);
        scene.pass(ends_at.saturating_sub(now));
        scene.tell(Command::Heartbeat { worker: worker(1) });
        scene.tell(Command::Report {
            worker: tried.2,
            task: tried.0,
            attempt: tried.1,
            result: success(1),
            run_ms: take_ms(tried.0),
        });
        *used.entry(tried.0.job.0).or_default() += take_ms(tried.0);
    }
    // What went on would be charged for as long.
    for (_, tried) in running {
        scene.report(tried, success(1));
    }
    used
}

#[test]
fn slot_time_is_shared_and_not_the_number_of_tasks() {
    let mut scene = Scene::new();
    scene.queue.config.ahead_per_slot = 0;
    scene.queue.config.ahead_ms = 0;
    scene.create(ANN, "ann", 0);
    scene.create(BOB, "bob", 100);
    scene.submit(ANN, vec![spec(); 400]);
    let mut slow = spec();
    slow.kind = kind("slow");
    scene.submit(BOB, vec![slow; 400]);
    let mut hello = hello(1, 4);
    hello.kinds.push(kind("slow"));
    scene.join(hello);
    let take_ms = |task: TaskId| if task.job.0 == 1 { 100 } else { 900 };
    let used = share(&mut scene, 300, take_ms);
    let (ann, bob) = (used[&1], used[&2]);
    // One task for each slot, at the most, on either side.
    assert!(ann.abs_diff(bob) <= 4 * 900, "{ann} ms against {bob} ms");
}

#[test]
fn who_comes_late_is_not_paid_for_the_time_before() {
    let mut scene = Scene::new();
    scene.queue.config.ahead_per_slot = 0;
    scene.queue.config.ahead_ms = 0;
    scene.create(ANN, "ann", 0);
    scene.submit(ANN, vec![spec(); 400]);
    scene.join(hello(1, 2));
    share(&mut scene, 100, |_| 100);
    scene.create(BOB, "bob", 0);
    scene.submit(BOB, vec![spec(); 400]);
    let used = share(&mut scene, 100, |_| 100);
    let (ann, bob) = (used[&1], used[&2]);
    assert!(ann.abs_diff(bob) <= 4 * 100, "{ann} ms against {bob} ms");
}

#[test]
fn a_task_goes_only_where_it_fits_and_the_rest_is_told_why_not() {
    let mut scene = Scene::with(vec![wide(4), wide(2)]);
    scene.join(hello(1, 2));
    let tries = scene.dispatch();
    assert_eq!(tries.len(), 1);
    assert_eq!(tries[0].0, task(1));
    let reason = scene.queue.blocked_reason(scene.queue.job(NUMBER).unwrap());
    assert_eq!(
        reason.unwrap(),
        "a task needs 4 slots and 0 MiB of memory; the largest workers with its kind have 2 slots and 0 MiB"
    );
    scene.join(hello(2, 4));
    assert_eq!(scene.dispatch()[0].2, worker(2));
}

#[test]
fn memory_is_not_given_twice() {
    let mut hungry = spec();
    hungry.resources.memory_bytes = 600;
    let mut scene = Scene::with(vec![hungry; 3]);
    let mut hello = hello(1, 4);
    hello.memory_bytes = 1000;
    scene.join(hello);
    let tries = scene.dispatch();
    assert_eq!(tries.len(), 1);
    scene.report(tries[0], success(1));
    assert_eq!(scene.dispatch().len(), 1);
}

#[test]
fn a_wide_task_is_not_overtaken_for_ever() {
    let mut scene = Scene::with(vec![spec(), spec(), wide(2)]);
    scene.submit(JOB, vec![spec(); 50]);
    scene.join(hello(1, 2));
    let mut held = scene.dispatch();
    let mut done = Vec::new();
    while !done.contains(&2) {
        let tried = held.remove(0);
        done.push(tried.0.index);
        scene.report(tried, success(1));
        held.extend(scene.dispatch());
    }
    assert!(done.len() < 10, "{done:?}");
}

#[test]
fn small_tasks_are_sent_ahead_in_bulk_and_long_ones_are_not() {
    let mut scene = Scene::with(vec![spec(); 5000]);
    scene.join(hello(1, 2));
    let first = scene.dispatch();
    assert_eq!(first.len(), 4, "nobody knows yet how long they take");
    for tried in first {
        scene.report(tried, success(1));
    }
    let bulk = scene.dispatch().len();
    assert!(bulk > 200, "{bulk} tasks of 5 ms for two slots");
    let job = scene.queue.job(NUMBER).unwrap();
    assert_eq!(
        scene.queue.counts_of(job).running,
        2,
        "the others wait there"
    );
}

#[test]
fn near_the_end_idle_slots_copy_what_is_slow_and_the_first_result_wins() {
    let mut scene = Scene::with(vec![spec(); 3]);
    scene.queue.config.lease_ms = u64::MAX;
    scene.join(hello(1, 3));
    let tries = scene.dispatch();
    scene.report(tries[0], success(1));
    scene.report(tries[1], success(1));
    scene.join(hello(2, 1));
    scene.pass(1_999);
    assert_eq!(scene.dispatch(), []);
    scene.pass(1);
    let copies = scene.dispatch();
    assert_eq!(copies.len(), 1);
    assert_eq!((copies[0].0, copies[0].2), (task(2), worker(2)));
    assert_eq!(scene.dispatch(), [], "two are enough");
    let events = scene.report(copies[0], success(1));
    assert_eq!(stopped(&events), [tries[2].1]);
    assert_eq!(scene.state(2), TaskState::Succeeded);
}

#[test]
fn many_needs_of_one_owner_do_not_hide_another() {
    let mut scene = Scene::new();
    scene.queue.config.ahead_per_slot = 0;
    scene.queue.config.ahead_ms = 0;
    scene.create(ANN, "ann", 0);
    scene.create(BOB, "bob", 0);
    for n in 0..70 {
        let mut needy = spec();
        needy.resources.memory_bytes = n;
        scene.submit(ANN, vec![needy; 2]);
    }
    // The last in the alphabet.
    let last = TaskSpec {
        kind: kind("z"),
        ..spec()
    };
    scene.submit(BOB, vec![last]);
    let mut hello = hello(1, 1);
    hello.kinds.push(kind("z"));
    scene.join(hello);
    let owners = std::iter::repeat_with(|| {
        let tried = scene.dispatch()[0];
        scene.pass(100);
        scene.report(tried, success(1));
        tried.0.job.0
    });
    assert_eq!(owners.take(2).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn suspects_without_a_worker_do_not_keep_out_another() {
    let mut scene = Scene::new();
    scene.queue.config.company_losses_max = 1;
    scene.create(ANN, "ann", 0);
    scene.submit(ANN, vec![spec(); 70]);
    scene.create(BOB, "bob", 0);
    let other = TaskSpec {
        kind: kind("b"),
        ..spec()
    };
    scene.submit(BOB, vec![other; 2]);
    scene.join(hello(1, 70));
    let mut able = hello(2, 2);
    able.kinds = vec![kind("b")];
    scene.join(able.clone());
    assert_eq!(scene.dispatch().len(), 72);
    scene.pass(30_000);
    able.id = worker(3);
    scene.join(able);
    assert_eq!(scene.dispatch().len(), 1, "a suspect of bob's, alone");
}

#[test]
fn long_tasks_are_charged_while_they_run() {
    let mut scene = Scene::new();
    scene.queue.config.ahead_per_slot = 0;
    scene.queue.config.ahead_ms = 0;
    scene.create(ANN, "ann", 0);
    scene.create(BOB, "bob", 0);
    scene.join(hello(1, 2));
    scene.submit(ANN, vec![spec(); 10]);
    let bobs = scene.dispatch();
    scene.report(bobs[0], success(1));
    // Ann's other one goes on and on, and nobody knew.
    scene.submit(BOB, vec![spec(); 10]);
    let mut owners = Vec::new();
    for _ in 0..6 {
        let tried = scene.dispatch()[0];
        owners.push(tried.0.job.0);
        scene.pass(1000);
        scene.tell(Command::Heartbeat { worker: worker(1) });
        scene.report(tried, success(1));
    }
    assert_eq!(owners[1..], [2; 5], "a slot each");
}

#[test]
fn a_task_cannot_have_run_for_longer_than_it_was_out() {
    let mut scene = Scene::with(vec![spec(); 2]);
    scene.join(hello(1, 2));
    let tries = scene.dispatch();
    scene.pass(100);
    let report = |(task, attempt, worker): (TaskId, AttemptId, WorkerId)| Command::Report {
        worker,
        task,
        attempt,
        result: success(1),
        run_ms: u64::MAX,
    };
    scene.tell(report(tries[0]));
    scene.restart();
    let mut again = hello(1, 2);
    again.held = vec![HeldAttempt {
        task: tries[1].0,
        attempt: tries[1].1,
    }];
    scene.join(again);
    scene.pass(50);
    scene.tell(report(tries[1]));
    let outcomes = scene.queue.job(NUMBER).unwrap().outcomes_after(0);
    let run_ms: Vec<u64> = outcomes.map(|outcome| outcome.run_ms).collect();
    assert_eq!(
        run_ms,
        [100, 150],
        "the other one is as old as its job at the most"
    );
}

/// Owners who always have work, and how long a task of each takes at least.
#[derive(Debug, Clone)]
struct Crowd {
    owners: Vec<(u64, i32)>,
    worker_slots: Vec<u32>,
    /// For each step a number that says how much longer a task takes, and now and then that a worker gives back what it runs.
    chances: Vec<u64>,
}

/// No task takes longer than this.
const TASK_MS_MAX: u64 = 1_000;

fn crowd() -> impl Strategy<Value = Crowd> {
    let owner = (100..800_u64, -100..=100);
    let owners = prop::collection::vec(owner, 2..=3);
    let worker_slots = prop::collection::vec(1..=2_u32, 1..=2);
    let chances = prop::collection::vec(any::<u64>(), 150);
    (owners, worker_slots, chances).prop_map(|(owners, worker_slots, chances)| Crowd {
        owners,
        worker_slots,
        chances,
    })
}

/// Slot-time that each owner got.
fn used_by(crowd: &Crowd) -> Vec<u64> {
    let mut scene = Scene::new();
    scene.queue.config.ahead_per_slot = 0;
    scene.queue.config.ahead_ms = 0;
    for (n, (_, priority)) in (1..).zip(&crowd.owners) {
        scene.create(JobId([n; 16]), &format!("owner{n}"), *priority);
        scene.submit(JobId([n; 16]), vec![spec(); crowd.chances.len() + 10]);
    }
    for (n, slot_count) in (1..).zip(&crowd.worker_slots) {
        scene.join(hello(n, *slot_count));
    }
    let mut used = vec![0; crowd.owners.len()];
    let mut running: Vec<(u64, u64, (TaskId, AttemptId, WorkerId))> = Vec::new();
    for chance in &crowd.chances {
        let now = scene.now.at.0;
        for tried in scene.dispatch() {
            let base = crowd.owners[tried.0.job.0 as usize - 1].0;
            let ends_at =
                now + (base + (chance ^ tried.1.n.wrapping_mul(77)) % 200).min(TASK_MS_MAX);
            running.push((ends_at, now, tried));
        }
        running.sort();
        let (ends_at, began_at, tried) = running.remove(0);
        scene.pass(ends_at.saturating_sub(now));
        for (n, _) in (1..).zip(&crowd.worker_slots) {
            scene.tell(Command::Heartbeat { worker: worker(n) });
        }
        used[tried.0.job.0 as usize - 1] += scene.now.at.0 - began_at;
        match chance % 8 {
            0 => scene.tell(Command::HandBack {
                worker: tried.2,
                attempts: vec![HeldAttempt {
                    task: tried.0,
                    attempt: tried.1,
                }],
            }),
            _ => scene.report(tried, success(1)),
        };
    }
    for (_, began_at, (task, ..)) in running {
        used[task.job.0 as usize - 1] += scene.now.at.0 - began_at;
    }
    used
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..config() })]

    #[test]
    fn owners_who_always_have_work_get_the_same_within_a_bound(crowd in crowd()) {
        let used = used_by(&crowd);
        // A share is off by what is charged before it is known: a task for each slot on either side, and the one that follows.
        let slots: u32 = crowd.worker_slots.iter().sum();
        let bound_ms = (2 * u64::from(slots) + 1) * TASK_MS_MAX;
        let (least, most) = (used.iter().min().unwrap(), used.iter().max().unwrap());
        prop_assert!(most - least <= bound_ms, "{used:?} ms, {bound_ms} ms apart at the most");
    }
}
