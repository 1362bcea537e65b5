//! How busy other people's programs keep this machine, so that a workstation stays usable while it helps.
//!
//! The system's load average counts this worker's own slots too. They are averaged here as the system does it, over a
//! minute, and taken off: else a worker that was busy would for a minute take its own past for other people's work.

use std::{fs, io, path::PathBuf, time::Duration};

/// How often the system itself looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The share of an old average that is left after [`LOOK_EVERY`]: e^(-5 s / 60 s).
const KEPT: f64 = 0.920_044;

/// The load must fall to this share of the limit before the worker takes new tasks again, so that it does not change
/// its mind with every breath of the machine.
const CALM: f64 = 0.8;

/// When to stand back.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadLimit {
    /// While others' load is above it, the worker takes nothing new.
    pub max: f64,
    /// Where the load is read: the first number of the file is the average of the last minute.
    pub file: PathBuf,
    /// How often it is read: as often as the system itself does.
    pub every: Duration,
}

/// Watches the load.
#[derive(Debug)]
pub(crate) struct LoadWatch {
    limit: LoadLimit,
    /// This worker's own part.
    own: f64,
    is_busy: bool,
}

impl LoadLimit {
    /// A limit on the load of this machine.
    pub fn new(max: f64) -> Self {
        Self {
            max,
            file: "/proc/loadavg".into(),
            every: LOOK_EVERY,
        }
    }
}

impl LoadWatch {
    pub(crate) fn new(limit: LoadLimit) -> Self {
        Self {
            limit,
            own: 0.0,
            is_busy: false,
        }
    }

    /// Reads the load. Called as often as the limit says. Gives the reason not to take tasks, or an empty text, when that
    /// changes.
    pub(crate) fn look(&mut self, busy_slot_count: usize) -> Option<String> {
        match self.read() {
            Ok(load) => self.consider(load, busy_slot_count),
            Err(error) => {
                tracing::debug!(%error, file = %self.limit.file.display(), "load not read");
                self.consider(0.0, busy_slot_count)
            }
        }
    }

    fn read(&self) -> io::Result<f64> {
        let text = fs::read_to_string(&self.limit.file)?;
        let first = text.split_whitespace().next().unwrap_or_default();
        first.parse().map_err(io::Error::other)
    }

    fn consider(&mut self, load: f64, busy_slot_count: usize) -> Option<String> {
        self.own = self.own * KEPT + busy_slot_count as f64 * (1.0 - KEPT);
        let others = (load - self.own).max(0.0);
        let max = self.limit.max;
        let is_busy = others > if self.is_busy { max * CALM } else { max };
        if is_busy == self.is_busy {
            return None;
        }
        self.is_busy = is_busy;
        Some(match is_busy {
            true => format!("load {others:.1} of other programs is above {max}"),
            false => String::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(max: f64) -> LoadWatch {
        LoadWatch::new(LoadLimit::new(max))
    }

    #[test]
    fn it_stands_back_above_the_limit_and_comes_back_well_below() {
        let mut watch = watch(4.0);
        assert_eq!(watch.consider(3.9, 0), None);
        let reason = watch.consider(4.1, 0).unwrap();
        assert_eq!(reason, "load 4.1 of other programs is above 4");
        assert_eq!(watch.consider(3.9, 0), None);
        assert_eq!(watch.consider(3.1, 0), Some(String::new()));
        assert_eq!(watch.consider(3.9, 0), None);
    }

    #[test]
    fn its_own_work_is_nobody_elses_while_it_lasts_or_after() {
        let mut watch = watch(1.0);
        // The system's average of 8 busy slots, for five minutes, and of none after that.
        let mut load = 0.0;
        for look in 0..120 {
            let busy_slot_count = if look < 60 { 8 } else { 0 };
            load = load * KEPT + busy_slot_count as f64 * (1.0 - KEPT);
            assert_eq!(watch.consider(load, busy_slot_count), None, "look {look}");
        }
    }
}
