//! Tasks that wait for others, and read what those give.

use super::*;
use crate::OutputPart;

/// Reads the first blob of task `index`.
fn reading(index: u64) -> TaskSpec {
    let source = InputSource::Output {
        task_index: index,
        part: OutputPart::Blob(0),
    };
    TaskSpec {
        inputs: vec![Input {
            source,
            ranges: Vec::new(),
        }],
        ..spec()
    }
}

fn begun(tries: &[(TaskId, AttemptId, WorkerId)]) -> Vec<u64> {
    tries.iter().map(|(task, ..)| task.index).collect()
}

#[test]
fn a_task_begins_when_all_it_waits_for_has_succeeded_and_sees_what_was_given() {
    let mut scene = Scene::with(vec![spec(), spec(), after(&[0]), reading(1)]);
    scene.join(hello(1, 4));
    let tries = scene.dispatch();
    assert_eq!(begun(&tries), [0, 1]);
    scene.report(tries[0], success(7));
    assert_eq!(begun(&scene.dispatch()), [2]);
    scene.report(tries[1], success(8));
    assert_eq!(begun(&scene.dispatch()), [3]);
    let assignment = scene.queue.assignment(task(3)).unwrap();
    assert_eq!(assignment.inputs[0].source, InputSource::Blob(blob(8)));
    scene.restart();
    let assignment = scene.queue.assignment(task(3)).unwrap();
    assert_eq!(assignment.inputs[0].source, InputSource::Blob(blob(8)));
}

#[test]
fn a_message_is_an_input_too() {
    let mut waiting = reading(0);
    waiting.inputs[0].source = InputSource::Output {
        task_index: 0,
        part: OutputPart::Message,
    };
    let mut scene = Scene::with(vec![spec(), waiting]);
    scene.join(hello(1, 1));
    let tried = scene.dispatch()[0];
    scene.report(tried, success(5));
    let message = Payload::Inline(Arc::from([5]));
    let assignment = scene.queue.assignment(task(1)).unwrap();
    assert_eq!(assignment.inputs[0].source, InputSource::Message(message));
}

#[test]
fn what_is_read_stays_although_the_customer_gives_it_up() {
    let mut scene = Scene::with(vec![spec(), reading(0)]);
    scene.join(hello(1, 1));
    let tried = scene.dispatch()[0];
    scene.report(tried, success(3));
    scene.tell(Command::ReleaseBlobs {
        job: JOB,
        digests: vec![digest(3)],
    });
    assert!(scene.queue.is_held(&digest(3)));
    let tried = scene.dispatch()[0];
    scene.report(tried, success(4));
    assert!(!scene.queue.is_held(&digest(3)));
}

#[test]
fn failure_passes_on_to_all_that_wait_and_says_from_where() {
    let mut scene = Scene::with(vec![spec(), after(&[0]), reading(1), spec()]);
    scene.join(hello(1, 1));
    let tried = scene.dispatch()[0];
    scene.report(tried, failure(FailureClass::BadInput));
    for index in [1, 2] {
        assert_eq!(scene.failure_class(index), Some(FailureClass::Dependency));
    }
    let why = scene
        .queue
        .task(task(2))
        .unwrap()
        .failure()
        .unwrap()
        .clone();
    assert_eq!(why.message, "j1.1, which it waits for, failed");
    assert_eq!(scene.state(3), TaskState::Running);
    scene.submit(JOB, vec![after(&[1])]);
    assert_eq!(
        scene.failure_class(4),
        Some(FailureClass::Dependency),
        "at once"
    );
    let states = [0, 1, 2, 4].map(|index| scene.state(index));
    scene.restart();
    assert_eq!(states, [0, 1, 2, 4].map(|index| scene.state(index)));
}

#[test]
fn reading_a_blob_that_was_not_given_fails() {
    let mut waiting = reading(0);
    waiting.inputs[0].source = InputSource::Output {
        task_index: 0,
        part: OutputPart::Blob(1),
    };
    let mut scene = Scene::with(vec![spec(), waiting, after(&[1])]);
    scene.join(hello(1, 1));
    let tried = scene.dispatch()[0];
    scene.report(tried, success(3));
    assert_eq!(scene.failure_class(1), Some(FailureClass::Dependency));
    assert_eq!(scene.failure_class(2), Some(FailureClass::Dependency));
}

#[test]
fn nothing_waits_for_itself_or_for_what_comes_later() {
    let mut scene = Scene::with(vec![spec()]);
    for dependency in [1, 2] {
        let refused = scene.ask(Command::Submit {
            job: JOB,
            first_index: 1,
            specs: vec![Arc::new(after(&[dependency]))],
        });
        let index = 1;
        assert_eq!(refused, Err(Refusal::BadDependency { index, dependency }));
    }
}

#[test]
fn a_new_task_does_not_read_a_deleted_output() {
    let mut scene = Scene::with(vec![spec()]);
    scene.join(hello(1, 1));
    let t = scene.dispatch()[0];
    scene.report(t, success(3));
    scene.tell(Command::ReleaseBlobs {
        job: JOB,
        digests: vec![digest(3)],
    });
    assert_eq!(scene.queue.take_unheld(), [digest(3)]);
    scene.submit(JOB, vec![reading(0)]);
    assert_eq!(scene.dispatch(), [], "sent out to read a deleted blob");
}

#[test]
fn a_rerun_does_not_read_a_deleted_output() {
    let mut scene = Scene::with(vec![spec(), reading(0)]);
    scene.join(hello(1, 1));
    let t = scene.dispatch()[0];
    scene.report(t, success(3));
    let t = scene.dispatch()[0];
    scene.report(t, failure(FailureClass::BadInput));
    scene.tell(Command::ReleaseBlobs {
        job: JOB,
        digests: vec![digest(3)],
    });
    assert_eq!(
        scene.queue.take_unheld(),
        [digest(3)],
        "the shell deletes it"
    );
    let refused = scene.ask(Command::Rerun {
        tasks: crate::TaskSelection::Job(NUMBER),
        succeeded: false,
    });
    let gone = digest(3);
    assert!(
        matches!(&refused, Err(Refusal::InputsGone { digest, .. }) if *digest == gone),
        "sent out to read a deleted blob: {refused:?}"
    );
}
