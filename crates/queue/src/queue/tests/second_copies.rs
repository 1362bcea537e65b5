//! Slow tasks run a second time near the end of a job.

use super::*;

#[test]
fn a_failing_second_copy_does_not_fail_a_task_that_runs() {
    let once = TaskSpec {
        attempts_max: 1,
        ..spec()
    };
    let mut scene = Scene::with(vec![once.clone(), once]);
    scene.join(hello(1, 2));
    let tries = scene.dispatch();
    scene.report(tries[0], success(1));
    scene.pass(10_000);
    scene.join(hello(2, 1));
    let second = scene.dispatch();
    for t in second {
        scene.report(t, failure(FailureClass::KernelError));
    }
    assert_eq!(scene.state(1), TaskState::Running);
}

#[test]
fn stragglers_before_a_last_step_get_second_copies() {
    for last in [false, true] {
        let mut specs = vec![spec(), spec()];
        if last {
            specs.push(after(&[0, 1]));
        }
        let mut scene = Scene::with(specs);
        scene.join(hello(1, 2));
        let tries = scene.dispatch();
        scene.report(tries[0], success(1));
        scene.pass(10_000);
        scene.join(hello(2, 1));
        assert_eq!(scene.dispatch().len(), 1, "blocked last step: {last}");
    }
}
