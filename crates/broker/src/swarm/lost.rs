//! Tasks whose outputs are lost: found in the queue, and run again.

use crate::engine::{EngineHandle, View};
use dewar_blobs::Digest;
use dewar_queue::{Command, JobNumber, OutcomeResult, Output, Payload, TaskSelection};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// What comes of a lost blob: nothing to worry about, or why it stays lost.
pub(super) type Outlooks = HashMap<Digest, Result<(), Arc<str>>>;

/// Tasks by job, each with the lost blobs that it gave.
type Givers = BTreeMap<JobNumber, BTreeMap<u64, Vec<Digest>>>;

/// Runs the tasks again that gave these blobs, where their jobs go on and their inputs are there.
pub(super) async fn rerun(engine: &EngineHandle, lost: Vec<Digest>) -> Outlooks {
    let lost: HashSet<_> = lost.into_iter().collect();
    // A broker that shuts down looks again at its next start.
    let givers = engine.query(move |view| givers(view, &lost)).await;
    let mut outlooks = Outlooks::new();
    for (job, tasks) in givers.unwrap_or_default() {
        for (index, digests) in tasks {
            let tasks = TaskSelection::Tasks {
                job,
                indices: vec![index],
            };
            let succeeded = true;
            let rerun = engine.command(Command::Rerun { tasks, succeeded }).await;
            let outlook = match rerun {
                Ok(_) => Ok(()),
                Err(refusal) => {
                    Err(format!("{job}.{index} gave it, and is not run again: {refusal}").into())
                }
            };
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
