//! Cancel and rerun, by task, job, owner or all.

use super::*;
use crate::TaskSelection;

fn some(indices: &[u64]) -> TaskSelection {
    TaskSelection::Tasks {
        job: NUMBER,
        indices: indices.to_vec(),
    }
}

fn sequences(scene: &Scene) -> Vec<(u64, u64, u32)> {
    let job = scene.queue.job(NUMBER).unwrap();
    let outcomes = job.outcomes_after(0);
    outcomes
        .map(|outcome| (outcome.sequence, outcome.task.index, outcome.generation))
        .collect()
}

#[test]
fn a_rerun_is_a_new_generation_with_an_outcome_of_its_own() {
    let mut scene = Scene::with(vec![spec(), spec()]);
    scene.join(hello(1, 2));
    let tries = scene.dispatch();
    scene.report(tries[0], success(1));
    scene.report(tries[1], failure(FailureClass::BadInput));
    scene.tell(Command::CloseJob { job: JOB });
    assert!(scene.queue.job(NUMBER).unwrap().is_finished());
    scene.tell(Command::Rerun {
        tasks: TaskSelection::Job(NUMBER),
        succeeded: false,
    });
    assert!(!scene.queue.job(NUMBER).unwrap().is_finished());
    assert_eq!(scene.state(0), TaskState::Succeeded);
    let tried = scene.dispatch();
    assert_eq!(tried.len(), 1);
    assert_eq!(
        scene.report(tries[1], success(1)),
        [],
        "the old try is over"
    );
    scene.report(tried[0], success(2));
    assert_eq!(sequences(&scene), [(1, 0, 0), (2, 1, 0), (3, 1, 1)]);
    scene.tell(Command::Rerun {
        tasks: some(&[0]),
        succeeded: false,
    });
    assert_eq!(scene.state(0), TaskState::Waiting, "named, so rerun");
    let before = sequences(&scene);
    scene.restart();
    assert_eq!(sequences(&scene), before);
    assert_eq!(scene.state(0), TaskState::Waiting);
}

#[test]
fn what_waits_for_a_rerun_task_is_rerun_with_it() {
    let mut scene = Scene::with(vec![spec(), after(&[0])]);
    scene.join(hello(1, 1));
    let tried = scene.dispatch()[0];
    scene.report(tried, failure(FailureClass::BadInput));
    scene.tell(Command::Rerun {
        tasks: TaskSelection::All,
        succeeded: false,
    });
    let tried = scene.dispatch();
    assert_eq!(tried.len(), 1);
    scene.report(tried[0], success(1));
    let tried = scene.dispatch();
    assert_eq!(tried[0].0, task(1));
}

#[test]
fn single_tasks_are_cancelled_and_stopped() {
    let mut scene = Scene::with(vec![spec(), spec(), after(&[0])]);
    scene.join(hello(1, 2));
    let tries = scene.dispatch();
    let events = scene.tell(Command::CancelTasks { tasks: some(&[0]) });
    assert_eq!(stopped(&events), [tries[0].1]);
    let states = [0, 1, 2].map(|index| scene.state(index));
    assert_eq!(
        states,
        [TaskState::Cancelled, TaskState::Running, TaskState::Failed]
    );
    let why = scene
        .queue
        .task(task(2))
        .unwrap()
        .failure()
        .unwrap()
        .clone();
    assert_eq!(why.message, "j1.0, which it waits for, was cancelled");
    assert_eq!(scene.tell(Command::CancelTasks { tasks: some(&[0]) }), []);
    let unknown = scene.ask(Command::CancelTasks { tasks: some(&[7]) });
    assert_eq!(unknown.unwrap_err().to_string(), "j1 has no task 7");
}

#[test]
fn owners_and_all_are_selections_too() {
    let mut scene = Scene::new();
    for (n, owner) in [(1, "ann"), (2, "bob"), (3, "ann")] {
        scene.create(JobId([n; 16]), owner, 0);
        scene.submit(JobId([n; 16]), vec![spec()]);
    }
    scene.tell(Command::CancelTasks {
        tasks: TaskSelection::Owner("ann".into()),
    });
    assert_eq!(scene.queue.counts().cancelled, 2);
    scene.tell(Command::CancelTasks {
        tasks: TaskSelection::All,
    });
    assert_eq!(scene.queue.counts().cancelled, 3);
    scene.tell(Command::Rerun {
        tasks: TaskSelection::Owner("bob".into()),
        succeeded: false,
    });
    assert_eq!(scene.queue.counts().waiting, 1);
}

#[test]
fn a_cancelled_job_may_be_rerun_while_its_uploads_are_kept() {
    let mut scene = Scene::new();
    scene.create(JOB, "ann", 0);
    let upload = blob(1);
    scene.tell(Command::HoldBlob {
        job: JOB,
        blob: upload,
    });
    scene.submit(JOB, vec![reading_blob(1)]);
    scene.tell(Command::CancelJob { job: JOB });
    assert!(scene.queue.is_held(&digest(1)));
    let rerun = Command::Rerun {
        tasks: TaskSelection::Job(NUMBER),
        succeeded: false,
    };
    scene.tell(rerun.clone());
    assert_eq!(scene.state(0), TaskState::Waiting);
    scene.tell(Command::CancelJob { job: JOB });
    scene.tell(Command::ReleaseBlobs {
        job: JOB,
        digests: vec![digest(1)],
    });
    assert!(matches!(scene.ask(rerun), Err(Refusal::InputsGone { .. })));
}

#[test]
fn a_try_of_an_earlier_generation_is_not_taken_up() {
    let mut scene = Scene::with(vec![spec()]);
    scene.join(hello(1, 1));
    let old = scene.dispatch()[0];
    scene.tell(Command::CancelTasks { tasks: some(&[0]) });
    scene.tell(Command::Rerun {
        tasks: some(&[0]),
        succeeded: false,
    });
    for restarts in [false, true] {
        if restarts {
            scene.restart();
        }
        let mut again = hello(1, 1);
        again.held = vec![HeldAttempt {
            task: old.0,
            attempt: old.1,
        }];
        assert_eq!(stopped(&scene.join(again)), [old.1]);
        assert_eq!(scene.state(0), TaskState::Waiting);
    }
}

#[test]
fn what_can_be_rerun_is_and_the_rest_is_named() {
    let mut scene = Scene::new();
    scene.create(JOB, "ann", 0);
    let held = Command::HoldBlob {
        job: JOB,
        blob: blob(1),
    };
    scene.tell(held);
    scene.submit(JOB, vec![reading_blob(1), after(&[0]), spec()]);
    scene.create(JobId([8; 16]), "bob", 0);
    scene.submit(JobId([8; 16]), vec![spec()]);
    scene.tell(Command::CancelTasks {
        tasks: TaskSelection::All,
    });
    scene.tell(Command::ReleaseBlobs {
        job: JOB,
        digests: vec![digest(1)],
    });
    let rerun = |tasks| Command::Rerun {
        tasks,
        succeeded: false,
    };
    assert!(matches!(
        scene.ask(rerun(some(&[0, 2]))),
        Err(Refusal::InputsGone { .. })
    ));
    let events = scene.tell(rerun(TaskSelection::All));
    let states = [0, 1, 2].map(|index| scene.state(index));
    assert_eq!(
        states,
        [
            TaskState::Cancelled,
            TaskState::Cancelled,
            TaskState::Waiting
        ]
    );
    assert_eq!(scene.queue.counts().waiting, 2);
    let skipped = events.iter().find_map(|event| match event {
        Event::RerunSkipped {
            task_count, reason, ..
        } => Some((*task_count, reason.as_str())),
        _ => None,
    });
    let (count, reason) = skipped.unwrap();
    assert_eq!(count, 2);
    assert!(reason.starts_with("j1.0 cannot be rerun: its input 0101"));
    assert!(matches!(
        scene.ask(rerun(TaskSelection::All)),
        Err(Refusal::InputsGone { .. })
    ));
}

#[test]
fn a_rerun_keeps_to_its_owners_bounds() {
    let mut scene = Scene::new();
    for n in 1..=4 {
        scene.create(JobId([n; 16]), if n == 4 { "bob" } else { "ann" }, 0);
        scene.submit(JobId([n; 16]), vec![spec(); 10]);
        let job = JobId([n; 16]);
        scene.tell(Command::CancelJob { job });
    }
    scene.queue.config.owner_task_count_max = 15;
    let rerun = |tasks| Command::Rerun {
        tasks,
        succeeded: false,
    };
    scene.tell(rerun(TaskSelection::All));
    assert_eq!(scene.queue.counts().waiting, 25);
    assert!(matches!(
        scene.ask(rerun(TaskSelection::Tasks {
            job: JobNumber(3),
            indices: vec![0],
        })),
        Err(Refusal::OwnerFull { found: 16, .. })
    ));
    scene.queue.config.owner_task_count_max = 99;
    scene.queue.config.owner_job_count_max = 2;
    scene.tell(rerun(TaskSelection::Job(JobNumber(2))));
    assert_eq!(scene.queue.counts().waiting, 30);
    assert!(matches!(
        scene.ask(rerun(TaskSelection::Job(JobNumber(3)))),
        Err(Refusal::OwnerFull { found: 3, .. })
    ));
}

#[test]
fn a_rerun_is_not_cancelled_at_once_for_its_customers_absence() {
    let mut scene = Scene::new();
    scene.tell(Command::CreateJob {
        id: JOB,
        owner: "ann".into(),
        name: "".into(),
        priority: 0,
        terms: JobTerms {
            absence_ms_max: Some(60_000),
            ..JobTerms::default()
        },
    });
    scene.submit(JOB, vec![spec()]);
    scene.pass(60_000);
    assert_eq!(scene.state(0), TaskState::Cancelled);
    scene.pass(1000);
    scene.tell(Command::Rerun {
        tasks: TaskSelection::Job(NUMBER),
        succeeded: false,
    });
    scene.pass(59_999);
    assert_eq!(scene.state(0), TaskState::Waiting);
    scene.pass(1);
    assert_eq!(scene.state(0), TaskState::Cancelled);
}
