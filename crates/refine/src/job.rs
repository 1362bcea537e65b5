//! A run's job at the broker, be it a refinement's or a classification's: opened, given its stacks, ended.

use crate::{
    error::RefineError,
    folder,
    progress::{Observer, Progress},
};
use dewar_formats::particles::ParticleSet;
use dewar_sdk::{BlobRef, Client, FileProgress, Job, JobId, JobOptions};
use std::{path::Path, sync::Arc, time::Duration};

/// How long a job is kept once it has ended: for so long an interrupted run finds again what its unfinished round had
/// computed.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// After so long without its program a job needs no more work: one that lives watches its job all the time.
const ABSENCE_MAX: Duration = Duration::from_secs(3600);

/// Cancels the job that a customer which died left behind: its tasks would keep workers from this run's.
pub(crate) async fn cancel_abandoned(client: &Client, out: &Path, observer: &dyn Observer) {
    if let Some(job) = folder::remembered_job(out)
        && client.cancel_job(job).await.is_ok()
    {
        observer.on(Progress::Note(
            "cancelled what an interrupted run had left at the broker",
        ));
    }
}

/// Opens the job of the verb `verb` on `particles`. The note of the job is written first: a job that was never opened is
/// cancelled in vain, but none is ever left behind.
///
/// # Errors
/// If the note cannot be written or the broker refuses.
pub(crate) async fn open(
    client: &Client,
    out: &Path,
    verb: &str,
    particles: &Path,
) -> Result<Job, RefineError> {
    let name = particles.file_name().unwrap_or_default().to_string_lossy();
    let id = JobId::new();
    folder::remember_job(out, id)?;
    let options = JobOptions {
        id: Some(id),
        keep: Some(KEEP),
        absence_max: Some(ABSENCE_MAX),
        reuse: true,
        ..JobOptions::named(format!("{verb} {name}"))
    };
    Ok(client.open_job(options).await?)
}

/// Makes a blob of each stack.
///
/// # Errors
/// If one cannot be read or the broker refuses.
pub(crate) async fn import_stacks(
    job: &Job,
    set: &ParticleSet,
    observer: &Arc<dyn Observer>,
) -> Result<Vec<BlobRef>, RefineError> {
    let mut blobs = Vec::new();
    for stack in &set.stacks {
        let (observer, path) = (Arc::clone(observer), stack.path.clone());
        let progress = move |progress: FileProgress| {
            let (FileProgress::Hashed {
                done_bytes,
                size_bytes,
            }
            | FileProgress::Sent {
                done_bytes,
                size_bytes,
            }) = progress;
            observer.on(Progress::Importing {
                stack: &path,
                done_bytes,
                total_bytes: size_bytes,
            });
        };
        blobs.push(job.import_file(&stack.path, progress).await?);
    }
    Ok(blobs)
}

/// Closes a job that came to its end and cancels one that did not. Whether that was done: a broker that is away keeps the
/// job, and the folder its note.
///
/// # Errors
/// If a job that came to its end cannot be closed.
pub(crate) async fn end<T>(
    job: &Job,
    out: &Path,
    result: &Result<T, RefineError>,
) -> Result<bool, RefineError> {
    match result {
        Ok(_) => job.close().await.map(drop)?,
        // The first error is the one to tell.
        Err(_) if job.cancel().await.is_err() => return Ok(false),
        Err(_) => {}
    }
    folder::forget_job(out);
    Ok(true)
}
