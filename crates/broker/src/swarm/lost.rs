//! Tasks whose outputs are lost: found in the queue, and run again, with those whose outputs they read and that were
//! released since.

use crate::engine::{EngineError, EngineHandle, View};
use dewar_blobs::Digest;
use dewar_queue::{
    Command, Job, JobNumber, OutcomeResult, Output, Payload, Refusal, Task, TaskSelection,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// What comes of a lost blob: nothing to worry about, or why it stays lost.
pub(super) type Outlooks = HashMap<Digest, Result<(), Arc<str>>>;

/// Tasks by job, each with the lost blobs that it gave.
type Givers = BTreeMap<JobNumber, BTreeMap<u64, Vec<Digest>>>;

/// Tasks that are run again for one: a sum, and the parts of which it is one.
const TASKS_AGAIN_MAX: usize = 4096;

/// Runs the tasks again that gave these blobs, where their jobs go on and their inputs are there or can be given again.
pub(super) async fn rerun(engine: &EngineHandle, lost: Vec<Digest>) -> Outlooks {
    let lost: HashSet<_> = lost.into_iter().collect();
    // A broker that shuts down looks again at its next start.
    let givers = engine.query(move |view| givers(view, &lost)).await;
    let mut outlooks = Outlooks::new();
    for (job, tasks) in givers.unwrap_or_default() {
        for (index, digests) in tasks {
            let outlook = rerun_with_inputs(engine, job, index).await;
            let outlook = outlook.map_err(|refusal| {
                format!("{job}.{index} gave it, and is not run again: {refusal}").into()
            });
            for digest in digests {
                let known = outlooks.entry(digest).or_insert_with(|| outlook.clone());
                // One of several that gave it is enough.
                if outlook.is_ok() {
                    *known = Ok(());
                }
            }
        }
    }
    outlooks
}

/// Runs a task again, and before it those that gave what it reads and what is there no more. An input that no task of its
/// job gave, or that it knows by its digest alone, nobody can give again.
async fn rerun_with_inputs(
    engine: &EngineHandle,
    job: JobNumber,
    index: u64,
) -> Result<(), EngineError> {
    let mut indices = vec![index];
    loop {
        let tasks = TaskSelection::Tasks {
            job,
            indices: indices.clone(),
        };
        let succeeded = true;
        let refused = match engine.command(Command::Rerun { tasks, succeeded }).await {
            Ok(_) => return Ok(()),
            Err(refused) => refused,
        };
        let EngineError::Refused(Refusal::InputsGone { digest, .. }) = &refused else {
            return Err(refused);
        };
        let (gone, among) = (Digest(digest.0), indices.clone());
        let giver = engine.query(move |view| {
            let job = view.queue.job(job)?;
            dependency_that_gave(job, &among, gone)
        });
        match giver.await? {
            Some(giver) if !indices.contains(&giver) && indices.len() < TASKS_AGAIN_MAX => {
                indices.push(giver);
            }
            _ => return Err(refused),
        }
    }
}

/// The task that gave a blob, of those for which these waited.
fn dependency_that_gave(job: &Job, indices: &[u64], gone: Digest) -> Option<u64> {
    let tasks = indices.iter().filter_map(|index| job.task(*index));
    let mut dependencies = tasks.flat_map(|task| task.spec().dependencies());
    dependencies.find(|index| {
        let outcome = job.task(*index).and_then(Task::outcome);
        outcome.is_some_and(|outcome| match &outcome.result {
            OutcomeResult::Succeeded(output) => given_by(output).any(|gave| gave == gone),
            _ => false,
        })
    })
}

/// All tasks are looked at, which takes the engine tenths of a second for a million: machines are seldom lost.
fn givers(view: View<'_>, lost: &HashSet<Digest>) -> Givers {
    let mut givers = Givers::new();
    for job in view.queue.jobs().filter(|job| !job.is_finished()) {
        for outcome in job.outcomes_after(0) {
            let OutcomeResult::Succeeded(output) = &outcome.result else {
                continue;
            };
            // Of an earlier generation nobody wants anything.
            let task = job.task(outcome.task.index);
            let is_latest = task
                .and_then(|task| task.outcome())
                .is_some_and(|latest| Arc::ptr_eq(latest, outcome));
            let gave: Vec<_> = given_by(output)
                .filter(|digest| lost.contains(digest))
                .collect();
            if is_latest && !gave.is_empty() {
                let tasks = givers.entry(job.number()).or_default();
                tasks.insert(outcome.task.index, gave);
            }
        }
    }
    givers
}

fn given_by(output: &Output) -> impl Iterator<Item = Digest> {
    let message = match &output.message {
        Payload::Blob(blob) => Some(blob),
        _ => None,
    };
    let blobs = output.blobs.iter().chain(message);
    blobs.map(|blob| Digest(blob.digest.0))
}
