//! Worker processes that share one cache folder: every chunk comes once, and lies there once.

use super::{
    Bench,
    link::sum,
    swarm::{Listed, Swarm},
};
use crate::bench::report::Target;
use anyhow::{Result, ensure};
use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Processes on one folder.
const PROCESSES: usize = 4;

/// The folder of all of them.
const CACHE: &str = "cache";

/// Once the folder is whole, a fetch too many would begin within this.
const STILL: Duration = Duration::from_secs(2);

impl Bench {
    pub(super) async fn shared_cache(&mut self) -> Result<()> {
        let mut swarm = Swarm::begin(self.plan(None)).await?;
        for n in 0..PROCESSES {
            // From an address that is not the broker's, or they would read the file where it is.
            let listen = format!("127.0.0.{}:0", n + 2);
            swarm.add_worker(CACHE, &["--data-listen", &listen])?;
        }
        swarm.until_reached().await?;
        let _precache = swarm.precache().await?;
        let listed = until_still(&mut swarm, self.patience()).await?;
        let size = swarm.blob.size_bytes as f64;
        let what = format!("{PROCESSES} processes, one cache folder");
        swarm.stop_workers()?;
        self.report.add(
            format!("{what}: bytes fetched, of the file"),
            sum(&listed, fetched_bytes) / size,
            "x",
            Some(Target::AtMost(1.0)),
        );
        self.report.add(
            format!("{what}: bytes kept, of the file"),
            folder_bytes(&swarm.cache(CACHE).join("chunks"))? as f64 / size,
            "x",
            Some(Target::AtMost(1.0)),
        );
        self.report.add(
            format!("{what}: chunks right, of {}", swarm.chunks.chunk_count()),
            swarm.right_chunks(CACHE)? as f64,
            "",
            Some(Target::AtLeast(swarm.chunks.chunk_count() as f64)),
        );
        Ok(())
    }
}

fn fetched_bytes(worker: &dewar_proto::v1::Worker) -> u64 {
    worker.fetched_from_broker_bytes + worker.fetched_from_peers_bytes
}

/// Waits until the folder is whole and nobody fetches any more.
async fn until_still(swarm: &mut Swarm, limit: Duration) -> Result<Listed> {
    let (began, size) = (Instant::now(), swarm.blob.size_bytes);
    let (mut seen, mut since) = (0, began);
    loop {
        let listed = swarm.list().await?;
        let fetched: u64 = listed.values().map(fetched_bytes).sum();
        if fetched != seen {
            (seen, since) = (fetched, Instant::now());
        }
        let kept = folder_bytes(&swarm.cache(CACHE).join("chunks"))?;
        if kept >= size && since.elapsed() > STILL {
            return Ok(listed);
        }
        ensure!(
            began.elapsed() < limit,
            "{kept} of {size} bytes are kept after {} s",
            limit.as_secs()
        );
        sleep(Duration::from_millis(50)).await;
    }
}

/// Bytes of all files in a folder and those within it.
fn folder_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // What was renamed meanwhile is found under its new name, this time or the next.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        bytes += match metadata.is_dir() {
            true => folder_bytes(&entry.path())?,
            false => metadata.len(),
        };
    }
    Ok(bytes)
}
