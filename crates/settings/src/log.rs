//! Logging: fields to standard error, for people or for machines.

use clap::{Args, ValueEnum};
use std::io::{self, IsTerminal};
use tracing_subscriber::{EnvFilter, filter::ParseError, util::TryInitError};

/// Flags for what is logged, and how.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// What to log: a level, or a filter such as `info,dewar_broker=debug`. RUST_LOG works too.
    #[arg(
        long,
        value_name = "FILTER",
        env = "DEWAR_LOG",
        default_value = "info",
        global = true
    )]
    pub log: String,
    /// How to write it.
    #[arg(
        long,
        value_name = "FORMAT",
        env = "DEWAR_LOG_FORMAT",
        default_value = "human",
        value_enum,
        global = true
    )]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter makes no sense.
    #[error("--log {filter:?} is no filter")]
    Filter {
        /// What was given.
        filter: String,
        /// What the parser met.
        source: ParseError,
    },
    /// Something else logs already in this process.
    #[error("logging was started twice")]
    Started(#[source] TryInitError),
}

impl LogArgs {
    /// Starts logging for the whole process.
    ///
    /// # Errors
    /// If the filter makes no sense, or logging was started before.
    pub fn start(&self) -> Result<(), LogError> {
        use tracing_subscriber::util::SubscriberInitExt as _;
        let filter = EnvFilter::try_new(&self.log).map_err(|source| LogError::Filter {
            filter: self.log.clone(),
            source,
        })?;
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            // Colours are for people at a terminal, not for files and the journal.
            .with_ansi(io::stderr().is_terminal())
            .with_writer(io::stderr);
        let started = match self.log_format {
            LogFormat::Human => lines.finish().try_init(),
            LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
        };
        started.map_err(LogError::Started)
    }
}
