//! From our types to the wire. Payloads are read before, a batch in one go.

use crate::{
    engine::{Address, read_payloads},
    store::PackReader,
};
use bytes::Bytes;
use dewar_proto::v1;
use dewar_queue::{
    BlobRef, Failure, FailureClass, Input, InputSource, Kind, Outcome, OutcomeResult, Payload,
    TaskSpec, TaskState,
};
use tonic::Status;

pub(in crate::rpc) fn task_ref(address: Address) -> v1::TaskRef {
    v1::TaskRef {
        job_id: address.job.0.into(),
        index: address.index,
    }
}

pub(in crate::rpc) fn attempt_id(address: Address) -> v1::AttemptId {
    v1::AttemptId {
        broker_start: address.attempt.broker_start,
        n: address.attempt.n,
    }
}

pub(in crate::rpc) fn kind_to_wire(kind: &Kind) -> v1::Kind {
    v1::Kind {
        name: kind.name.to_string(),
        version: kind.version,
    }
}

pub(in crate::rpc) fn blob_to_wire(blob: &BlobRef) -> v1::BlobRef {
    v1::BlobRef {
        digest: blob.digest.0.to_vec(),
        size_bytes: blob.size_bytes,
    }
}

pub(in crate::rpc) fn failure_to_wire(failure: &Failure) -> v1::Failure {
    let class = match failure.class {
        FailureClass::KernelError => v1::FailureClass::KernelError,
        FailureClass::WorkerLost => v1::FailureClass::WorkerLost,
        FailureClass::TimedOut => v1::FailureClass::TimedOut,
        FailureClass::BadInput => v1::FailureClass::BadInput,
        FailureClass::Dependency => v1::FailureClass::Dependency,
        FailureClass::KilledWorkers => v1::FailureClass::KilledWorkers,
    };
    v1::Failure {
        class: class.into(),
        message: failure.message.clone(),
    }
}

pub(in crate::rpc) fn state_to_wire(state: TaskState) -> v1::TaskState {
    match state {
        TaskState::Waiting => v1::TaskState::Waiting,
        TaskState::Running => v1::TaskState::Running,
        TaskState::Succeeded => v1::TaskState::Succeeded,
        TaskState::Failed => v1::TaskState::Failed,
        TaskState::Cancelled => v1::TaskState::Cancelled,
    }
}

/// Payloads with their bytes, in order, read in one go.
pub(in crate::rpc) async fn payloads_to_wire(
    packs: &PackReader,
    payloads: impl Iterator<Item = &Payload> + Clone,
) -> Result<Vec<v1::Payload>, Status> {
    let read = read_payloads(packs, payloads.clone()).await;
    let read = read.map_err(|error| {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "a payload cannot be read"
        );
        match error.is_loss() {
            true => Status::data_loss(error.to_string()),
            // It may pass.
            false => Status::unavailable(error.to_string()),
        }
    })?;
    let to_wire = |(payload, bytes): (&Payload, Option<Bytes>)| {
        let place = match payload {
            Payload::Blob(blob) => v1::payload::Place::Blob(blob_to_wire(blob)),
            Payload::Inline(_) | Payload::Packed { .. } => {
                v1::payload::Place::Inline(bytes.unwrap_or_default())
            }
        };
        v1::Payload { place: Some(place) }
    };
    Ok(payloads.zip(read).map(to_wire).collect())
}

/// The message that an outcome came with, if it succeeded.
pub(in crate::rpc) fn message_of(outcome: &Outcome) -> Option<&Payload> {
    match &outcome.result {
        OutcomeResult::Succeeded(output) => Some(&output.message),
        OutcomeResult::Failed(_) | OutcomeResult::Cancelled => None,
    }
}

/// What of a task is to be read before it can be sent.
pub(in crate::rpc) fn payloads_of(spec: &TaskSpec) -> impl Iterator<Item = &Payload> + Clone {
    let messages = spec.inputs.iter().filter_map(|input| match &input.source {
        InputSource::Message(message) => Some(message),
        InputSource::Blob(_) | InputSource::Output { .. } => None,
    });
    std::iter::once(&spec.parameters).chain(messages)
}

/// A task. Its [`payloads_of`] come next from `payloads`, read already.
pub(in crate::rpc) fn spec_to_wire(
    spec: &TaskSpec,
    payloads: &mut impl Iterator<Item = v1::Payload>,
) -> Result<v1::TaskSpec, Status> {
    let parameters = payloads.next();
    let inputs = spec.inputs.iter();
    let inputs = inputs.map(|input| input_to_wire(input, payloads));
    Ok(v1::TaskSpec {
        kind: Some(kind_to_wire(&spec.kind)),
        parameters,
        inputs: inputs.collect::<Result<_, _>>()?,
        attempts_max: spec.attempts_max,
        time_limit_ms: spec.time_limit_ms,
        resources: Some(v1::Resources {
            slot_count: spec.resources.slot_count,
            memory_bytes: spec.resources.memory_bytes,
        }),
        key: spec.key.as_deref().unwrap_or_default().to_owned(),
        after: Vec::new(),
    })
}

fn input_to_wire(
    input: &Input,
    payloads: &mut impl Iterator<Item = v1::Payload>,
) -> Result<v1::Input, Status> {
    let ranges = input.ranges.iter();
    let mut wire = v1::Input {
        ranges: ranges
            .map(|(offset, length)| v1::ByteRange {
                offset_bytes: *offset,
                length_bytes: *length,
            })
            .collect(),
        ..Default::default()
    };
    match &input.source {
        InputSource::Blob(blob) => wire.blob = Some(blob_to_wire(blob)),
        InputSource::Message(_) => {
            let place = payloads.next().and_then(|message| message.place);
            if let Some(v1::payload::Place::Inline(bytes)) = place {
                wire.inline = Some(bytes);
            }
        }
        // The queue gives nothing out before it has what others give.
        InputSource::Output { .. } => {
            return Err(Status::internal(
                "a task was given out before its inputs were there",
            ));
        }
    }
    Ok(wire)
}

/// An outcome, its message read already.
pub(in crate::rpc) fn outcome_to_wire(
    outcome: &Outcome,
    message: Option<v1::Payload>,
) -> v1::Outcome {
    let result = match &outcome.result {
        OutcomeResult::Succeeded(output) => v1::outcome::Result::Succeeded(v1::Output {
            message,
            blobs: output.blobs.iter().map(blob_to_wire).collect(),
        }),
        OutcomeResult::Failed(failure) => v1::outcome::Result::Failed(failure_to_wire(failure)),
        OutcomeResult::Cancelled => v1::outcome::Result::Cancelled(v1::Cancelled {}),
    };
    v1::Outcome {
        task_index: outcome.task.index,
        sequence: outcome.sequence,
        result: Some(result),
        worker_name: outcome.worker_name.as_deref().unwrap_or_default().into(),
        run_ms: outcome.run_ms,
        generation: outcome.generation,
        reused: outcome.reused,
    }
}
