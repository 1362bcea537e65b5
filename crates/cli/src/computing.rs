//! Verbs whose work tasks do: where they compute, what is told meanwhile, and what Ctrl-C does.

mod narrator;
mod parallel;

use self::{narrator::Narrator, parallel::Parallel};
use crate::{broker, failure::Failure, interrupt::Interrupt};
use clap::Args;
use dewar_refine::{Observer, RefineError};
use dewar_sdk::Client;
use dewar_settings::ConnectArgs;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::runtime;

/// The embedded broker's data, inside the output folder.
const EMBEDDED_FOLDER: &str = ".dewar";

/// Where to compute.
#[derive(Args)]
pub struct Where {
    /// Where to compute: dc:HOST:PORT for the workers of that broker, thread:N for N cores of this machine
    /// [default: thread with all cores, or the broker that --broker or DEWAR_BROKER names].
    #[arg(long, value_name = "WHERE")]
    parallel: Option<Parallel>,
    /// The broker's address.
    #[arg(long, value_name = "HOST:PORT", env = "DEWAR_BROKER")]
    broker: Option<String>,
    /// File that holds the broker's token. Without it: DEWAR_TOKEN, else that of this account's own broker here.
    #[arg(long, value_name = "FILE", env = "DEWAR_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

impl Where {
    /// Does `work` there, and tells on stderr how it goes. The first Ctrl-C is for `work` to end in order.
    ///
    /// A broker in this process keeps its files in `out` until the work is over. `stacks`, what it must reach, is asked
    /// before that: wrong inputs leave nothing behind.
    ///
    /// # Errors
    /// If there is nowhere to compute, or `stacks` fails.
    pub fn compute<T>(
        &self,
        out: &Path,
        stacks: impl FnOnce() -> Result<Vec<PathBuf>, Failure>,
        work: impl AsyncFnOnce(&Client, &Arc<dyn Observer>, &Interrupt) -> Result<T, RefineError>,
    ) -> Result<Result<T, RefineError>, Failure> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(Failure::work)?;
        runtime.block_on(self.until_done(out, stacks, work))
    }

    async fn until_done<T>(
        &self,
        out: &Path,
        stacks: impl FnOnce() -> Result<Vec<PathBuf>, Failure>,
        work: impl AsyncFnOnce(&Client, &Arc<dyn Observer>, &Interrupt) -> Result<T, RefineError>,
    ) -> Result<Result<T, RefineError>, Failure> {
        let narrator = Arc::new(Narrator::new());
        let interrupt = Interrupt::catch({
            let narrator = Arc::clone(&narrator);
            move || {
                narrator
                    .say("stopping: cancelling the job at the broker (once more to leave at once)");
            }
        })
        .map_err(Failure::work)?;
        let place = self.place();
        let client = match &place {
            Parallel::Broker(address) => {
                let connect = ConnectArgs {
                    broker: address.clone(),
                    token_file: self.token_file.clone(),
                };
                broker::reach(&connect).await?
            }
            Parallel::Threads(slot_count) => {
                parallel::embed(&out.join(EMBEDDED_FOLDER), *slot_count, &stacks()?).await?
            }
        };
        broker::tell_absences(client.link(), {
            let narrator = Arc::clone(&narrator);
            move |line| narrator.say(line)
        });
        let observer: Arc<dyn Observer> = Arc::clone(&narrator) as _;
        let done = work(&client, &observer, &interrupt).await;
        narrator.finish();
        client.shutdown().await;
        let is_over = done.as_ref().map_or_else(RefineError::is_input, |_| true);
        if matches!(place, Parallel::Threads(_)) && is_over {
            // Nothing in it is needed any more; where it stays, it only takes room.
            let _ = fs::remove_dir_all(out.join(EMBEDDED_FOLDER));
            // Only an empty folder goes: wrong inputs, found before the first round was finished.
            let _ = fs::remove_dir(out);
        }
        Ok(done)
    }

    /// The most particular of what was said.
    fn place(&self) -> Parallel {
        match (&self.parallel, &self.broker) {
            (Some(place), _) => place.clone(),
            (None, Some(address)) => Parallel::Broker(address.clone()),
            (None, None) => Parallel::all_cores(),
        }
    }
}
