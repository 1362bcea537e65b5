//! Keys, bounds, keep-times, and customers that vanish.

use super::*;
use crate::Resources;

fn keyed(key: &str) -> TaskSpec {
    TaskSpec {
        key: Some(key.into()),
        ..spec()
    }
}

fn submit(first_index: u64, specs: Vec<TaskSpec>) -> Command {
    Command::Submit {
        job: JOB,
        first_index,
        specs: specs.into_iter().map(Arc::new).collect(),
    }
}

#[test]
fn the_same_keys_are_the_same_tasks() {
    let mut scene = Scene::with(vec![keyed("a"), keyed("b")]);
    scene.tell(submit(2, vec![keyed("b"), keyed("c"), keyed("c")]));
    let job = scene.queue.job(NUMBER).unwrap();
    assert_eq!(job.task_count(), 3);
    assert_eq!(job.index_of_key("c"), Some(2));
    assert_eq!(scene.tell(submit(2, vec![keyed("b"), keyed("c")])), []);
    scene.restart();
    assert_eq!(scene.tell(submit(0, vec![keyed("c"), keyed("a")])), []);
    let mixed = scene.ask(submit(3, vec![keyed("d"), spec()]));
    assert_eq!(mixed, Err(Refusal::KeyMissing(4)));
}

#[test]
fn one_owner_cannot_fill_the_queue() {
    let mut scene = Scene::with(vec![spec(), spec()]);
    scene.queue.config.owner_task_count_max = 2;
    let refused = scene.ask(submit(2, vec![spec()])).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "ann has 3 unfinished tasks in the queue; the broker takes no more than 2 from one owner"
    );
    scene.create(JobId([8; 16]), "bob", 0);
    scene.submit(JobId([8; 16]), vec![spec()]);
    scene.queue.config.owner_task_count_max = 9;
    scene.queue.config.owner_bytes_max = 10;
    let mut large = spec();
    large.parameters = Payload::Inline(vec![0; 11].into());
    assert!(matches!(
        scene.ask(submit(2, vec![large])),
        Err(Refusal::OwnerFull { found: 11, .. })
    ));
    scene.join(hello(1, 2));
    for tried in scene.dispatch() {
        scene.report(tried, success(1));
    }
    scene.queue.config.owner_task_count_max = 1;
    scene.tell(submit(2, vec![spec()]));
}

#[test]
fn demands_on_workers_have_a_bound() {
    let mut scene = Scene::new();
    scene.create(JOB, "ann", 0);
    let demanding = |memory_bytes| TaskSpec {
        resources: Resources {
            slot_count: 1,
            memory_bytes,
        },
        ..spec()
    };
    for n in 0..crate::NEED_COUNT_MAX as u64 {
        scene.tell(submit(n, vec![demanding(n)]));
    }
    let one_more = submit(256, vec![demanding(1 << 40)]);
    assert_eq!(scene.ask(one_more.clone()), Err(Refusal::TooManyNeeds));
    scene.tell(Command::CancelTasks {
        tasks: crate::TaskSelection::Tasks {
            job: NUMBER,
            indices: vec![3],
        },
    });
    scene.tell(one_more);
}

fn create_with(scene: &mut Scene, terms: JobTerms) {
    scene.tell(Command::CreateJob {
        id: JOB,
        owner: "ann".into(),
        name: "".into(),
        priority: 0,
        terms,
    });
}

#[test]
fn a_job_is_kept_as_long_as_its_customer_said() {
    let mut scene = Scene::new();
    create_with(
        &mut scene,
        JobTerms {
            keep_ms: Some(5_000),
            ..JobTerms::default()
        },
    );
    scene.tell(Command::CloseJob { job: JOB });
    assert_eq!(scene.pass(4_999), []);
    assert_eq!(scene.pass(1), [Event::JobForgotten { job: NUMBER }]);
}

#[test]
fn a_job_whose_customer_vanished_is_cancelled_after_its_grace_time() {
    let mut scene = Scene::new();
    create_with(
        &mut scene,
        JobTerms {
            absence_ms_max: Some(10_000),
            ..JobTerms::default()
        },
    );
    scene.submit(JOB, vec![spec()]);
    let watch = |begins| Command::Watch {
        job: NUMBER,
        begins,
    };
    scene.pass(9_000);
    scene.tell(watch(true));
    scene.tell(watch(true));
    scene.tell(watch(false));
    scene.pass(60_000);
    assert_eq!(scene.state(0), TaskState::Waiting, "one still watches");
    scene.tell(watch(false));
    scene.pass(9_999);
    assert_eq!(scene.state(0), TaskState::Waiting);
    scene.restart();
    scene.pass(9_999);
    assert_eq!(
        scene.state(0),
        TaskState::Waiting,
        "a restart is no absence"
    );
    scene.pass(1);
    assert_eq!(scene.state(0), TaskState::Cancelled);
}

#[test]
fn a_submit_cannot_bring_more_needs_than_there_may_be() {
    let needy = |memory_bytes| TaskSpec {
        resources: Resources {
            slot_count: 1,
            memory_bytes,
        },
        ..after(&[0])
    };
    let most = crate::NEED_COUNT_MAX as u64;
    // Also while they wait for other tasks.
    let mut scene = Scene::with(vec![spec()]);
    let refused = scene.ask(submit(1, (1..=most).map(needy).collect()));
    assert_eq!(refused, Err(Refusal::TooManyNeeds));
    scene.tell(submit(1, (1..most).map(needy).collect()));
    assert_eq!(
        scene.ask(submit(most, vec![needy(most)])),
        Err(Refusal::TooManyNeeds)
    );
    scene.tell(Command::CancelTasks {
        tasks: crate::TaskSelection::Tasks {
            job: NUMBER,
            indices: vec![1],
        },
    });
    scene.tell(submit(most, vec![needy(most)]));
}

#[test]
fn all_that_is_kept_of_a_task_counts_towards_its_owners_bytes() {
    let wide = TaskSpec {
        inputs: vec![Input {
            source: InputSource::Blob(blob(1)),
            ranges: vec![(0, 1); 100],
        }],
        ..keyed("wide")
    };
    for heavy in [wide, after(&[0; 100]), keyed(&"k".repeat(1600))] {
        let mut scene = Scene::with(vec![keyed("first")]);
        scene.queue.config.owner_bytes_max = 1500;
        let refused = scene.ask(submit(1, vec![heavy]));
        assert!(matches!(refused, Err(Refusal::OwnerFull { .. })));
    }
}

#[test]
fn one_owner_cannot_open_jobs_without_end() {
    let mut scene = Scene::with(vec![]);
    scene.queue.config.owner_job_count_max = 1;
    let open = |owner: &str| Command::CreateJob {
        id: JobId([8; 16]),
        owner: owner.into(),
        name: "".into(),
        priority: 0,
        terms: JobTerms::default(),
    };
    let refused = scene.ask(open("ann")).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "ann has 2 open jobs in the queue; the broker takes no more than 1 from one owner"
    );
    scene.tell(open("bob"));
    scene.create(JOB, "ann", 0);
    scene.tell(Command::CloseJob { job: JOB });
    scene.tell(Command::CreateJob {
        id: JobId([9; 16]),
        owner: "ann".into(),
        name: "".into(),
        priority: 0,
        terms: JobTerms::default(),
    });
}

#[test]
fn a_job_that_nobody_closes_is_closed_and_forgotten_some_day() {
    let mut scene = Scene::with(vec![spec()]);
    scene.join(hello(1, 1));
    let tried = scene.dispatch()[0];
    scene.report(tried, success(1));
    let watch = |begins| Command::Watch {
        job: NUMBER,
        begins,
    };
    scene.tell(watch(true));
    let keep_ms = scene.queue.config.keep_ms;
    scene.pass(2 * keep_ms);
    let is_closed = |scene: &Scene| scene.queue.job(NUMBER).map(|job| job.is_closed());
    assert_eq!(is_closed(&scene), Some(false), "somebody watches");
    scene.tell(watch(false));
    scene.pass(keep_ms - 1);
    assert_eq!(is_closed(&scene), Some(false));
    scene.pass(1);
    assert_eq!(is_closed(&scene), Some(true));
    scene.pass(keep_ms);
    assert_eq!(is_closed(&scene), None);
}

#[test]
fn a_short_keep_time_closes_no_job_whose_customer_is_about_to_submit() {
    let mut scene = Scene::new();
    scene.tell(Command::CreateJob {
        id: JOB,
        owner: "ann".into(),
        name: "".into(),
        priority: 0,
        terms: JobTerms {
            keep_ms: Some(1),
            ..JobTerms::default()
        },
    });
    scene.pass(3_600_000);
    scene.submit(JOB, vec![spec()]);
    scene.pass(10 * 24 * 3_600_000);
    assert_eq!(scene.state(0), TaskState::Waiting);
}

#[test]
fn a_keyed_submit_that_is_partly_known_waits_for_what_it_named() {
    let mut scene = Scene::with(vec![keyed("b")]);
    // The customer counts a, b, c and d from 0.
    let reader = TaskSpec {
        after: vec![1],
        inputs: vec![Input {
            source: InputSource::Output {
                task_index: 0,
                part: crate::OutputPart::Message,
            },
            ranges: Vec::new(),
        }],
        ..keyed("c")
    };
    let last = TaskSpec {
        after: vec![2],
        ..keyed("d")
    };
    let all = vec![keyed("a"), keyed("b"), reader, last];
    scene.tell(submit(0, all.clone()));
    let waits_for = |scene: &Scene, key| {
        let job = scene.queue.job(NUMBER).unwrap();
        let task = job.task(job.index_of_key(key).unwrap()).unwrap();
        let named = task.waits_for().map(|index| job.task(index).unwrap());
        named
            .map(|task| task.spec().key.clone().unwrap().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(waits_for(&scene, "c"), ["b", "a"]);
    assert_eq!(waits_for(&scene, "d"), ["c"]);
    assert_eq!(scene.tell(submit(0, all)), []);
}
