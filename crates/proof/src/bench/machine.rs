//! The machine under the figures, and what it says of a process.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{fmt, fs, path::Path, thread, time::Duration};

/// What figures of different machines cannot be compared without.
pub(super) struct Machine {
    cpu: String,
    core_count: usize,
    folder: String,
}

impl Machine {
    pub(super) fn look(dir: &Path) -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == "model name").then(|| value.trim().to_owned())
        });
        Self {
            cpu: model.unwrap_or_else(|| "unknown processor".to_owned()),
            core_count: thread::available_parallelism().map_or(1, usize::from),
            folder: dir.display().to_string(),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({ "cpu": self.cpu, "core_count": self.core_count, "folder": self.folder })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} cores; data in {}",
            self.cpu, self.core_count, self.folder
        )
    }
}

/// Memory a process has resident, in MB of a million bytes.
pub(super) fn resident_mb(pid: u32) -> Result<f64> {
    status_mb(pid, "VmRSS")
}

/// The most it ever had.
pub(super) fn peak_resident_mb(pid: u32) -> Result<f64> {
    status_mb(pid, "VmHWM")
}

fn status_mb(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib: f64 = line
        .and_then(|line| line.strip_prefix(':')?.trim().strip_suffix(" kB"))
        .with_context(|| format!("the kernel gives {field}"))?
        .trim()
        .parse()?;
    Ok(kib * 1024.0 / 1e6)
}

/// Time a process has computed so far, user and system, its threads included.
pub(super) fn computed(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name is in parentheses and may hold anything; what follows is numbered from 3.
    let (_, fields) = stat.rsplit_once(')').context("the kernel gives stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |number: usize| -> Result<u64> {
        let field = fields.get(number - 3).context("stat has that field")?;
        Ok(field.parse()?)
    };
    let ticks = ticks(14)? + ticks(15)?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(ticks * 1000 / per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_computes_is_seen_to() {
        let pid = std::process::id();
        assert!(resident_mb(pid).unwrap() > 0.1);
        assert!(peak_resident_mb(pid).unwrap() > 0.1);
        let before = computed(pid).unwrap();
        let mut n = 0u64;
        while computed(pid).unwrap() < before + Duration::from_millis(20) {
            n = std::hint::black_box(n + 1);
        }
    }
}
