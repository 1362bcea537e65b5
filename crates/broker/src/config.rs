//! What a broker is told at its start.

use crate::disk_space::DiskBounds;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Settings of one broker. [`Config::new`] gives all defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it keeps everything. Made if need be, and locked.
    pub data_dir: PathBuf,
    /// Where it listens. None: 127.0.0.1:9990, or the next free port up to 9999.
    pub listen: Option<SocketAddr>,
    /// Folders whose files customers may import by path.
    pub exports: Vec<PathBuf>,
    /// Whether it may listen beyond this machine although nothing is encrypted.
    pub insecure: bool,
    /// How long it waits for workers.
    pub patience: Patience,
    /// How long it waits for workers that keep results.
    pub near: NearPatience,
    /// How much of the disk is for what.
    pub disk: DiskBounds,
    /// Bytes of blobs a second that it sends at most.
    pub upload_limit: Option<u64>,
    /// Bytes of blobs a second that it takes at most.
    pub download_limit: Option<u64>,
}

/// How long the broker waits for workers. Tests are less patient than labs.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How often workers give a sign of life.
    pub heartbeat: Duration,
    /// A worker silent for so long is lost.
    pub lease: Duration,
    /// A worker whose connection closed is lost after so long without a new hello.
    pub reconnect: Duration,
    /// After a restart, workers that attended before have so long to come back before their tasks go to others.
    pub comeback: Duration,
}

/// How long the broker waits for workers that keep results near.
#[derive(Debug, Clone, Copy)]
pub struct NearPatience {
    /// Of a folder that is away for longer, another worker gets what it keeps from whoever else has it.
    pub away_max: Duration,
    /// A blob all of whose folders are away for longer is lost: its task is run again.
    pub lost_after: Duration,
}

impl Config {
    /// All defaults, for a data folder.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: None,
            exports: Vec::new(),
            insecure: false,
            patience: Patience::default(),
            near: NearPatience::default(),
            disk: DiskBounds::default(),
            upload_limit: None,
            download_limit: None,
        }
    }

    /// How patient the queue is to be.
    pub(crate) fn queue(
        &self,
        broker_start: u64,
        expected: Vec<dewar_queue::Expected>,
    ) -> dewar_queue::Config {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        dewar_queue::Config {
            lease_ms: ms(self.patience.lease),
            reconnect_ms: ms(self.patience.reconnect),
            comeback_ms: ms(self.patience.comeback),
            expected_workers: expected,
            ..dewar_queue::Config::new(broker_start)
        }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            lease: Duration::from_secs(30),
            reconnect: Duration::from_secs(5),
            comeback: Duration::from_secs(60),
        }
    }
}

impl Default for NearPatience {
    fn default() -> Self {
        Self {
            // A worker that is started again is back by then.
            away_max: Duration::from_secs(60),
            // And a machine that is started again.
            lost_after: Duration::from_secs(300),
        }
    }
}
