//! Logging: fields to standard error, for people or for machines.
//!
//! Where that is systemd's journal, each line says how grave it is in the journal's own way, and leaves the time to it.

use clap::{Args, ValueEnum};
use std::{
    env, fmt,
    io::{self, IsTerminal},
};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    filter::ParseError,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Writer},
    },
    registry::LookupSpan,
    util::TryInitError,
};

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
            LogFormat::Human if is_journal() => {
                let format = ForJournal(Format::default().without_time());
                lines.event_format(format).finish().try_init()
            }
            LogFormat::Human => lines.finish().try_init(),
            LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
        };
        started.map_err(LogError::Started)
    }
}

/// Whether standard error goes to systemd's journal: it says so by the file that it made it.
fn is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = rustix::fs::fstat(io::stderr());
    stderr.is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

/// Lines that begin with the priority of sd-daemon(3): `journalctl -p warning` then finds them.
struct ForJournal(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for ForJournal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_journal_is_told_how_grave_a_line_is_and_not_when() {
        let kept = Kept::default();
        let written = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || written.clone())
            .event_format(ForJournal(Format::default().without_time()))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(task = "j7.42", "failed");
            tracing::info!(worker = "node7", "attends");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("<4> WARN "), "{text}");
        assert!(lines[0].ends_with("failed task=\"j7.42\""), "{text}");
        assert!(lines[1].starts_with("<6> INFO "), "{text}");
    }
}
