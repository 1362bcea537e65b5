//! `dewar precache`: fills the workers' caches before any task needs them.

mod files;

use crate::{broker, failure::Failure, interrupt::Interrupt, output, progress::Bar, size};
use anyhow::anyhow;
use clap::Args;
use dewar_sdk::{BlobRef, Client, FileProgress, ImportError, Job, JobOptions, PrecacheProgress};
use dewar_settings::ConnectArgs;
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::runtime;

/// Has workers fetch files before any task needs them.
///
/// Files in a folder that the broker exports stay where they are; others are sent to it first. Each site gets a file from
/// the broker about once, and its workers get the rest from one another. The stacks of a particle file (STAR) go with it.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar precache particles.star\n  dewar precache --site cluster stacks/*.mrcs\n\n\
    What had to be sent to the broker is kept there for a day after. Workers on the broker's machine read it there and \
    fetch nothing. Ctrl-C stops it; workers keep what they have fetched, and the same command goes on from there.\n\
    Exit codes: 0 every worker has every file, 1 a worker could not (stderr says which and why) or there is none, 2 the \
    command line or a file was wrong, 3 the broker was not reached\n\
    JSON keys: files (of each: path, digest, size_bytes), worker_count (that fetch), held_bytes and wanted_bytes (of all \
    workers together), failures (which worker could not, and why)"
)]
pub struct Options {
    /// Files that tasks will need. Particle files (STAR) bring their stacks.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only workers of this site, as `dewar workers` has it.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// Folder from which image names in STAR files count.
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    #[command(flatten)]
    connect: ConnectArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How long the broker keeps what was sent: people fill caches in the evening for a run on the next day.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// How long after this program is gone its sending counts as given up: it may have been cut off for a while.
const ABSENCE_MAX: Duration = Duration::from_secs(60 * 60);

/// A file that the broker knows.
struct Imported {
    path: PathBuf,
    blob: BlobRef,
}

/// What came of it.
struct Filled {
    files: Vec<Imported>,
    /// The last that was heard.
    progress: PrecacheProgress,
    /// All that were heard.
    failures: Vec<String>,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    // Before the broker is asked: wrong inputs leave nothing behind.
    let paths = files::named(&options.files, options.project.as_deref())?;
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::work)?;
    let bar = Arc::new(Bar::of_bytes("reading"));
    let filled = runtime.block_on(run_until_done(options, paths, &bar));
    bar.finish();
    let (filled, in_place_count) = filled?;
    if options.json {
        output::print_json(&to_json(&filled))?;
    } else if filled.progress.worker_count > 0 || in_place_count > 0 {
        output::print(&to_text(&filled, in_place_count))?;
    }
    match (filled.failures.len(), filled.progress.worker_count) {
        (0, 0) if in_place_count == 0 => Err(options.no_workers()),
        (0, _) => Ok(()),
        (1, _) => Err(Failure::work(anyhow!("1 worker does not have all of it"))),
        (count, _) => Err(Failure::work(anyhow!(
            "{count} workers do not have all of it"
        ))),
    }
}

/// What came of it and, if nobody fetches, how many need not.
async fn run_until_done(
    options: &Options,
    paths: Vec<PathBuf>,
    bar: &Arc<Bar>,
) -> Result<(Filled, usize), Failure> {
    let said = Arc::clone(bar);
    let interrupt = Interrupt::catch(move || said.say("stopping (once more to leave at once)"));
    let interrupt = interrupt.map_err(Failure::work)?;
    let client = broker::reach(&options.connect).await?;
    let said = Arc::clone(bar);
    broker::tell_absences(client.link(), move |line| said.say(line));
    // A broker that cannot is found out before anything is sent.
    client.precache(&[], None)?;
    let files = import_all(&client, paths, bar, interrupt.came()).await?;
    tokio::select! {
        filled = options.fill(&client, files, bar) => filled,
        () = interrupt.came() => Err(interrupted()),
    }
}

/// Makes the files known to the broker, under a job that holds what must be sent.
async fn import_all(
    client: &Client,
    paths: Vec<PathBuf>,
    bar: &Arc<Bar>,
    interrupt: impl Future<Output = ()>,
) -> Result<Vec<Imported>, Failure> {
    let terms = JobOptions {
        keep: Some(KEEP),
        absence_max: Some(ABSENCE_MAX),
        ..JobOptions::named("precache")
    };
    let job = client.open_job(terms).await?;
    let mut outcomes = job.outcomes();
    let imported = tokio::select! {
        imported = import_each(&job, paths, bar) => imported,
        // To watch is to be there. The job has no tasks, so that all it can tell is its own end.
        ended = outcomes.next() => Err(ended.map_or_else(Into::into, |_| {
            Failure::work(anyhow!("job j{}, which holds the files, was cancelled", job.number()))
        })),
        () = interrupt => Err(interrupted()),
    };
    // Whatever came: an open job would hold what was sent until this program counts as gone.
    let closed = job.close().await;
    let imported = imported?;
    closed?;
    Ok(imported)
}

async fn import_each(
    job: &Job,
    paths: Vec<PathBuf>,
    bar: &Arc<Bar>,
) -> Result<Vec<Imported>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        bar.turn_to(output::printable(&format!("reading {name}")));
        let told = Arc::clone(bar);
        let progress = move |progress: FileProgress| {
            let (FileProgress::Hashed {
                done_bytes,
                size_bytes,
            }
            | FileProgress::Sent {
                done_bytes,
                size_bytes,
            }) = progress;
            told.set(done_bytes, size_bytes);
        };
        let blob = job.import_file(&path, progress).await;
        let blob = blob.map_err(|error| not_imported(error, &path))?;
        files.push(Imported { path, blob });
    }
    Ok(files)
}

impl Options {
    /// Has workers fetch, until all have all that they can hold.
    async fn fill(
        &self,
        client: &Client,
        files: Vec<Imported>,
        bar: &Bar,
    ) -> Result<(Filled, usize), Failure> {
        bar.turn_to("workers fetch");
        let blobs: Vec<BlobRef> = files.iter().map(|file| file.blob).collect();
        let mut precaching = client.precache(&blobs, self.site.as_deref())?;
        let mut filled = Filled {
            files,
            progress: PrecacheProgress::default(),
            failures: Vec::new(),
        };
        while let Some(progress) = precaching.next().await? {
            for failure in &progress.failures {
                bar.say(&output::printable(failure));
            }
            bar.set(progress.held_bytes, progress.wanted_bytes);
            filled.failures.extend(progress.failures.iter().cloned());
            filled.progress = progress;
        }
        let in_place_count = match filled.progress.worker_count {
            0 => self.count_in_place(client).await?,
            _ => 0,
        };
        Ok((filled, in_place_count))
    }

    /// Workers on the broker's machine: those who fetch nothing because they need not. Others may just have come.
    async fn count_in_place(&self, client: &Client) -> Result<usize, Failure> {
        let broker = client.status().await?;
        let workers = client.workers().await?.into_iter();
        let in_place = workers.filter(|worker| {
            let is_of_site = self.site.as_ref().is_none_or(|site| *site == worker.site);
            is_of_site && worker.host_name == broker.host_name
        });
        Ok(in_place.count())
    }

    fn no_workers(&self) -> Failure {
        let of_site = self.site.as_ref();
        let of_site = of_site.map_or_else(String::new, |site| format!(" of site {site:?}"));
        Failure::work(anyhow!("no worker{of_site} to fetch anything")).try_next("dewar workers")
    }
}

fn interrupted() -> Failure {
    Failure::work(anyhow!(
        "interrupted; the same command goes on from what workers and broker have"
    ))
}

fn not_imported(error: ImportError, path: &Path) -> Failure {
    match error {
        error @ ImportError::File { .. } => Failure::input(error),
        ImportError::Call(error) => Failure::from(error).concerning(path.display()),
    }
}

fn to_text(filled: &Filled, in_place_count: usize) -> String {
    let size: u64 = filled.files.iter().map(|file| file.blob.size_bytes).sum();
    let files = counted(filled.files.len() as u64, "file");
    let worker_count = filled.progress.worker_count;
    let came = match filled.failures.len() as u64 {
        0 if worker_count == 0 => format!(
            "nothing to fetch for {}, on the broker's machine",
            counted(in_place_count as u64, "worker")
        ),
        0 if worker_count == 1 => "1 worker has all of it".to_owned(),
        0 => format!("{worker_count} workers have all of it"),
        failed => format!(
            "{} of {} have all of it",
            worker_count.saturating_sub(failed),
            counted(worker_count, "worker")
        ),
    };
    format!("{files}, {}: {came}\n", size::rounded(size))
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn to_json(filled: &Filled) -> serde_json::Value {
    let files = filled.files.iter().map(|file| {
        json!({
            "path": file.path,
            "digest": file.blob.digest.to_string(),
            "size_bytes": file.blob.size_bytes,
        })
    });
    json!({
        "files": files.collect::<Vec<_>>(),
        "worker_count": filled.progress.worker_count,
        "held_bytes": filled.progress.held_bytes,
        "wanted_bytes": filled.progress.wanted_bytes,
        "failures": filled.failures,
    })
}
