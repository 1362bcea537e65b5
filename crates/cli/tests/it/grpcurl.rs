//! A customer of another make: grpcurl looks at a live queue, by reflection alone.

use crate::{
    dewar::ran,
    lab::{Lab, SLOTS, TASKS},
};
use serde_json::Value;
use std::process::Command;

#[test]
fn grpcurl_lists_the_services_and_the_tasks_of_a_running_job() {
    let Some(grpcurl) = std::env::var_os("DEWAR_TEST_GRPCURL") else {
        eprintln!(
            "grpcurl_lists_the_services_and_the_tasks_of_a_running_job: skipped, since DEWAR_TEST_GRPCURL names no grpcurl"
        );
        return;
    };
    let lab = Lab::start();
    let grpcurl = |words: &[&str]| ran(Command::new(&grpcurl).arg("-plaintext").args(words));
    let authorization = format!("authorization: Bearer {}", lab.token());

    // Reflection and health take no token.
    let services = grpcurl(&[lab.address(), "list"]).ok().stdout;
    let services: Vec<&str> = services.lines().collect();
    for service in [
        "dewar.v1.Admin",
        "dewar.v1.Blobs",
        "dewar.v1.Fleet",
        "dewar.v1.Jobs",
        "grpc.health.v1.Health",
    ] {
        assert!(services.contains(&service), "{services:?}");
    }
    let health = grpcurl(&[lab.address(), "grpc.health.v1.Health/Check"])
        .ok()
        .json();
    assert_eq!(health["status"], "SERVING");

    let request = format!("{{\"job\": {{\"number\": {}}}}}", lab.job.number());
    let list = ["-d", &request, lab.address(), "dewar.v1.Jobs/ListTasks"];
    let tasks = grpcurl(&[&["-H", authorization.as_str()][..], &list].concat())
        .ok()
        .json();
    let tasks = tasks["tasks"].as_array().expect("tasks");
    assert_eq!(tasks.len(), TASKS);
    let running = |task: &&Value| task["state"] == "TASK_STATE_RUNNING";
    assert!(tasks.iter().filter(running).count() >= usize::from(SLOTS));
    assert_eq!(tasks[0]["kind"]["name"], "test.hold");

    let refused = grpcurl(&list);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(refused.stderr.contains("Unauthenticated"), "{refused:?}");
}
