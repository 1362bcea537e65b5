//! Stops a store after so many writes: how tests see every state that a crash can leave. Elsewhere nothing stops it.

use super::super::StoreError;

/// Asked before every write to the disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Fuse {
    #[cfg(test)]
    writes_left: Option<std::sync::Arc<std::sync::atomic::AtomicI64>>,
}

impl Fuse {
    /// Lets a write pass, or says that the process is dead by now.
    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "only tests have fuses that blow"
    )]
    pub(super) fn burn(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod blowing {
    use super::{Fuse, StoreError};
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    };

    impl Fuse {
        pub(in super::super) fn after(writes: u64) -> Self {
            let writes = i64::try_from(writes).unwrap();
            Self {
                writes_left: Some(Arc::new(AtomicI64::new(writes))),
            }
        }

        pub(in super::super) fn has_blown(&self) -> bool {
            let left = self.writes_left.as_ref();
            left.is_some_and(|left| left.load(Ordering::SeqCst) < 0)
        }

        pub(in super::super) fn burn(&self) -> Result<(), StoreError> {
            if let Some(left) = &self.writes_left
                && left.fetch_sub(1, Ordering::SeqCst) <= 0
            {
                return Err(StoreError::Engine("stopped by a test".into()));
            }
            Ok(())
        }
    }
}
