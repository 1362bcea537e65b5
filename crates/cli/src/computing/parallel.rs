//! Where a job computes: `dc:HOST:PORT` or `thread:N`.

use crate::failure::Failure;
use dewar_sdk::{Client, EmbeddedError, EmbeddedOptions};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
    thread,
};

/// Where to compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parallel {
    /// On the workers of the broker at this address.
    Broker(String),
    /// In this process, so many tasks at once.
    Threads(u16),
}

impl Parallel {
    /// In this process, on all cores.
    pub fn all_cores() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self::Threads(u16::try_from(cores).unwrap_or(u16::MAX))
    }
}

impl FromStr for Parallel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(address) = text.strip_prefix("dc:") {
            let is_address = address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            if is_address {
                return Ok(Self::Broker(address.to_owned()));
            }
        } else if text == "thread" {
            return Ok(Self::all_cores());
        } else if let Some(count) = text
            .strip_prefix("thread:")
            .and_then(|count| count.parse().ok())
            && count > 0
        {
            return Ok(Self::Threads(count));
        }
        Err("expected dc:HOST:PORT, thread:N or thread".to_owned())
    }
}

/// A broker and a worker in this process, which read the stacks where they are and keep their own files in `data_dir`.
pub async fn embed(
    data_dir: &Path,
    slot_count: u16,
    stacks: &[PathBuf],
) -> Result<Client, Failure> {
    let folders: BTreeSet<PathBuf> = stacks
        .iter()
        .filter_map(|stack| fs::canonicalize(stack).ok()?.parent().map(Path::to_owned))
        .collect();
    let embedded = Client::embedded(EmbeddedOptions {
        data_dir: data_dir.to_owned(),
        slot_count,
        exports: folders.into_iter().collect(),
        kernels: dewar_kernels::registry(),
    });
    embedded.await.map_err(|error| match error {
        error @ EmbeddedError::Start(_) => Failure::work(
            anyhow::Error::new(error)
                .context(format!("cannot compute with {}", data_dir.display())),
        ),
        error => Failure::work(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_places_are_read() {
        assert_eq!(
            "dc:titan:9990".parse(),
            Ok(Parallel::Broker("titan:9990".to_owned()))
        );
        assert_eq!(
            "dc:[::1]:9990".parse(),
            Ok(Parallel::Broker("[::1]:9990".to_owned()))
        );
        assert_eq!("thread:3".parse(), Ok(Parallel::Threads(3)));
        assert_eq!("thread".parse(), Ok(Parallel::all_cores()));
        for wrong in [
            "",
            "dc",
            "dc:",
            "dc:titan",
            "dc::9990",
            "dc:titan:99999",
            "thread:",
            "thread:0",
            "thread:-1",
            "mpi:4",
        ] {
            assert!(wrong.parse::<Parallel>().is_err(), "{wrong:?}");
        }
    }
}
