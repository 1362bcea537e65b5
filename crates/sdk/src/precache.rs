//! Filling the workers' caches before any task needs them, and hearing how far that is.
//!
//! The broker tells it over a stream. When that breaks, the whole is asked for again: workers skip what they have.

use crate::{Client, call::CallError, resumed::Resumed};
use dewar_blobs::BlobRef;
use dewar_proto::{limits, v1};
use std::collections::BTreeSet;
use v1::admin_client::AdminClient;

const CALL: &str = "precaching";

/// How far the workers are that were asked to fetch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrecacheProgress {
    /// How many fetch. Those on the broker's machine read there what they need, and do not count.
    pub worker_count: u64,
    /// What they have, all together.
    pub held_bytes: u64,
    /// What they are to have, all together. What a worker cannot hold is not waited for.
    pub wanted_bytes: u64,
    /// Workers that cannot, and why; only those not told before.
    pub failures: Vec<String>,
}

/// Caches being filled. Dropping it has the broker ask nobody any more; what was asked for goes on.
#[derive(Debug)]
pub struct Precaching {
    client: Client,
    request: v1::PrecacheRequest,
    stream: Resumed<v1::PrecacheResponse>,
    /// Over a new connection they are told again.
    told_failures: BTreeSet<String>,
    is_complete: bool,
}

impl Client {
    /// Has the workers, of one site or all, fetch blobs before any task needs them. Begins with the first
    /// [`Precaching::next`]. The blobs must be held, as by the job they were uploaded to.
    ///
    /// # Errors
    /// If the broker is of a release that does not know it.
    pub fn precache(&self, blobs: &[BlobRef], site: Option<&str>) -> Result<Precaching, CallError> {
        self.shared.require_minor(2, CALL)?;
        Ok(Precaching {
            client: self.clone(),
            request: v1::PrecacheRequest {
                blobs: blobs.iter().map(|blob| (*blob).into()).collect(),
                site: site.unwrap_or_default().to_owned(),
            },
            stream: Resumed::new(&self.shared.caller),
            told_failures: BTreeSet::new(),
            is_complete: false,
        })
    }
}

impl Precaching {
    /// How far it is now; `None` once every worker has all that it can hold. A call may be dropped, as in `select!`,
    /// without losing anything.
    ///
    /// # Errors
    /// What waiting cannot mend.
    pub async fn next(&mut self) -> Result<Option<PrecacheProgress>, CallError> {
        while !self.is_complete {
            if let Some(progress) = self.receive().await? {
                return Ok(Some(self.note(progress)));
            }
            // A broker that goes down in good order ends its streams too.
            self.stream.pause().await;
        }
        Ok(None)
    }

    /// What comes next over the connection, or `None` where the broker ended it.
    async fn receive(&mut self) -> Result<Option<v1::PrecacheResponse>, CallError> {
        let request = &self.request;
        let open = |channel| async move {
            let admin = AdminClient::new(channel);
            let mut admin = admin.max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
            admin.precache(request.clone()).await
        };
        let caller = &self.client.shared.caller;
        self.stream.next(caller, CALL, open).await
    }

    fn note(&mut self, progress: v1::PrecacheResponse) -> PrecacheProgress {
        self.is_complete = progress.held_bytes >= progress.wanted_bytes;
        let failures = progress.failures.into_iter();
        PrecacheProgress {
            worker_count: progress.worker_count,
            held_bytes: progress.held_bytes,
            wanted_bytes: progress.wanted_bytes,
            failures: failures
                .filter(|failure| self.told_failures.insert(failure.clone()))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests;
