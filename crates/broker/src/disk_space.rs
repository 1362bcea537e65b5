//! Room on the data folder's disk: how much there is, and what is refused when it runs out.
//!
//! Three levels, told from the free bytes alone. With ample room everything is taken. With little, nothing new is: submits
//! and uploads are refused, and what runs goes on. With the last of it, workers keep their large outputs as well, so that
//! outcomes have what is left, and what was set aside for them beforehand (`reserve.rs`).

mod reserve;

pub(crate) use reserve::Reserve;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, task::spawn_blocking, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// How often the disk is asked. Fast disks take a gigabyte in that time, but customers on a network do not send one.
const EVERY: Duration = Duration::from_secs(1);

/// How much room on the disk is for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskBounds {
    /// With less than this free, submits and uploads are refused: what runs may need it.
    pub free_bytes_min: u64,
    /// Set aside for outcomes. Two full batches of them: 512 reports of 64 KiB each.
    pub reserve_bytes: u64,
}

impl Default for DiskBounds {
    fn default() -> Self {
        Self {
            free_bytes_min: 512 << 20,
            reserve_bytes: 64 << 20,
        }
    }
}

/// Why something is not taken now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk of {} has {} free, less than the {} that the broker keeps for what runs; make room there",
    folder.display(),
    mib(*free_bytes),
    mib(*free_bytes_min)
)]
pub(crate) struct DiskFull {
    folder: PathBuf,
    free_bytes: u64,
    free_bytes_min: u64,
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Last,
    Little,
    Ample,
}

/// The disk's state at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Space {
    free_bytes: u64,
    level: Level,
}

/// What others see of the disk; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DiskSpace {
    folder: Arc<Path>,
    bounds: DiskBounds,
    space: watch::Receiver<Space>,
}

impl Level {
    /// The level that follows from what is free beside the reserve. What was refused is taken again only when there is an
    /// eighth more than the bound, and outputs when there is twice theirs, so that the answer does not flicker.
    fn next(self, free_bytes: u64, bounds: DiskBounds) -> Self {
        let DiskBounds {
            free_bytes_min,
            reserve_bytes,
        } = bounds;
        let ample = match self {
            Self::Ample => free_bytes_min,
            Self::Little | Self::Last => free_bytes_min.saturating_add(free_bytes_min / 8),
        };
        let little = match self {
            Self::Ample | Self::Little => reserve_bytes / 2,
            Self::Last => reserve_bytes,
        };
        match free_bytes {
            free if free >= ample => Self::Ample,
            free if free >= little => Self::Little,
            _ => Self::Last,
        }
    }
}

impl DiskSpace {
    /// Looks at a folder's disk, and from now on every second, until told to stop.
    ///
    /// # Errors
    /// If the disk does not say what is free.
    pub(crate) fn watch(
        folder: &Path,
        bounds: DiskBounds,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let first = look(folder, bounds, Level::Ample)?;
        let (sender, space) = watch::channel(first);
        let watched = Self {
            folder: folder.into(),
            bounds,
            space,
        };
        watched.tell(Level::Ample);
        let poller = watched.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = poller.poll(&sender) => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(watched)
    }

    /// Whether something new may come: a task, an upload.
    pub(crate) fn admit(&self) -> Result<(), DiskFull> {
        self.at_least(Level::Ample)
    }

    /// Whether the large output of a running task may come.
    pub(crate) fn admit_output(&self) -> Result<(), DiskFull> {
        self.at_least(Level::Little)
    }

    /// Free bytes of the disk.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.space.borrow().free_bytes
    }

    fn at_least(&self, level: Level) -> Result<(), DiskFull> {
        let space = *self.space.borrow();
        if space.level >= level {
            return Ok(());
        }
        Err(DiskFull {
            folder: self.folder.to_path_buf(),
            free_bytes: space.free_bytes,
            free_bytes_min: self.bounds.free_bytes_min,
        })
    }

    async fn poll(&self, sender: &watch::Sender<Space>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (folder, bounds) = (self.folder.clone(), self.bounds);
            let before = sender.borrow().level;
            let looked = spawn_blocking(move || look(&folder, bounds, before)).await;
            // A disk that does not answer is found out by the next write.
            if let Ok(Ok(space)) = looked {
                sender.send_replace(space);
                self.tell(before);
            }
        }
    }

    fn tell(&self, before: Level) {
        let Space { free_bytes, level } = *self.space.borrow();
        if level == before {
            return;
        }
        match level {
            Level::Ample => tracing::info!(free_bytes, "there is room again; submits are taken"),
            Level::Little => tracing::warn!(free_bytes, "little room; submits are refused"),
            Level::Last => {
                tracing::warn!(free_bytes, "the disk is full; only outcomes are taken");
            }
        }
    }
}

fn look(folder: &Path, bounds: DiskBounds, before: Level) -> io::Result<Space> {
    let free_bytes = free_bytes(folder)?;
    let missing = reserve::missing_bytes(folder, bounds);
    Ok(Space {
        free_bytes,
        level: before.next(free_bytes.saturating_sub(missing), bounds),
    })
}

fn free_bytes(folder: &Path) -> io::Result<u64> {
    let status = rustix::fs::statvfs(folder)?;
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_from_what_is_free_and_do_not_flicker() {
        let bounds = DiskBounds {
            free_bytes_min: 80,
            reserve_bytes: 10,
        };
        let mut level = Level::Ample;
        let mut check = |free_bytes, expected| {
            level = level.next(free_bytes, bounds);
            assert_eq!(level, expected, "with {free_bytes} free");
        };
        check(80, Level::Ample);
        check(79, Level::Little);
        check(89, Level::Little);
        check(90, Level::Ample);
        check(5, Level::Little);
        check(4, Level::Last);
        check(9, Level::Last);
        check(10, Level::Little);
        check(0, Level::Last);
        check(u64::MAX, Level::Ample);
    }

    #[test]
    fn the_text_has_all_that_helps() {
        let full = DiskFull {
            folder: "/data/dewar".into(),
            free_bytes: 3 << 19,
            free_bytes_min: 512 << 20,
        };
        let text = full.to_string();
        for part in ["/data/dewar", "1.5 MiB", "512.0 MiB"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
