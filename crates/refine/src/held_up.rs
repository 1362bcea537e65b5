//! Tells why nothing goes on, where the broker knows why: no worker is there, or none that can do what is needed.

use crate::progress::{Observer, Progress};
use dewar_sdk::Job;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::time::sleep;

/// Between two looks. What holds the work up at two of them in a row is worth a line: workers come and go.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Looks after a job for as long as anybody waits for it.
pub(crate) async fn tell(job: &Job, observer: &Arc<dyn Observer>) -> Infallible {
    let (mut told, mut seen) = (None, None);
    loop {
        sleep(LOOK_EVERY).await;
        // That a broker is away is told elsewhere.
        let Ok(status) = job.status().await else {
            continue;
        };
        let reason = status.blocked_reason;
        if reason == seen && reason != told {
            let line = match &reason {
                Some(reason) => format!("waiting: {reason}"),
                None => "the work goes on".to_owned(),
            };
            observer.on(Progress::Note(&line));
            told.clone_from(&reason);
        }
        seen = reason;
    }
}
