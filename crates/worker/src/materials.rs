//! What a task needs before it can run: its parameters and inputs, fetched and checked.

use crate::{
    attempt::failure,
    config::{BACKOFF_MAX, backoff},
    swarm::SwarmSource,
    time_limit::TimeLimit,
};
use bytes::Bytes;
use dewar_blobs::{BlobRef, ChunkCache, FetchError};
use dewar_proto::v1;
use dewar_task::{Context, InputBytes, Kind};
use std::{ops::Range, sync::Arc, time::Instant};
use tokio::sync::Semaphore;

/// Tasks whose inputs are fetched at once. Each fetches several chunks at once; more would only share the same wire.
const TASKS_FETCHING_MAX: usize = 8;

/// Everything a kernel needs.
pub(crate) struct Prepared {
    pub(crate) kind: Kind,
    pub(crate) parameters: Bytes,
    pub(crate) context: Context,
    pub(crate) need: Need,
    pub(crate) time_limit: Option<TimeLimit>,
    /// How long it took to get all of it here.
    pub(crate) fetch_ms: u64,
}

/// What one try takes of its worker while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) slot_count: usize,
    /// 0: not said.
    pub(crate) memory_bytes: u64,
}

impl Need {
    fn of(spec: &v1::TaskSpec) -> Self {
        let said = spec.resources.unwrap_or_default();
        Self {
            slot_count: usize::try_from(said.slot_count)
                .unwrap_or(usize::MAX)
                .max(1),
            memory_bytes: said.memory_bytes,
        }
    }
}

/// Whether a task came with all that it needs.
pub(crate) fn is_complete(spec: &v1::TaskSpec) -> bool {
    let parameters = spec.parameters.as_ref();
    let parameters = parameters.and_then(|payload| payload.place.as_ref());
    !matches!(parameters, Some(v1::payload::Place::Blob(_)))
        && spec.inputs.iter().all(|input| input.inline.is_some())
}

/// Makes a task that [`is_complete`] ready to run, without waiting for anything.
pub(crate) fn unpack(spec: v1::TaskSpec) -> Result<Prepared, v1::Failure> {
    let (need, time_limit) = (Need::of(&spec), TimeLimit::of(&spec));
    let parameters = match spec.parameters.and_then(|payload| payload.place) {
        Some(v1::payload::Place::Inline(bytes)) => bytes,
        _ => Bytes::new(),
    };
    let inputs = spec.inputs.into_iter().filter_map(|input| input.inline);
    let inputs = inputs.map(InputBytes::whole).collect();
    prepared(spec.kind, parameters, inputs, need, time_limit)
}

fn prepared(
    kind: Option<v1::Kind>,
    parameters: Bytes,
    inputs: Vec<InputBytes>,
    need: Need,
    time_limit: Option<TimeLimit>,
) -> Result<Prepared, v1::Failure> {
    let kind = kind.ok_or_else(|| bad_input("kind is missing"))?;
    Ok(Prepared {
        kind: Kind {
            name: kind.name,
            version: kind.version,
        },
        parameters,
        context: Context::with_slots(inputs, need.slot_count),
        need,
        time_limit,
        fetch_ms: 0,
    })
}

/// Where materials come from.
#[derive(Clone)]
pub(crate) struct Materials {
    cache: ChunkCache,
    source: SwarmSource,
    turns: Arc<Semaphore>,
}

impl Materials {
    pub(crate) fn new(cache: ChunkCache, source: SwarmSource) -> Self {
        Self {
            cache,
            source,
            turns: Arc::new(Semaphore::new(TASKS_FETCHING_MAX)),
        }
    }

    /// Fetches what a task needs, for as long as it takes. An error is final: no other try could do better.
    pub(crate) async fn prepare(&self, spec: v1::TaskSpec) -> Result<Prepared, v1::Failure> {
        let _turn = self.turns.acquire().await;
        let began = Instant::now();
        let (need, time_limit) = (Need::of(&spec), TimeLimit::of(&spec));
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
            inputs.push(match &input.inline {
                Some(bytes) => InputBytes::whole(bytes.clone()),
                None => {
                    self.fetch(&field, input.blob.as_ref(), &input.ranges)
                        .await?
                }
            });
        }
        Ok(Prepared {
            fetch_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            ..prepared(spec.kind, parameters, inputs, need, time_limit)?
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
            match self.cache.fetch(&self.source, blob, &ranges).await {
                Ok(parts) => break parts,
                Err(error) if error.is_transient() => {
                    tracing::debug!(blob = %blob.digest, %error, "fetching again");
                    tokio::time::sleep(waits.next().unwrap_or(BACKOFF_MAX)).await;
                }
                // Another worker may have more room.
                Err(error @ FetchError::Full { .. }) => {
                    let message = format!("{field}: {error}");
                    return Err(failure(v1::FailureClass::KernelError, &message));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(inputs: Vec<v1::Input>) -> v1::TaskSpec {
        v1::TaskSpec {
            kind: Some(v1::Kind {
                name: "test".to_owned(),
                version: 3,
            }),
            inputs,
            resources: Some(v1::Resources {
                slot_count: 4,
                memory_bytes: 1000,
            }),
            ..Default::default()
        }
    }

    fn inline(bytes: &'static [u8]) -> v1::Input {
        v1::Input {
            inline: Some(Bytes::from_static(bytes)),
            ..Default::default()
        }
    }

    #[test]
    fn what_came_with_the_task_needs_no_fetching() {
        let spec = spec(vec![inline(b"earlier output"), inline(b"")]);
        assert!(is_complete(&spec));
        let Ok(prepared) = unpack(spec) else {
            panic!("it has a kind");
        };
        let input = prepared.context.input(0).unwrap();
        assert_eq!(input.read_all().unwrap(), "earlier output");
        assert_eq!(prepared.context.input(1).unwrap().size_bytes(), 0);
        assert_eq!(prepared.context.slot_count(), 4);
        assert_eq!(prepared.need.memory_bytes, 1000);
        assert!(unpack(v1::TaskSpec::default()).is_err(), "it has no kind");
    }

    #[test]
    fn blobs_are_fetched() {
        let blob = Some(v1::BlobRef::default());
        let input = v1::Input {
            blob: blob.clone(),
            ..Default::default()
        };
        assert!(!is_complete(&spec(vec![inline(b""), input])));
        let place = blob.map(v1::payload::Place::Blob);
        let mut large = spec(vec![]);
        large.parameters = Some(v1::Payload { place });
        assert!(!is_complete(&large));
    }
}
