//! The page on its way to the broker, for whoever looks there. That is a courtesy: no round waits for it, and a broker
//! that does not take it is not complained about.

use dewar_report::Page;
use dewar_sdk::Job;
use std::{
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::{task::JoinHandle, time::timeout};

/// How long the end of a refinement may wait for the broker to take its report.
const PATIENCE: Duration = Duration::from_secs(5);

/// One page at a time is under way, so that none comes after a later one.
#[derive(Debug, Default)]
pub(super) struct Publishing {
    job: OnceLock<Job>,
    current: Mutex<Option<JoinHandle<()>>>,
}

impl Publishing {
    /// From now on pages go to the broker, as those of this job.
    pub(super) fn open(&self, job: &Job) {
        let _ = self.job.set(job.clone());
    }

    /// Sends a page in place of the one that may be under way.
    pub(super) fn begin(&self, page: &Page) {
        let Some(job) = self.job.get().cloned() else {
            return;
        };
        let html = page.to_framed_html();
        let mut current = self.current();
        if let Some(earlier) = current.take() {
            earlier.abort();
        }
        *current = Some(tokio::spawn(async move {
            // An earlier release of the broker, or one without room, shows none.
            let _ = job.publish(html).await;
        }));
    }

    /// Sends a page, unless the one before is still under way: a slow link would never see one arrive.
    pub(super) fn begin_if_idle(&self, page: &Page) {
        let is_idle = self.current().as_ref().is_none_or(JoinHandle::is_finished);
        if is_idle {
            self.begin(page);
        }
    }

    /// Waits a little for the last page to arrive.
    pub(super) async fn end(&self) {
        let last = self.current().take();
        if let Some(mut last) = last
            && timeout(PATIENCE, &mut last).await.is_err()
        {
            last.abort();
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
