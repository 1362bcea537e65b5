//! Messages of `records.proto` as events of the queue. Nothing is guessed: what does not fit is `None`, and corrupt.

use dewar_proto::store::v1::{self as stored, event::What, payload::Place, task_ended};
use dewar_queue::{
    AttemptId, BlobRef, Digest, Event, Failure, FailureClass, Input, InputSource, JobId, JobNumber,
    JobTerms, Kind, Made, Outcome, OutcomeResult, Output, OutputPart, Payload, Resources, TaskId,
    TaskSpec, Timestamp, WorkerId,
};
use std::sync::Arc;

/// The event of `job`.
pub(super) fn event(job: JobNumber, event: stored::Event) -> Option<Event> {
    let event = match event.what? {
        What::JobCreated(created) => Event::JobCreated {
            job,
            id: JobId(created.id.try_into().ok()?),
            owner: created.owner.into(),
            name: created.name.into(),
            priority: created.priority,
            terms: JobTerms {
                keep_ms: created.keep_ms,
                absence_ms_max: created.absence_ms_max,
                reuse: created.reuse,
            },
            created_unix_ms: created.created_unix_ms,
        },
        What::TasksSubmitted(submitted) => Event::TasksSubmitted {
            job,
            first_index: submitted.first_index,
            specs: all(submitted.specs, |spec| task_spec(spec).map(Arc::new))?,
        },
        What::JobClosed(closed) => Event::JobClosed {
            job,
            at_unix_ms: closed.at_unix_ms,
        },
        What::JobCancelled(cancelled) => Event::JobCancelled {
            job,
            at_unix_ms: cancelled.at_unix_ms,
        },
        What::TasksCancelled(cancelled) => Event::TasksCancelled {
            job,
            indices: cancelled.indices,
            at_unix_ms: cancelled.at_unix_ms,
        },
        What::TasksRerun(rerun) => Event::TasksRerun {
            job,
            indices: rerun.indices,
            fence: AttemptId {
                broker_start: rerun.fence_broker_start,
                n: rerun.fence_attempt_n,
            },
        },
        What::BlobHeld(blob) => Event::BlobHeld {
            job,
            blob: blob_ref(blob)?,
        },
        What::BlobsReleased(released) => Event::BlobsReleased {
            job,
            digests: all(released.digests, digest)?,
        },
        What::AttemptAcquitted(acquitted) => Event::AttemptAcquitted {
            task: TaskId {
                job,
                index: acquitted.task_index,
            },
            attempt: AttemptId {
                broker_start: acquitted.broker_start,
                n: acquitted.attempt_n,
            },
        },
        What::AttemptFailed(failed) => Event::AttemptFailed {
            task: TaskId {
                job,
                index: failed.task_index,
            },
            attempt: AttemptId {
                broker_start: failed.broker_start,
                n: failed.attempt_n,
            },
            worker: match failed.worker_id.as_slice() {
                [] => None,
                id => Some(WorkerId(id.try_into().ok()?)),
            },
            failure: failure(failed.failure?)?,
            retry_at: Timestamp::default(),
        },
        What::TaskEnded(ended) => Event::TaskEnded {
            at_unix_ms: ended.at_unix_ms,
            outcome: outcome(job, ended)?,
        },
    };
    Some(event)
}

fn outcome(job: JobNumber, ended: stored::TaskEnded) -> Option<Outcome> {
    let result = match ended.result? {
        task_ended::Result::Succeeded(given) => OutcomeResult::Succeeded(output(given)?),
        task_ended::Result::Failed(reason) => OutcomeResult::Failed(failure(reason)?),
        task_ended::Result::Cancelled(stored::Cancelled {}) => OutcomeResult::Cancelled,
    };
    Some(Outcome {
        task: TaskId {
            job,
            index: ended.task_index,
        },
        sequence: ended.sequence,
        result,
        worker_name: ended.worker_name.map(Into::into),
        run_ms: ended.run_ms,
        generation: ended.generation,
        reused: ended.reused,
        made_by: ended.made_by.map(|made| Made {
            revision: made.revision,
            instruction_class: made.instruction_class.into(),
        }),
    })
}

fn task_spec(spec: stored::TaskSpec) -> Option<TaskSpec> {
    Some(TaskSpec {
        kind: Kind {
            name: spec.kind_name.into(),
            version: spec.kind_version,
        },
        parameters: payload(spec.parameters?)?,
        inputs: all(spec.inputs, input)?,
        attempts_max: spec.attempts_max,
        time_limit_ms: spec.time_limit_ms,
        resources: Resources {
            slot_count: spec.slot_count.max(1),
            memory_bytes: spec.memory_bytes,
        },
        key: spec.key.map(Into::into),
        after: spec.after,
        parameters_digest: match spec.parameters_digest {
            None => None,
            Some(bytes) => Some(digest(bytes)?),
        },
    })
}

fn input(input: stored::Input) -> Option<Input> {
    let (ranges, rest) = input.ranges.as_chunks::<2>();
    rest.is_empty().then_some(())?;
    let source = match (input.blob, input.output) {
        (Some(blob), None) => InputSource::Blob(blob_ref(blob)?),
        (None, Some(output)) => InputSource::Output {
            task_index: output.task_index,
            part: output
                .blob_index
                .map_or(OutputPart::Message, OutputPart::Blob),
        },
        (None, None) | (Some(_), Some(_)) => return None,
    };
    Some(Input {
        source,
        ranges: ranges
            .iter()
            .map(|[offset, length]| (*offset, *length))
            .collect(),
    })
}

fn payload(payload: stored::Payload) -> Option<Payload> {
    Some(match payload.place? {
        Place::Inline(bytes) => Payload::Inline(bytes.into()),
        Place::Packed(packed) => Payload::Packed {
            file: packed.file,
            offset: packed.offset,
            length: packed.length,
            checksum: packed.checksum,
        },
        Place::Blob(blob) => Payload::Blob(blob_ref(blob)?),
    })
}

fn output(output: stored::Output) -> Option<Output> {
    Some(Output {
        message: payload(output.message?)?,
        blobs: all(output.blobs, blob_ref)?,
    })
}

fn blob_ref(blob: stored::BlobRef) -> Option<BlobRef> {
    Some(BlobRef {
        digest: digest(blob.digest)?,
        size_bytes: blob.size_bytes,
    })
}

fn digest(bytes: Vec<u8>) -> Option<Digest> {
    bytes.try_into().ok().map(Digest)
}

fn failure(failure: stored::Failure) -> Option<Failure> {
    let class = match failure.class() {
        stored::FailureClass::Unspecified => return None,
        stored::FailureClass::KernelError => FailureClass::KernelError,
        stored::FailureClass::WorkerLost => FailureClass::WorkerLost,
        stored::FailureClass::TimedOut => FailureClass::TimedOut,
        stored::FailureClass::BadInput => FailureClass::BadInput,
        stored::FailureClass::Dependency => FailureClass::Dependency,
        stored::FailureClass::KilledWorkers => FailureClass::KilledWorkers,
    };
    Some(Failure {
        class,
        message: failure.message,
    })
}

fn all<T, U>(items: Vec<T>, convert: impl Fn(T) -> Option<U>) -> Option<Vec<U>> {
    items.into_iter().map(convert).collect()
}
