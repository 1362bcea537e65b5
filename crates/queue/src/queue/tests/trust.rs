//! Workers that fail everything, that are busy, or that are waited for after a restart.

use super::*;

fn fail_once(scene: &mut Scene, on: u8) -> bool {
    let tried = scene.dispatch();
    let Some(tried) = tried.into_iter().find(|(.., to)| *to == worker(on)) else {
        return false;
    };
    scene.report(tried, failure(FailureClass::KernelError));
    true
}

/// One worker does well while another fails.
fn one_bad_worker(class: FailureClass) -> Scene {
    let mut patient = spec();
    patient.attempts_max = 50;
    let mut scene = Scene::with(vec![patient; 40]);
    scene.queue.config.ahead_per_slot = 0;
    scene.queue.config.ahead_ms = 0;
    scene.queue.config.lease_ms = u64::MAX;
    scene.join(hello(1, 1));
    scene.join(hello(2, 1));
    for _ in 0..5 {
        let tries = scene.dispatch();
        scene.pass(10);
        for tried in tries {
            let result = match tried.2 == worker(1) {
                true => failure(class),
                false => success(1),
            };
            scene.report(tried, result);
        }
    }
    scene
}

#[test]
fn a_worker_that_fails_everything_while_others_do_not_is_put_on_probation() {
    let mut scene = one_bad_worker(FailureClass::KernelError);
    let bad = || worker(1);
    let reason = scene.queue.worker(bad()).unwrap().held_back_reason();
    assert!(reason.unwrap().starts_with("on probation"));
    assert!(scene.dispatch().iter().all(|(.., to)| *to != bad()));
    scene.pass(30_000);
    let on_trial = |tries: &[(TaskId, AttemptId, WorkerId)]| {
        tries.iter().filter(|(.., to)| *to == bad()).count()
    };
    let tries = scene.dispatch();
    assert_eq!(on_trial(&tries), 1, "a single one, to see");
    let tried = *tries.iter().find(|(.., to)| *to == bad()).unwrap();
    scene.report(tried, failure(FailureClass::KernelError));
    scene.pass(59_999);
    assert_eq!(on_trial(&scene.dispatch()), 0, "the pause is doubled");
    scene.pass(1);
    let tries = scene.dispatch();
    let tried = *tries.iter().find(|(.., to)| *to == bad()).unwrap();
    scene.report(tried, success(1));
    assert_eq!(scene.queue.worker(bad()).unwrap().held_back_reason(), None);
}

#[test]
fn what_the_tasks_are_to_blame_for_puts_nobody_on_probation() {
    for class in [FailureClass::BadInput, FailureClass::TimedOut] {
        let scene = one_bad_worker(class);
        let reason = scene.queue.worker(worker(1)).unwrap().held_back_reason();
        assert_eq!(reason, None, "{class:?}");
    }
}

#[test]
fn tasks_that_fail_everywhere_put_nobody_on_probation() {
    let mut scene = Scene::with(vec![spec(); 20]);
    scene.join(hello(1, 1));
    for _ in 0..15 {
        fail_once(&mut scene, 1);
    }
    assert_eq!(
        scene.queue.worker(worker(1)).unwrap().held_back_reason(),
        None
    );
}

#[test]
fn a_failed_task_is_rather_tried_elsewhere() {
    let mut scene = Scene::with(vec![spec()]);
    scene.join(hello(1, 1));
    scene.join(hello(2, 1));
    let first = scene.dispatch()[0];
    scene.report(first, failure(FailureClass::KernelError));
    scene.pass(500);
    assert_ne!(scene.dispatch()[0].2, first.2);
}

#[test]
fn a_busy_worker_gets_nothing_until_it_is_free() {
    let mut scene = Scene::with(vec![spec()]);
    scene.join(hello(1, 1));
    let set = |busy_reason: Option<&str>| Command::SetAvailability {
        worker: worker(1),
        busy_reason: busy_reason.map(Into::into),
    };
    scene.tell(set(Some("load 9 is above 8")));
    assert_eq!(scene.dispatch(), []);
    let reason = scene.queue.blocked_reason(scene.queue.job(NUMBER).unwrap());
    assert!(reason.unwrap().ends_with("held back: load 9 is above 8"));
    scene.tell(set(None));
    assert_eq!(scene.dispatch().len(), 1);
}

/// A restart that remembers who attended, and with which tasks.
fn restart_expecting(scene: &mut Scene, workers: &[(u8, &[u64])]) {
    let expected = workers.iter().map(|(n, held)| crate::Expected {
        id: worker(*n),
        name: format!("w{n}").into(),
        held: held.iter().map(|index| task(*index)).collect(),
    });
    scene.restart_expecting(expected.collect());
}

#[test]
fn after_a_restart_workers_have_time_to_come_back_with_what_they_had() {
    let mut scene = Scene::with(vec![spec(), spec(), spec()]);
    scene.join(hello(1, 1));
    let first = scene.dispatch()[0];
    restart_expecting(&mut scene, &[(1, &[0]), (9, &[1])]);
    scene.join(hello(2, 4));
    scene.submit(JOB, vec![spec()]);
    let given: Vec<u64> = scene.dispatch().iter().map(|tried| tried.0.index).collect();
    assert_eq!(given, [2, 3], "the others may still be computed");
    let reason = scene.queue.blocked_reason(scene.queue.job(NUMBER).unwrap());
    assert_eq!(
        reason.unwrap(),
        "the broker has restarted and gives w1, w9 up to 60 s to come back with what they had"
    );
    let mut again = hello(1, 1);
    again.held = vec![HeldAttempt {
        task: first.0,
        attempt: first.1,
    }];
    scene.join(again);
    assert_eq!(scene.state(0), TaskState::Running);
    for _ in [1, 2] {
        scene.pass(29_999);
        for n in [1, 2] {
            scene.tell(Command::Heartbeat { worker: worker(n) });
        }
    }
    assert_eq!(scene.dispatch(), [], "worker 9 is not back");
    assert_eq!(scene.queue.next_deadline(), Some(Timestamp(60_000)));
    scene.pass(2);
    assert_eq!(scene.dispatch()[0].0, task(1));
}

#[test]
fn what_a_worker_comes_back_without_goes_to_others_at_once() {
    let mut scene = Scene::with(vec![spec(); 2]);
    restart_expecting(&mut scene, &[(1, &[0, 1]), (2, &[1])]);
    scene.join(hello(3, 4));
    assert_eq!(scene.dispatch(), []);
    scene.join(hello(1, 1));
    assert_eq!(scene.dispatch()[0].0, task(0));
    assert_eq!(scene.dispatch(), [], "worker 2 may have it");
    scene.join(hello(2, 1));
    assert_eq!(scene.dispatch()[0].0, task(1));
}

#[test]
fn nobody_is_waited_for_with_what_has_ended() {
    let mut scene = Scene::with(vec![spec()]);
    scene.join(hello(1, 1));
    let tried = scene.dispatch()[0];
    scene.report(tried, success(1));
    scene.submit(JOB, vec![spec()]);
    restart_expecting(&mut scene, &[(1, &[0])]);
    scene.join(hello(2, 1));
    let reason = scene.queue.blocked_reason(scene.queue.job(NUMBER).unwrap());
    assert_eq!(reason, None);
    assert_eq!(scene.dispatch().len(), 1);
}

#[test]
fn what_is_rerun_since_the_restart_waits_for_nobody() {
    let mut scene = Scene::with(vec![spec()]);
    restart_expecting(&mut scene, &[(1, &[0])]);
    scene.join(hello(2, 1));
    scene.tell(Command::CancelJob { job: JOB });
    scene.tell(Command::Rerun {
        tasks: crate::TaskSelection::Job(NUMBER),
        succeeded: false,
    });
    assert_eq!(scene.dispatch().len(), 1);
}

#[test]
fn a_worker_that_missed_the_order_to_drain_is_told_again() {
    let mut scene = Scene::with(vec![spec(), spec()]);
    scene.join(hello(1, 1));
    let t = scene.dispatch()[0];
    scene.tell(Command::Drain { worker: worker(1) });
    scene.tell(Command::Disconnect { worker: worker(1) });
    let mut again = hello(1, 1);
    again.held = vec![HeldAttempt {
        task: t.0,
        attempt: t.1,
    }];
    let events = scene.join(again);
    let told = |events: &[Event]| {
        let mut events = events.iter();
        events.any(|event| matches!(event, Event::WorkerDraining { .. }))
    };
    assert!(told(&events), "when it comes back");
    let again = scene.tell(Command::Drain { worker: worker(1) });
    assert!(told(&again), "and when it is asked for again");
}

/// A worker that does well, and now has its hands full.
fn a_good_and_busy_worker(specs: Vec<TaskSpec>) -> Scene {
    let mut scene = Scene::with(specs);
    scene.queue.config.ahead_per_slot = 0;
    scene.queue.config.ahead_ms = 0;
    scene.queue.config.lease_ms = u64::MAX;
    scene.join(hello(1, 1));
    let tried = scene.dispatch()[0];
    scene.pass(10);
    scene.report(tried, success(1));
    scene.dispatch();
    scene
}

#[test]
fn a_task_does_not_go_back_to_where_it_failed_while_another_worker_is_there() {
    let mut scene = a_good_and_busy_worker(vec![spec(); 3]);
    scene.join(hello(2, 1));
    let tried = scene.dispatch()[0];
    assert_eq!(tried.2, worker(2));
    scene.report(tried, failure(FailureClass::KernelError));
    scene.pass(500);
    assert_eq!(scene.dispatch(), []);
    let reason = scene.queue.blocked_reason(scene.queue.job(NUMBER).unwrap());
    assert_eq!(
        reason.unwrap(),
        "tasks that failed on w2 wait for another worker, such as w1, which is busy"
    );
    scene.submit(JOB, vec![spec()]);
    let other = scene.dispatch()[0];
    assert_eq!(other.0, task(3), "those behind it need not wait");
    scene.report(other, success(1));
    scene.tell(Command::Drain { worker: worker(1) });
    assert_eq!(scene.dispatch()[0].2, worker(2), "nobody else is left");
}

#[test]
fn a_restarted_broker_remembers_where_a_task_failed() {
    let mut scene = a_good_and_busy_worker(vec![spec(); 3]);
    scene.join(hello(2, 1));
    let tried = scene.dispatch()[0];
    assert_eq!(tried.2, worker(2));
    scene.report(tried, failure(FailureClass::KernelError));
    scene.restart();
    scene.queue.config.ahead_per_slot = 0;
    scene.queue.config.ahead_ms = 0;
    let mut busy = hello(1, 1);
    busy.held = vec![HeldAttempt {
        task: task(1),
        attempt: AttemptId {
            broker_start: 1,
            n: 2,
        },
    }];
    scene.join(busy);
    scene.join(hello(2, 1));
    assert_eq!(scene.state(1), TaskState::Running);
    assert_eq!(scene.dispatch(), [], "it waits for the other");
    scene.tell(Command::Drain { worker: worker(1) });
    assert_eq!(scene.dispatch()[0].2, worker(2), "nobody else is left");
}

#[test]
fn one_bad_node_does_not_eat_the_queue_of_a_busy_one() {
    let once = TaskSpec {
        attempts_max: 1,
        ..spec()
    };
    let mut scene = a_good_and_busy_worker(vec![once; 30]);
    scene.join(hello(2, 1));
    for _ in 0..20 {
        fail_once(&mut scene, 2);
        scene.pass(10);
    }
    let reason = scene.queue.worker(worker(2)).unwrap().held_back_reason();
    assert!(reason.unwrap().starts_with("on probation"));
    assert_eq!(scene.queue.counts().failed, 5);
}

#[test]
fn two_workers_of_one_name_are_two() {
    let once = TaskSpec {
        attempts_max: 1,
        ..spec()
    };
    let mut scene = a_good_and_busy_worker(vec![once; 30]);
    let mut namesake = hello(2, 1);
    namesake.name = hello(1, 1).name;
    scene.join(namesake);
    for _ in 0..20 {
        fail_once(&mut scene, 2);
        scene.pass(10);
    }
    let reason = scene.queue.worker(worker(2)).unwrap().held_back_reason();
    assert!(reason.unwrap().starts_with("on probation"));
}

#[test]
fn a_worker_on_which_everything_hangs_is_put_on_probation() {
    let mut scene = a_good_and_busy_worker(vec![spec()]);
    let limited = TaskSpec {
        time_limit_ms: 1000,
        ..spec()
    };
    scene.submit(JOB, vec![limited; 20]);
    let tried = scene.dispatch()[0];
    assert_eq!(tried.2, worker(1));
    scene.join(hello(2, 1));
    for _ in 0..5 {
        scene.dispatch();
        scene.pass(1000);
    }
    assert_eq!(scene.queue.worker(worker(2)).unwrap().failed_count(), 5);
    let reason = scene.queue.worker(worker(2)).unwrap().held_back_reason();
    assert!(reason.unwrap().starts_with("on probation"));
}

#[test]
fn bad_tasks_put_nobody_on_probation_who_does_others_of_the_kind() {
    let mut scene = a_good_and_busy_worker(vec![spec(); 2]);
    scene.join(hello(2, 1));
    scene.submit(JOB, vec![spec()]);
    let tried = scene.dispatch()[0];
    scene.pass(10);
    scene.report(tried, success(1));
    scene.submit(JOB, vec![spec(); 20]);
    for _ in 0..10 {
        assert!(fail_once(&mut scene, 2));
    }
    let reason = scene.queue.worker(worker(2)).unwrap().held_back_reason();
    assert_eq!(reason, None, "it may be the tasks");
}

#[test]
fn a_claim_of_anothers_try_ends_with_whoever_claims_it() {
    let mut scene = Scene::with(vec![spec()]);
    scene.join(hello(1, 1));
    let tried = scene.dispatch()[0];
    let mut other = hello(2, 1);
    other.held = vec![HeldAttempt {
        task: tried.0,
        attempt: tried.1,
    }];
    assert_eq!(stopped(&scene.join(other)), [tried.1]);
    assert_eq!(scene.state(0), TaskState::Running);
    assert_eq!(ended(&scene.report(tried, success(1))), [(0, 1)]);
}
