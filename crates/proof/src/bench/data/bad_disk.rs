//! A disk that spoils one chunk in ten, soon after it was written.

use super::swarm::Swarm;
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// One chunk of so many.
const ONE_IN: usize = 10;

/// Between a chunk's coming and its being spoiled, at most: less than a peer takes to hear of it and ask.
const LOOK: Duration = Duration::from_micros(500);

/// Spoils until it is dropped or stopped.
pub(super) struct BadDisk {
    stop: Arc<AtomicBool>,
    spoiling: Option<JoinHandle<usize>>,
}

impl BadDisk {
    /// Begins to spoil what comes into a cache of the swarm.
    pub(super) fn spoil(swarm: &Swarm, cache: &str) -> Self {
        let chunks = (0..swarm.chunks.chunk_count()).filter_map(|index| swarm.chunk(index));
        let folder = swarm.cache(cache).join("chunks");
        let place = |digest: String| folder.join(&digest[..2]).join(&digest);
        let mut places: Vec<PathBuf> = chunks
            .step_by(ONE_IN)
            .map(|chunk| place(chunk.digest.to_string()))
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let spoiling = thread::spawn(move || {
            let count = places.len();
            while !stopped.load(Ordering::Relaxed) && !places.is_empty() {
                // What is not there yet stays to be spoiled.
                places.retain(|place| flip_a_bit(place).is_err());
                thread::sleep(LOOK);
            }
            count - places.len()
        });
        Self {
            stop,
            spoiling: Some(spoiling),
        }
    }

    /// Ends it. How many chunks were spoiled.
    pub(super) fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let spoiling = self.spoiling.take();
        spoiling.map_or(0, |spoiling| spoiling.join().unwrap_or_default())
    }
}

impl Drop for BadDisk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn flip_a_bit(file: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(file)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, 12_345)?;
    file.write_all_at(&[byte[0] ^ 1], 12_345)
}
