//! One stream over loopback, from the page cache: what it costs to check bytes and keep them.

use super::{
    Bench,
    link::read_unchecked,
    swarm::{Plan, Swarm},
};
use crate::{bench::report::Target, lab};
use anyhow::{Context as _, Result, ensure};
use dewar_blobs::{BlobClient, BlobRef, CACHE_BYTES_DEFAULT, ChunkCache};
use dewar_proto::transport::channel_from;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::{
    fs::{self, File},
    io,
    net::Ipv4Addr,
    path::Path,
    time::Instant,
};
use tempfile::TempDir;

/// Bytes of the file.
const FILE_BYTES: u64 = 512 << 20;

/// Bytes fetched together, and how many such lots at a time, as a worker does that fills its cache.
const LOT_BYTES: u64 = 8 << 20;
const LOTS_AT_ONCE: usize = 2;

/// Each way so often, by turns. The best are compared: other load, and memory that the hypervisor has to give first, only ever
/// take time, and hit one way or the other as they come.
const TRIES: usize = 7;

/// Not the broker's, or the file would be read where it is.
const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

impl Bench {
    pub(super) async fn stream(&mut self) -> Result<()> {
        let bytes = self.count(FILE_BYTES);
        let swarm = Swarm::begin(Plan {
            dir: &self.dir,
            file_bytes: usize::try_from(bytes)?,
            network: None,
        })
        .await?;
        let (address, token_file) = swarm.broker();
        let channel = channel_from(Some(FROM.into()), address, lab::token(token_file)?)?;
        let client = BlobClient::new(channel.clone());
        // The first to ask has the broker hash the file.
        let started = Instant::now();
        client.chunks(swarm.blob, &[]).await?;
        self.report.add(
            "hashing a file from the page cache",
            bytes as f64 / 1e6 / started.elapsed().as_secs_f64(),
            "MB/s",
            Some(Target::AtLeast(1000.0)),
        );
        let mut cold = ColdFolders::new(&self.dir);
        fetch(&client, swarm.blob, cold.next()?).await?;
        let (mut unchecked, mut checked) = (Vec::new(), Vec::new());
        for _ in 0..TRIES {
            let started = Instant::now();
            read_unchecked(channel.clone(), swarm.blob).await?;
            unchecked.push(started.elapsed().as_secs_f64());
            checked.push(fetch(&client, swarm.blob, cold.next()?).await?);
        }
        let rate = |seconds: Vec<f64>| {
            let best = seconds.into_iter().fold(f64::INFINITY, f64::min);
            bytes as f64 / 1e6 / best
        };
        let (unchecked, checked) = (rate(unchecked), rate(checked));
        let what = format!("loopback, one stream, best of {TRIES}");
        self.report
            .add(format!("{what}, unchecked"), unchecked, "MB/s", None);
        self.report.add(
            format!("{what}, checked, into a cold cache"),
            checked,
            "MB/s",
            Some(Target::AtLeast(unchecked / 2.0)),
        );
        Ok(())
    }
}

/// Fetches a blob into a new cache. How many seconds it took.
async fn fetch(client: &BlobClient, blob: BlobRef, folder: &Path) -> Result<f64> {
    let cache = ChunkCache::open(folder, CACHE_BYTES_DEFAULT)?;
    let cache = &cache;
    let started = Instant::now();
    stream::iter((0..blob.size_bytes).step_by(usize::try_from(LOT_BYTES)?))
        .map(|start| async move {
            let part = start..blob.size_bytes.min(start + LOT_BYTES);
            let parts = cache.fetch(client, blob, std::slice::from_ref(&part));
            parts.await.map(drop)
        })
        .buffered(LOTS_AT_ONCE)
        .try_collect::<()>()
        .await?;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(
        cache.size_bytes() >= blob.size_bytes,
        "the cache keeps {} bytes of {}",
        cache.size_bytes(),
        blob.size_bytes
    );
    Ok(seconds)
}

/// Folders for one cache after another, none of which pays for the one before.
///
/// They are removed at the end: ext4 passes over each file that was removed in the last minutes when it makes a new one. What
/// is in one is given up just before the next is filled: memory that was free for seconds may be the hypervisor's again,
/// and is six times as slow to get.
struct ColdFolders<'a> {
    dir: &'a Path,
    used: Vec<TempDir>,
}

impl<'a> ColdFolders<'a> {
    fn new(dir: &'a Path) -> Self {
        let used = Vec::new();
        Self { dir, used }
    }

    fn next(&mut self) -> Result<&Path> {
        if let Some(last) = self.used.last() {
            empty(last.path())?;
        }
        let next = tempfile::Builder::new()
            .prefix("dewar-")
            .tempdir_in(self.dir)?;
        self.used.push(next);
        let next = self.used.last().context("it was pushed just now")?;
        Ok(next.path())
    }
}

/// Gives up the bytes of all files of a folder.
fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => empty(&path)?,
            false => File::options().write(true).open(&path)?.set_len(0)?,
        }
    }
    Ok(())
}
