//! Events of the queue as messages of `records.proto`.

use dewar_proto::store::v1::{self as stored, event::What, payload::Place, task_ended};
use dewar_queue::{
    BlobRef, Event, Failure, FailureClass, Input, InputSource, JobNumber, Outcome, OutcomeResult,
    Output, OutputPart, Payload, TaskSpec,
};

/// The event and its job, if it is one that is stored as a record.
pub(super) fn event(event: &Event) -> Option<(JobNumber, stored::Event)> {
    let (job, what) = match event {
        Event::JobCreated {
            job,
            id,
            owner,
            name,
            priority,
            terms,
            created_unix_ms,
        } => {
            let created = stored::JobCreated {
                id: id.0.to_vec(),
                owner: owner.to_string(),
                name: name.to_string(),
                priority: *priority,
                created_unix_ms: *created_unix_ms,
                keep_ms: terms.keep_ms,
                absence_ms_max: terms.absence_ms_max,
                reuse: terms.reuse,
            };
            (*job, What::JobCreated(created))
        }
        Event::TasksSubmitted {
            job,
            first_index,
            specs,
        } => {
            let submitted = stored::TasksSubmitted {
                first_index: *first_index,
                specs: specs.iter().map(|spec| task_spec(spec)).collect(),
            };
            (*job, What::TasksSubmitted(submitted))
        }
        Event::JobClosed { job, at_unix_ms } => {
            let at_unix_ms = *at_unix_ms;
            (*job, What::JobClosed(stored::JobClosed { at_unix_ms }))
        }
        Event::JobCancelled { job, at_unix_ms } => {
            let at_unix_ms = *at_unix_ms;
            (*job, What::JobCancelled(stored::JobCancelled { at_unix_ms }))
        }
        Event::TasksCancelled {
            job,
            indices,
            at_unix_ms,
        } => {
            let cancelled = stored::TasksCancelled {
                indices: indices.clone(),
                at_unix_ms: *at_unix_ms,
            };
            (*job, What::TasksCancelled(cancelled))
        }
        Event::TasksRerun {
            job,
            indices,
            fence,
        } => {
            let rerun = stored::TasksRerun {
                indices: indices.clone(),
                fence_broker_start: fence.broker_start,
                fence_attempt_n: fence.n,
            };
            (*job, What::TasksRerun(rerun))
        }
        Event::BlobHeld { job, blob } => (*job, What::BlobHeld(blob_ref(blob))),
        Event::BlobsReleased { job, digests } => {
            let digests = digests.iter().map(|digest| digest.0.to_vec()).collect();
            (*job, What::BlobsReleased(stored::BlobsReleased { digests }))
        }
        // The time of the next try is that of a clock that ends with the process.
        Event::AttemptFailed {
            task,
            attempt,
            worker,
            failure,
            retry_at: _,
        } => {
            let failed = stored::AttemptFailed {
                task_index: task.index,
                broker_start: attempt.broker_start,
                attempt_n: attempt.n,
                failure: Some(to_failure(failure)),
                worker_id: worker.map_or_else(Vec::new, |worker| worker.0.to_vec()),
            };
            (task.job, What::AttemptFailed(failed))
        }
        Event::AttemptAcquitted { task, attempt } => {
            let acquitted = stored::AttemptAcquitted {
                task_index: task.index,
                broker_start: attempt.broker_start,
                attempt_n: attempt.n,
            };
            (task.job, What::AttemptAcquitted(acquitted))
        }
        Event::TaskEnded {
            outcome,
            at_unix_ms,
        } => (
            outcome.task.job,
            What::TaskEnded(task_ended(outcome, *at_unix_ms)),
        ),
        // Deletes records instead of being one.
        Event::JobForgotten { .. }
        // Volatile.
        | Event::WorkerJoined { .. }
        | Event::WorkerSeen { .. }
        | Event::WorkerDisconnected { .. }
        | Event::WorkerGone { .. }
        | Event::WorkerDraining { .. }
        | Event::WorkerAvailability { .. }
        | Event::HoldingsNoted { .. }
        | Event::WorkerOnProbation { .. }
        | Event::RerunSkipped { .. }
        | Event::WorkerOnTrial { .. }
        | Event::ComebackOver
        | Event::CustomerSeen { .. }
        | Event::CustomerWatches { .. }
        | Event::AttemptStarted { .. }
        | Event::RetryDue { .. }
        | Event::AttemptEnded { .. } => return None,
    };
    Some((job, stored::Event { what: Some(what) }))
}

fn task_ended(outcome: &Outcome, at_unix_ms: u64) -> stored::TaskEnded {
    let result = match &outcome.result {
        OutcomeResult::Succeeded(output) => task_ended::Result::Succeeded(to_output(output)),
        OutcomeResult::Failed(failure) => task_ended::Result::Failed(to_failure(failure)),
        OutcomeResult::Cancelled => task_ended::Result::Cancelled(stored::Cancelled {}),
    };
    stored::TaskEnded {
        task_index: outcome.task.index,
        sequence: outcome.sequence,
        result: Some(result),
        worker_name: outcome.worker_name.as_ref().map(ToString::to_string),
        run_ms: outcome.run_ms,
        at_unix_ms,
        generation: outcome.generation,
        reused: outcome.reused,
        made_by: outcome.made_by.as_ref().map(|made| stored::MadeBy {
            revision: made.revision,
            instruction_class: made.instruction_class.to_string(),
        }),
    }
}

fn task_spec(spec: &TaskSpec) -> stored::TaskSpec {
    stored::TaskSpec {
        kind_name: spec.kind.name.to_string(),
        kind_version: spec.kind.version,
        parameters: Some(to_payload(&spec.parameters)),
        inputs: spec.inputs.iter().map(to_input).collect(),
        attempts_max: spec.attempts_max,
        time_limit_ms: spec.time_limit_ms,
        slot_count: match spec.resources.slot_count {
            1 => 0,
            count => count,
        },
        memory_bytes: spec.resources.memory_bytes,
        key: spec.key.as_ref().map(ToString::to_string),
        after: spec.after.clone(),
        parameters_digest: spec.parameters_digest.map(|digest| digest.0.to_vec()),
    }
}

fn to_input(input: &Input) -> stored::Input {
    let ranges = input.ranges.iter();
    let (blob, output) = match &input.source {
        InputSource::Blob(blob) => (Some(blob_ref(blob)), None),
        InputSource::Output { task_index, part } => {
            let output = stored::OutputRef {
                task_index: *task_index,
                blob_index: match part {
                    OutputPart::Blob(position) => Some(*position),
                    OutputPart::Message => None,
                },
            };
            (None, Some(output))
        }
        InputSource::Message(_) => unreachable!("only assignments have such inputs"),
    };
    stored::Input {
        blob,
        output,
        ranges: ranges
            .flat_map(|&(offset, length)| [offset, length])
            .collect(),
    }
}

fn to_payload(payload: &Payload) -> stored::Payload {
    let place = match payload {
        Payload::Inline(bytes) => Place::Inline(bytes.to_vec()),
        Payload::Packed {
            file,
            offset,
            length,
            checksum,
        } => Place::Packed(stored::Packed {
            file: *file,
            offset: *offset,
            length: *length,
            checksum: *checksum,
        }),
        Payload::Blob(blob) => Place::Blob(blob_ref(blob)),
    };
    stored::Payload { place: Some(place) }
}

fn blob_ref(blob: &BlobRef) -> stored::BlobRef {
    stored::BlobRef {
        digest: blob.digest.0.to_vec(),
        size_bytes: blob.size_bytes,
    }
}

fn to_output(output: &Output) -> stored::Output {
    stored::Output {
        message: Some(to_payload(&output.message)),
        blobs: output.blobs.iter().map(blob_ref).collect(),
    }
}

fn to_failure(failure: &Failure) -> stored::Failure {
    let class = match failure.class {
        FailureClass::KernelError => stored::FailureClass::KernelError,
        FailureClass::WorkerLost => stored::FailureClass::WorkerLost,
        FailureClass::TimedOut => stored::FailureClass::TimedOut,
        FailureClass::BadInput => stored::FailureClass::BadInput,
        FailureClass::Dependency => stored::FailureClass::Dependency,
        FailureClass::KilledWorkers => stored::FailureClass::KilledWorkers,
    };
    stored::Failure {
        class: class.into(),
        message: failure.message.clone(),
    }
}
