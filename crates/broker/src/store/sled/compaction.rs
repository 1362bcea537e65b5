//! When and how the store's disk use comes back down: sled's files never shrink, so what lives is written into a new
//! generation, and the old one removed.

use super::{
    super::{StoreError, records},
    database::{Database, Writes},
};

/// When a compaction is worth its writing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thrift {
    /// Less than this is not worth the trouble.
    pub(super) disk_bytes_min: u64,
    /// What lives takes, at most, one part in so many of the disk. sled itself needs three to four times its data.
    pub(super) disk_to_live_min: u64,
    /// What is written while the broker waits: at most this much, a pause of about a second. A million waiting tasks
    /// are half of it.
    pub(super) live_bytes_max_while_running: u64,
}

impl Default for Thrift {
    fn default() -> Self {
        Self {
            disk_bytes_min: 64 << 20,
            disk_to_live_min: 4,
            live_bytes_max_while_running: 64 << 20,
        }
    }
}

impl Thrift {
    /// Whether so much on disk is far too much for what lives.
    pub(super) fn is_worth(&self, disk_bytes: u64, live_bytes: u64) -> bool {
        disk_bytes > self.disk_bytes_min
            && disk_bytes > live_bytes.saturating_mul(self.disk_to_live_min)
    }
}

/// Writes all that `from` has into `to`, which is new; durable when this returns.
pub(super) fn copy(from: &Database, to: &Database) -> Result<(), StoreError> {
    let mut writes = Writes::default();
    from.scan(&[], |key, value| {
        if records::unseal(key, &value).is_none() {
            return Err(from.damaged("a checksum is wrong"));
        }
        to.put_sealed(&mut writes, key, value)
    })?;
    to.apply(&mut writes)?;
    to.sync()?;
    to.sync_names()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_or_well_used_files_are_left_alone() {
        let check = |disk_mib: u64, live_mib: u64| {
            Thrift::default().is_worth(disk_mib << 20, live_mib << 20)
        };
        assert!(!check(64, 0));
        assert!(check(65, 0));
        assert!(check(65, 16));
        assert!(!check(400, 100));
        assert!(check(401, 100));
        assert!(!Thrift::default().is_worth(u64::MAX, u64::MAX));
    }
}
