//! Tasks that were computed before are answered from the earlier outcome.

use super::*;
use crate::Kernel;

const LATER: JobId = JobId([9; 16]);

fn known(parameters: u8) -> TaskSpec {
    TaskSpec {
        parameters_digest: Some(digest(parameters)),
        inputs: vec![Input {
            source: InputSource::Blob(blob(40)),
            ranges: vec![(0, 1)],
        }],
        ..spec()
    }
}

fn worker_of(n: u8, revision: u32, instruction_class: &str) -> WorkerHello {
    WorkerHello {
        kernels: vec![Kernel {
            kind: kind("a"),
            revision,
            deterministic: true,
        }],
        instruction_class: instruction_class.into(),
        ..hello(n, 1)
    }
}

fn create(scene: &mut Scene, id: JobId, reuse: bool) {
    scene.tell(Command::CreateJob {
        id,
        owner: "ann".into(),
        name: "".into(),
        priority: 0,
        terms: JobTerms {
            reuse,
            ..JobTerms::default()
        },
    });
}

/// One job has done its task; another has it to do.
fn scene(reuse: bool, later: TaskSpec) -> Scene {
    let mut scene = Scene::new();
    create(&mut scene, JOB, true);
    scene.submit(JOB, vec![known(1)]);
    scene.join(worker_of(1, 7, "v3"));
    let tried = scene.dispatch()[0];
    scene.report(tried, success(5));
    create(&mut scene, LATER, reuse);
    scene.submit(LATER, vec![later]);
    scene
}

fn is_answered(mut scene: Scene) -> bool {
    let begun = scene.dispatch();
    let task = TaskId {
        job: JobNumber(2),
        index: 0,
    };
    let outcome = scene.queue.task(task).unwrap().outcome().cloned();
    assert_eq!(begun.is_empty(), outcome.is_some());
    outcome.is_some_and(|outcome| {
        assert!(outcome.reused);
        assert_eq!(
            outcome.result,
            crate::OutcomeResult::Succeeded(Output {
                message: Payload::Inline(Arc::from([5])),
                blobs: vec![blob(5)],
            })
        );
        true
    })
}

#[test]
fn an_equal_task_is_answered_and_an_unequal_one_is_not() {
    assert!(is_answered(scene(true, known(1))));
    assert!(!is_answered(scene(false, known(1))), "its job did not ask");
    assert!(!is_answered(scene(true, known(2))));
    let mut other = known(1);
    other.inputs[0].ranges = vec![(0, 2)];
    assert!(!is_answered(scene(true, other)));
    let mut other = known(1);
    other.inputs.clear();
    assert!(!is_answered(scene(true, other)));
}

#[test]
fn another_kernel_or_machine_computes_anew() {
    for (revision, class, expected) in [(7, "v3", true), (8, "v3", false), (7, "v4", false)] {
        let mut scene = scene(true, known(1));
        scene.tell(Command::Drain { worker: worker(1) });
        scene.join(worker_of(2, revision, class));
        assert_eq!(is_answered(scene), expected);
    }
}

#[test]
fn what_was_given_up_is_computed_anew() {
    let mut given_up = scene(true, known(1));
    given_up.tell(Command::ReleaseBlobs {
        job: JOB,
        digests: vec![digest(5)],
    });
    assert!(!is_answered(given_up));
    let mut forgotten = scene(true, known(1));
    forgotten.tell(Command::CloseJob { job: JOB });
    forgotten.pass(forgotten.queue.config.keep_ms);
    forgotten.join(worker_of(1, 7, "v3"));
    assert!(!is_answered(forgotten));
}

#[test]
fn what_is_known_survives_a_restart_and_a_cancelled_job() {
    let mut scene = scene(true, known(1));
    scene.tell(Command::CancelJob { job: JOB });
    scene.restart();
    scene.join(worker_of(1, 7, "v3"));
    assert!(is_answered(scene));
}

#[test]
fn a_result_of_an_old_kernel_is_not_taken_for_a_new_ones() {
    let hello_of = |revision| WorkerHello {
        kernels: vec![Kernel {
            kind: kind("a"),
            revision,
            deterministic: true,
        }],
        ..hello(1, 1)
    };
    let mut scene = Scene::with(vec![TaskSpec {
        parameters_digest: Some(digest(1)),
        ..spec()
    }]);
    scene.join(hello_of(7));
    let t = scene.dispatch()[0];
    scene.tell(Command::Disconnect { worker: worker(1) });
    let mut upgraded = hello_of(8);
    upgraded.held = vec![HeldAttempt {
        task: t.0,
        attempt: t.1,
    }];
    scene.join(upgraded);
    scene.report(t, success(1));
    let outcome = scene
        .queue
        .task(task(0))
        .unwrap()
        .outcome()
        .unwrap()
        .clone();
    assert_ne!(
        outcome.made_by.as_ref().map(|made| made.revision),
        Some(8),
        "revision 7 computed it"
    );
}

#[test]
fn what_any_worker_of_a_mixed_fleet_made_is_reused() {
    let mut scene = scene(true, known(1));
    // The least loaded, and the first of equals.
    scene.join(worker_of(0, 7, "v4"));
    assert!(is_answered(scene));
}

#[test]
fn what_one_job_let_go_of_is_reused_from_another_that_keeps_it() {
    let mut scene = scene(true, known(1));
    scene.dispatch();
    assert_eq!(scene.queue.counts().succeeded, 2);
    scene.tell(Command::ReleaseBlobs {
        job: LATER,
        digests: vec![digest(5)],
    });
    let third = JobId([10; 16]);
    create(&mut scene, third, true);
    scene.submit(third, vec![known(1)]);
    scene.dispatch();
    assert_eq!(scene.queue.counts().succeeded, 3);
}

#[test]
fn a_rerun_is_computed_although_an_equal_task_was() {
    let mut scene = scene(true, known(1));
    scene.dispatch();
    scene.tell(Command::HoldBlob {
        job: JOB,
        blob: blob(40),
    });
    scene.tell(Command::Rerun {
        tasks: crate::TaskSelection::Job(NUMBER),
        succeeded: true,
    });
    assert_eq!(scene.dispatch().len(), 1);
}

#[test]
fn a_message_in_a_pack_file_is_known_by_what_gave_it() {
    let packed = |offset| {
        TaskResult::Succeeded(Output {
            message: Payload::Packed {
                file: 1,
                offset,
                length: 5000,
                checksum: 7,
            },
            blobs: Vec::new(),
        })
    };
    let reader = TaskSpec {
        inputs: vec![Input {
            source: InputSource::Output {
                task_index: 0,
                part: crate::OutputPart::Message,
            },
            ranges: Vec::new(),
        }],
        ..known(2)
    };
    let mut scene = Scene::new();
    scene.join(worker_of(1, 7, "v3"));
    for (id, parameters) in [(JOB, 1), (LATER, 1), (JobId([10; 16]), 3)] {
        create(&mut scene, id, true);
        scene.submit(id, vec![known(parameters), reader.clone()]);
        for offset in [0, 5000] {
            let tries = scene.dispatch();
            assert_eq!(tries.is_empty(), id == LATER, "{tries:?}");
            for tried in tries {
                scene.report(tried, packed(offset));
            }
        }
    }
    let reused = scene.queue.jobs().flat_map(|job| job.outcomes_after(0));
    assert_eq!(reused.filter(|outcome| outcome.reused).count(), 2);
}
