//! A refinement's result does not depend on who computed it, or on what died on the way.

use anyhow::{Result, ensure};
use dewar_testkit::{
    BrokerOptions, Guarded, Programs, WorkerOptions,
    refinement::{Case, differing_outputs, finished_rounds, running_tasks},
    wait_until,
};
use serde_json::Value;
use std::{path::Path, thread, time::Duration};

/// Rounds of the small refinement.
const ROUNDS: usize = 3;

/// Longer than any run here takes on a slow machine.
const LIMIT: Duration = Duration::from_secs(300);

fn small_case(programs: &Programs, folder: &Path) -> Result<Case> {
    // Over 256 particles in each half, so that there are several blocks and shards.
    let data = [
        "--particles",
        "600",
        "--snr",
        "0.5",
        "--box",
        "32",
        "--pixel-size",
        "7",
        "--seed",
        "5",
    ];
    let rounds = ROUNDS.to_string();
    Case::simulate(
        programs,
        &folder.join("data"),
        &data,
        &["--iterations", &rounds, "--diameter", "170"],
    )
}

fn broker_options(folder: &Path) -> BrokerOptions {
    BrokerOptions {
        data_dir: folder.join("broker"),
        exports: vec![folder.join("data")],
        listen: "127.0.0.1:0".to_owned(),
    }
}

fn worker_options(folder: &Path, name: &str) -> WorkerOptions {
    WorkerOptions {
        name: name.to_owned(),
        slot_count: 1,
        cache_dir: folder.join(format!("cache-{name}")),
    }
}

#[test]
fn one_thread_two_threads_and_dying_workers_give_the_same_bytes() -> Result<()> {
    let programs = Programs::beside_test()?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let case = small_case(&programs, folder)?;
    case.refine_in_process(&programs, 1, &folder.join("thread1"))?;
    case.refine_in_process(&programs, 2, &folder.join("thread2"))?;
    assert_eq!(
        differing_outputs(&folder.join("thread1"), &folder.join("thread2"))?,
        [""; 0]
    );

    let out = folder.join("workers");
    let broker = programs.start_broker(&broker_options(folder))?;
    let steady = programs.start_worker(&broker, &worker_options(folder, "steady"))?;
    let mut doomed: Option<Guarded> = None;
    let mut refinement = case.start_refine(&programs, &broker, &out)?;
    let mut rounds_with_a_death = 0;
    // In every round, one worker is killed while tasks run, and another comes in its place.
    wait_until("the refinement with dying workers", LIMIT, || {
        if doomed.is_none() {
            let name = format!("doomed{rounds_with_a_death}");
            doomed = Some(programs.start_worker(&broker, &worker_options(folder, &name))?);
        }
        let round = finished_rounds(&out) + 1;
        if round > rounds_with_a_death
            && round <= ROUNDS
            && worker_runs_a_task(&programs, &broker, "doomed")?
        {
            doomed.take().expect("started above").kill()?;
            rounds_with_a_death = round;
        }
        Ok(!refinement.is_running()?)
    })?;
    ensure!(
        rounds_with_a_death == ROUNDS,
        "only the rounds up to {rounds_with_a_death} saw a worker die"
    );
    assert_eq!(differing_outputs(&folder.join("thread1"), &out)?, [""; 0]);
    steady.stop()?;
    broker.stop()
}

fn worker_runs_a_task(
    programs: &Programs,
    broker: &dewar_testkit::Broker,
    prefix: &str,
) -> Result<bool> {
    let workers = dewar_testkit::refinement::json(
        programs
            .dewar()
            .args(["workers", "--json"])
            .args(broker.flags()),
    )?;
    let workers = workers["workers"].as_array().cloned().unwrap_or_default();
    Ok(workers.iter().any(|worker| {
        let name = worker["name"].as_str().unwrap_or_default();
        name.starts_with(prefix)
            && worker["state"] == "up"
            && worker["running_count"].as_u64() > Some(0)
    }))
}

/// The keys of a job's tasks that are so.
fn tasks_where(
    programs: &Programs,
    broker: &dewar_testkit::Broker,
    job: &str,
    is_so: impl Fn(&Value) -> bool,
) -> Result<Vec<String>> {
    let tasks = dewar_testkit::refinement::json(
        programs
            .dewar()
            .args(["tasks", job, "--json"])
            .args(broker.flags()),
    )?;
    let tasks = tasks["tasks"].as_array().cloned().unwrap_or_default();
    let wanted = tasks.iter().filter(|task| is_so(task));
    Ok(wanted
        .filter_map(|task| task["key"].as_str().map(str::to_owned))
        .collect())
}

#[test]
fn a_broker_killed_and_started_again_half_a_minute_later_costs_nothing_but_time() -> Result<()> {
    let programs = Programs::beside_test()?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let case = small_case(&programs, folder)?;
    case.refine_in_process(&programs, 2, &folder.join("undisturbed"))?;

    let out = folder.join("disturbed");
    let options = broker_options(folder);
    let broker = programs.start_broker(&options)?;
    let address = broker.address.clone();
    let workers = [
        programs.start_worker(&broker, &worker_options(folder, "first"))?,
        programs.start_worker(&broker, &worker_options(folder, "second"))?,
    ];
    let mut refinement = case.start_refine(&programs, &broker, &out)?;
    wait_until("tasks of the second round", LIMIT, || {
        ensure!(
            refinement.is_running()?,
            "the refinement ended before the broker could be killed"
        );
        Ok(finished_rounds(&out) >= 1 && running_tasks(&programs, &broker)? > 0)
    })?;
    broker.kill()?;
    // The length of the absence is what is tested: well past every lease and retry.
    thread::sleep(Duration::from_secs(30));
    ensure!(
        refinement.is_running()?,
        "the refinement gave up while the broker was away"
    );

    let broker = programs.start_broker(&BrokerOptions {
        listen: address,
        ..options
    })?;
    wait_until("the refinement after the broker came back", LIMIT, || {
        Ok(!refinement.is_running()?)
    })?;
    assert_eq!(
        differing_outputs(&folder.join("undisturbed"), &out)?,
        [""; 0]
    );
    for worker in workers {
        worker.stop()?;
    }
    broker.stop()
}

#[test]
fn a_refinement_killed_and_run_again_computes_nothing_twice() -> Result<()> {
    let programs = Programs::beside_test()?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let case = small_case(&programs, folder)?;
    case.refine_in_process(&programs, 2, &folder.join("undisturbed"))?;

    let out = folder.join("disturbed");
    let broker = programs.start_broker(&broker_options(folder))?;
    let worker = programs.start_worker(
        &broker,
        &WorkerOptions {
            slot_count: 2,
            ..worker_options(folder, "worker")
        },
    )?;
    let mut refinement = case.start_refine(&programs, &broker, &out)?;
    wait_until("the middle of a later round", LIMIT, || {
        ensure!(
            refinement.is_running()?,
            "the refinement ended before it could be killed"
        );
        let round = finished_rounds(&out);
        let of_next = format!("r{} ", round + 1);
        let succeeded = || {
            tasks_where(&programs, &broker, "j1", |task| {
                task["state"] == "succeeded"
            })
        };
        Ok(
            (1..ROUNDS).contains(&round)
                && succeeded()?.iter().any(|key| key.starts_with(&of_next)),
        )
    })?;
    refinement.kill()?;
    let first_round = std::fs::metadata(out.join("it001/state.json"))?.modified()?;

    let mut refinement = case.start_refine(&programs, &broker, &out)?;
    wait_until("the refinement run again", LIMIT, || {
        Ok(!refinement.is_running()?)
    })?;
    assert_eq!(
        std::fs::metadata(out.join("it001/state.json"))?.modified()?,
        first_round,
        "round 1 was done again"
    );
    let reused = tasks_where(&programs, &broker, "j2", |task| task["reused"] == true)?;
    ensure!(
        !reused.is_empty(),
        "what the broken round had computed was computed again"
    );
    assert_eq!(
        differing_outputs(&folder.join("undisturbed"), &out)?,
        [""; 0]
    );
    worker.stop()?;
    broker.stop()
}
