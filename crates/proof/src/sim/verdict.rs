//! What must hold: each outcome as it comes, the queue's own invariants, and at the end everything, from memory and disk.

use super::{
    customer::plan,
    style::Style,
    world::{JobModel, World},
};
use anyhow::{Result, bail, ensure};
use dewar_broker::store::Store as _;
use dewar_queue::{
    Config, FailureClass, Job, JobNumber, Outcome, OutcomeResult, Output, Payload, Queue,
};
use std::{collections::BTreeSet, rc::Rc, time::Duration};
use tokio::time::sleep;

/// An outcome on its way to its customer.
pub(super) fn see(
    world: &World,
    who: &str,
    style: Style,
    sequence: u64,
    outcome: &Outcome,
) -> Result<()> {
    let task = outcome.task;
    ensure!(
        outcome.sequence == sequence,
        "{task}: outcome {} comes where {sequence} should",
        outcome.sequence
    );
    let plan = plan(task.index);
    let what = match &outcome.result {
        OutcomeResult::Succeeded(output) if !plan.always_fails => {
            let expected = style.parameters(task.job, task.index);
            let expected = expected.iter().map(|byte| !byte).collect();
            let expected = Output {
                message: Payload::Inline(expected),
                blobs: Vec::new(),
            };
            ensure!(*output == expected, "{task} gives {output:?}");
            ensure!(
                style.reuses || !outcome.reused,
                "{task} was given what another had, and wants none"
            );
            world.count(|counts| counts.reused += u64::from(outcome.reused));
            "succeeded"
        }
        OutcomeResult::Failed(failure) => match failure.class {
            FailureClass::KernelError if plan.always_fails => "failed",
            FailureClass::KilledWorkers => {
                world.count(|counts| counts.set_aside += 1);
                "set aside"
            }
            FailureClass::WorkerLost if plan.always_fails => "lost",
            FailureClass::Dependency if plan.after.is_some() => "failed with another",
            _ => bail!("{task} failed: {failure:?}"),
        },
        OutcomeResult::Cancelled => "cancelled",
        OutcomeResult::Succeeded(_) => bail!("{task} succeeded, and never does"),
    };
    world.count(|counts| counts.outcomes += 1);
    world.note(who, format_args!("sees {task} {what} as {sequence}"));
    Ok(())
}

/// Looks at the queue's invariants now and then.
pub(super) async fn look_on(world: Rc<World>, every: Duration) -> Result<()> {
    loop {
        sleep(every).await;
        let door = world.door().await;
        if let Ok(checked) = door.look(Queue::check).await {
            checked?;
        }
    }
}

/// When all has ended: the broker's queue, and the one that its disk would give, are what the customers saw.
pub(super) async fn conclude(world: &World) -> Result<()> {
    let jobs: Vec<(JobNumber, JobModel)> = {
        let jobs = world.jobs.borrow();
        jobs.iter()
            .map(|(number, job)| (*number, job.clone()))
            .collect()
    };
    let mut store = world.memory.copy();
    let mut restored = Queue::new(Config::new(store.broker_start() + 1));
    store.replay(&mut |event| restored.apply(&event))?;
    compare(&restored, &jobs)?;
    let door = world.door().await;
    door.look(move |queue| compare(queue, &jobs)).await?
}

fn compare(queue: &Queue, jobs: &[(JobNumber, JobModel)]) -> Result<()> {
    queue.check()?;
    for (number, model) in jobs {
        check_model(*number, model)?;
        // Finished long ago, it may have been forgotten; its customer had seen it all.
        if let Some(job) = queue.job(*number) {
            check_job(job, model)?;
        }
    }
    Ok(())
}

fn check_model(number: JobNumber, model: &JobModel) -> Result<()> {
    let count = model.outcomes.len() as u64;
    let runs = model.outcomes.iter();
    let runs: BTreeSet<_> = runs
        .map(|outcome| (outcome.task, outcome.generation))
        .collect();
    ensure!(
        runs.len() as u64 == count,
        "{number}: a task has two outcomes of one generation"
    );
    let tasks: BTreeSet<_> = runs.into_iter().map(|(task, _)| task).collect();
    let count = tasks.len() as u64;
    ensure!(
        (model.acknowledged..=model.sent).contains(&count),
        "{number}: {} tasks acknowledged, {} sent, {count} outcomes",
        model.acknowledged,
        model.sent
    );
    let last = tasks.last().map_or(0, |task| task.index + 1);
    ensure!(
        last == count,
        "{number}: {count} outcomes, and one of task {last}"
    );
    let is_cancelled = |outcome: &Outcome| outcome.result == OutcomeResult::Cancelled;
    for outcome in &model.outcomes {
        check_order(outcome, model)?;
    }
    ensure!(
        model.cancelled
            || model.style.may_be_missed()
            || !model.outcomes.iter().any(|outcome| is_cancelled(outcome)),
        "{number}: a task is cancelled, and nobody asked for it"
    );
    Ok(())
}

/// A task that waited for another ended after it, and well only if that did.
fn check_order(outcome: &Outcome, model: &JobModel) -> Result<()> {
    let task = outcome.task;
    // What runs once more finds the others ended.
    let Some(after) = plan(task.index).after.filter(|_| outcome.generation == 0) else {
        return Ok(());
    };
    let first = model
        .outcomes
        .iter()
        .find(|first| first.task.index == after);
    let Some(first) = first else {
        bail!("{task} ended, and what it waits for never did");
    };
    let succeeded = |outcome: &Outcome| matches!(outcome.result, OutcomeResult::Succeeded(_));
    if succeeded(outcome) {
        ensure!(
            first.sequence < outcome.sequence && succeeded(first),
            "{task} did not wait for {}",
            first.task
        );
    }
    let failed_with_it = matches!(&outcome.result, OutcomeResult::Failed(failure)
        if failure.class == FailureClass::Dependency);
    ensure!(
        !failed_with_it || !succeeded(first),
        "{task} failed for the sake of {}, which did not fail",
        first.task
    );
    Ok(())
}

fn check_job(job: &Job, model: &JobModel) -> Result<()> {
    let number = job.number();
    ensure!(job.id() == model.id, "{number} is another job");
    ensure!(job.is_finished(), "{number} is not finished");
    let outcomes: Vec<_> = job.outcomes_after(0).collect();
    let tasks: BTreeSet<_> = outcomes.iter().map(|outcome| outcome.task).collect();
    ensure!(
        outcomes.iter().copied().eq(&model.outcomes),
        "{number}: an outcome is not what its customer saw"
    );
    ensure!(
        tasks.len() as u64 == job.task_count(),
        "{number}: a task has no outcome"
    );
    Ok(())
}
