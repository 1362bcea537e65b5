//! How much memory tasks may use, where nobody says: what this machine or its control group has, less a reserve.

use std::{fs, path::Path};

/// Left to the system, the worker itself and its cache: a tenth, and no more than this.
const RESERVE_BYTES_MAX: u64 = 2 << 30;

/// Memory for tasks. 0 if the system does not tell, which means that it is not counted.
pub fn memory_bytes_default() -> u64 {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let total = total_bytes(&read("/proc/meminfo"));
    let limit = limit_bytes(Path::new("/sys/fs/cgroup"), &read("/proc/self/cgroup"));
    let bytes = total.into_iter().chain(limit).min().unwrap_or(0);
    bytes - (bytes / 10).min(RESERVE_BYTES_MAX)
}

/// `MemTotal` of `/proc/meminfo`.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The lowest limit of the control group (version 2) of this process and of those around it. In a container they are
/// seen from inside, where `/` is its own.
fn limit_bytes(mount: &Path, cgroup: &str) -> Option<u64> {
    let group = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = mount.join(group);
    let around = folder
        .ancestors()
        .take_while(|folder| folder.starts_with(mount));
    around
        .filter_map(|folder| fs::read_to_string(folder.join("memory.max")).ok())
        // Groups without a limit say `max`.
        .filter_map(|text| text.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_group_around_the_process_counts() {
        let mount = tempfile::tempdir().unwrap();
        let inner = mount.path().join("slurm/job7");
        fs::create_dir_all(&inner).unwrap();
        let cgroup = "1:cpu:/x\n0::/slurm/job7\n";
        assert_eq!(limit_bytes(mount.path(), cgroup), None);
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        fs::write(mount.path().join("slurm/memory.max"), "4096\n").unwrap();
        assert_eq!(limit_bytes(mount.path(), cgroup), Some(4096));
        fs::write(inner.join("memory.max"), "1024\n").unwrap();
        assert_eq!(limit_bytes(mount.path(), cgroup), Some(1024));
        assert_eq!(limit_bytes(mount.path(), "0::/\n"), None);
    }

    #[test]
    fn the_machine_has_memory() {
        assert_eq!(
            total_bytes("MemTotal:  2048 kB\nMemFree: 1 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(total_bytes("nonsense"), None);
        assert!(memory_bytes_default() > 0);
    }
}
