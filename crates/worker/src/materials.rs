//! What a task needs before it can run: its parameters and inputs, fetched and checked.

use crate::{
    attempt::failure,
    config::{BACKOFF_MAX, backoff},
};
use bytes::Bytes;
use dewar_blobs::{BlobClient, BlobRef, ChunkCache};
use dewar_proto::v1;
use dewar_task::{Context, InputBytes, Kind};
use std::{ops::Range, sync::Arc};
use tokio::sync::Semaphore;

/// Tasks whose inputs are fetched at once. Each fetches several chunks at once; more would only share the same wire.
const TASKS_FETCHING_MAX: usize = 8;

/// Everything a kernel needs.
pub(crate) struct Prepared {
    pub(crate) kind: Kind,
    pub(crate) parameters: Bytes,
    pub(crate) context: Context,
}

/// Where materials come from.
#[derive(Clone)]
pub(crate) struct Materials {
    cache: ChunkCache,
    blobs: BlobClient,
    turns: Arc<Semaphore>,
}

impl Materials {
    pub(crate) fn new(cache: ChunkCache, blobs: BlobClient) -> Self {
        Self {
            cache,
            blobs,
            turns: Arc::new(Semaphore::new(TASKS_FETCHING_MAX)),
        }
    }

    /// Fetches what a task needs, for as long as it takes. An error is final: no other try could do better.
    pub(crate) async fn prepare(&self, spec: v1::TaskSpec) -> Result<Prepared, v1::Failure> {
        let _turn = self.turns.acquire().await;
        let kind = spec.kind.ok_or_else(|| bad_input("kind is missing"))?;
        let parameters = match spec.parameters.and_then(|payload| payload.place) {
            Some(v1::payload::Place::Inline(bytes)) => bytes,
            Some(v1::payload::Place::Blob(blob)) => {
                let input = self.fetch("parameters", Some(&blob), &[]).await?;
                input
                    .read_all()
                    .map_err(|error| bad_input(&error.to_string()))?
            }
            None => Bytes::new(),
        };
        let mut inputs = Vec::with_capacity(spec.inputs.len());
        for (index, input) in spec.inputs.iter().enumerate() {
            let field = format!("inputs[{index}]");
            inputs.push(
                self.fetch(&field, input.blob.as_ref(), &input.ranges)
                    .await?,
            );
        }
        Ok(Prepared {
            kind: Kind {
                name: kind.name,
                version: kind.version,
            },
            parameters,
            context: Context::new(inputs),
        })
    }

    async fn fetch(
        &self,
        field: &str,
        blob: Option<&v1::BlobRef>,
        ranges: &[v1::ByteRange],
    ) -> Result<InputBytes, v1::Failure> {
        let blob =
            BlobRef::from_wire(blob, field).map_err(|error| bad_input(&error.to_string()))?;
        let ranges = ranges
            .iter()
            .map(bounds)
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| bad_input(&format!("a range of {field} has no end")))?;
        let mut waits = backoff();
        let parts = loop {
            match self.cache.fetch(&self.blobs, blob, &ranges).await {
                Ok(parts) => break parts,
                Err(error) if error.is_transient() => {
                    tracing::debug!(blob = %blob.digest, %error, "fetching again");
                    tokio::time::sleep(waits.next().unwrap_or(BACKOFF_MAX)).await;
                }
                Err(error) => return Err(bad_input(&format!("{field}: {error}"))),
            }
        };
        let mut input = InputBytes::new(blob.size_bytes);
        for (offset, bytes) in parts {
            input.insert(offset, bytes);
        }
        Ok(input)
    }
}

fn bounds(range: &v1::ByteRange) -> Option<Range<u64>> {
    let end = range.offset_bytes.checked_add(range.length_bytes)?;
    Some(range.offset_bytes..end)
}

fn bad_input(message: &str) -> v1::Failure {
    failure(v1::FailureClass::BadInput, message)
}
