//! What a worker is told at its start.

use crate::LoadLimit;
use backon::ExponentialBuilder;
use dewar_proto::Token;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Settings of one worker.
#[derive(Clone)]
pub struct Config {
    /// The broker, as `HOST:PORT`.
    pub broker: String,
    /// What opens it.
    pub token: Token,
    /// Tasks that run at once.
    pub slot_count: u16,
    /// For people, such as `node7-1234`.
    pub name: String,
    /// Name of the site; empty for the broker to tell by subnet.
    pub site: String,
    /// Where chunks of inputs are kept, and results that wait for the broker. Several workers may share it.
    pub cache_dir: PathBuf,
    /// Most bytes of chunks kept there.
    pub cache_bytes_max: u64,
    /// Where results go that do not fit their reports.
    pub results: ResultsAt,
    /// How peers reach it, and how fast data may move. None: it gives them nothing.
    pub data: Option<DataConfig>,
    /// How far kernels stand back for other programs: 0 not at all, 19 the most.
    pub nice: i32,
    /// Take nothing new while other programs keep the machine busier than this.
    pub load_limit: Option<LoadLimit>,
    /// Memory that tasks may use together; 0 if it is not counted.
    pub memory_bytes: u64,
    /// What to do about a kernel that does not stop when told.
    pub stuck: StuckKernel,
    /// Leave after this long without a task.
    pub exit_when_idle: Option<Duration>,
    /// Leave after this long without the broker.
    pub exit_when_unreachable: Option<Duration>,
}

/// Where results go that do not fit their reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultsAt {
    /// To the broker.
    Broker,
    /// They stay in the cache folder, with a second copy at another worker of the site; to the broker where there is none.
    Near {
        /// Most bytes of results kept there, besides the chunks of inputs.
        bytes_max: u64,
    },
}

/// How peers reach a worker, and how fast data may move.
#[derive(Debug, Clone, Default)]
pub struct DataConfig {
    /// Where it listens, and from where it connects. None: the address by which it reaches the broker, any free port.
    pub listen: Option<SocketAddr>,
    /// What peers are told, as `HOST:PORT`. None: where it listens.
    pub advertise: Option<String>,
    /// Bytes of data a second that it sends to peers and to the broker. None: as many as it can.
    pub upload_limit: Option<u64>,
    /// Bytes of data a second that it fetches from them. None: as many as it can.
    pub download_limit: Option<u64>,
}

/// What to do about a kernel that goes on for 5 s after it was told to stop. No thread can be ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StuckKernel {
    /// Hand back everything else and end with [`crate::RunningError::Stuck`], for the process to be started anew.
    End,
    /// Let another thread take its slot, where the process is not the worker's own. The stuck one computes on.
    Replace,
}

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A worker without slots would wait for ever.
    #[error("a worker needs at least one slot")]
    NoSlots,
    /// What this machine computes cannot be trusted.
    #[error("this machine computes wrong and does not join: {0}")]
    SelfTest(String),
    /// The address is none.
    #[error("broker address {address:?} is not HOST:PORT")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        source: tonic::transport::Error,
    },
    /// The cache folder does not work.
    #[error("the cache folder {} cannot be used", folder.display())]
    Cache {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Peers cannot be served there.
    #[error("cannot listen for peers on {address}")]
    DataPort {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The system gave no thread.
    #[error("a thread for a slot could not be started")]
    Thread(#[source] std::io::Error),
}

impl StartError {
    /// Whether the same settings will fail again, however often they are tried. A full disk or a taken port may mend by
    /// itself.
    pub fn is_of_settings(&self) -> bool {
        match self {
            Self::NoSlots | Self::Address { .. } => true,
            Self::SelfTest(_) | Self::Cache { .. } | Self::DataPort { .. } | Self::Thread(_) => {
                false
            }
        }
    }
}

/// Waits between tries, without end: 100 ms first, 5 s at most, with as much again at random so that a fleet does not
/// come back to a restarted broker in one instant.
pub(crate) fn backoff() -> backon::ExponentialBackoff {
    use backon::BackoffBuilder as _;
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(BACKOFF_MAX)
        .without_max_times()
        .with_jitter()
        .build()
}

pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(5);
