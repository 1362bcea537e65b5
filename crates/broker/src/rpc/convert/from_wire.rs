//! From the wire to our types. What is wrong with a message is said with the name of its field.

use super::{invalid, within};
use crate::engine::Address;
use dewar_proto::{
    limits::{PAYLOAD_INLINE_BYTES_MAX, TASK_BLOBS_MAX as BLOB_COUNT_MAX},
    v1,
};
use dewar_queue::{
    AttemptId, BlobRef, Digest, Failure, FailureClass, Input, InputSource, JobId, Kernel, Kind,
    Output, OutputPart, Payload, Resources, SLOT_COUNT_MAX, TaskResult, TaskSpec, WorkerId,
};
use std::sync::Arc;
use tonic::Status;

/// Bytes of a name, such as a job's, a kind's or a host's.
pub(in crate::rpc) const NAME_BYTES_MAX: usize = 256;

/// Parts of one blob that one task reads: a block of particles has some hundreds.
const RANGE_COUNT_MAX: usize = 65_536;

/// Tries nobody needs more of.
const ATTEMPT_COUNT_MAX: u32 = 100;

/// Bytes of a task's key.
const KEY_BYTES_MAX: usize = 100;

/// Memory of the largest machine there will be.
const MEMORY_BYTES_MAX: u64 = 1 << 50;

/// Tries if the customer does not say.
const ATTEMPT_COUNT_DEFAULT: u32 = 3;

/// Bytes of a failure's reason that are kept. Kernels may print whole logs into it.
const REASON_BYTES_MAX: usize = 2048;

fn array<const N: usize>(field: &str, bytes: &[u8]) -> Result<[u8; N], Status> {
    let wrong = |_| invalid(field, format!("must be {N} bytes, not {}", bytes.len()));
    bytes.try_into().map_err(wrong)
}

pub(in crate::rpc) fn job_id(field: &str, bytes: &[u8]) -> Result<JobId, Status> {
    array(field, bytes).map(JobId)
}

pub(in crate::rpc) fn worker_id(field: &str, bytes: &[u8]) -> Result<WorkerId, Status> {
    array(field, bytes).map(WorkerId)
}

pub(in crate::rpc) fn digest(field: &str, bytes: &[u8]) -> Result<Digest, Status> {
    array(field, bytes).map(Digest)
}

/// A text for people, on one line.
pub(in crate::rpc) fn name(field: &str, text: &str) -> Result<Arc<str>, Status> {
    if text.len() > NAME_BYTES_MAX {
        let problem = format!(
            "has {} bytes, at most {NAME_BYTES_MAX} are allowed",
            text.len()
        );
        return Err(invalid(field, problem));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(field, "has control characters"));
    }
    Ok(text.into())
}

pub(in crate::rpc) fn kind(field: &str, kind: Option<v1::Kind>) -> Result<Kind, Status> {
    let v1::Kind {
        name: text,
        version,
    } = kind.ok_or_else(|| invalid(field, "is missing"))?;
    let name = name("name", &text).map_err(|status| within(field, &status))?;
    if name.is_empty() {
        return Err(invalid(&format!("{field}.name"), "is empty"));
    }
    Ok(Kind { name, version })
}

fn blob(field: &str, blob: Option<v1::BlobRef>) -> Result<BlobRef, Status> {
    let blob = blob.ok_or_else(|| invalid(field, "is missing"))?;
    Ok(BlobRef {
        digest: digest(&format!("{field}.digest"), &blob.digest)?,
        size_bytes: blob.size_bytes,
    })
}

fn payload(field: &str, payload: Option<v1::Payload>) -> Result<Payload, Status> {
    match payload.and_then(|payload| payload.place) {
        // Messages without any field set encode to nothing.
        None => Ok(Payload::Inline(Arc::from([]))),
        Some(v1::payload::Place::Inline(bytes)) if bytes.len() > PAYLOAD_INLINE_BYTES_MAX => {
            let problem = format!(
                "has {} bytes; beyond {PAYLOAD_INLINE_BYTES_MAX} it must be a blob",
                bytes.len()
            );
            Err(invalid(&format!("{field}.inline"), problem))
        }
        Some(v1::payload::Place::Inline(bytes)) => Ok(Payload::Inline(Arc::from(&*bytes))),
        Some(v1::payload::Place::Blob(place)) => {
            Ok(Payload::Blob(blob(&format!("{field}.blob"), Some(place))?))
        }
    }
}

fn input(field: &str, input: v1::Input) -> Result<Input, Status> {
    if input.inline.is_some() {
        return Err(invalid(
            &format!("{field}.inline"),
            "is the broker's to set",
        ));
    }
    if let Some(output) = input.output {
        let is_alone = input.blob.is_none() && input.ranges.is_empty();
        let field = format!("{field}.output");
        if !is_alone {
            return Err(invalid(&field, "goes with neither a blob nor ranges"));
        }
        return output_ref(&field, output);
    }
    let blob = blob(&format!("{field}.blob"), input.blob)?;
    if input.ranges.len() > RANGE_COUNT_MAX {
        let problem = format!(
            "has {} parts, at most {RANGE_COUNT_MAX}",
            input.ranges.len()
        );
        return Err(invalid(&format!("{field}.ranges"), problem));
    }
    let mut end = 0;
    let mut ranges = Vec::with_capacity(input.ranges.len());
    for (index, range) in input.ranges.iter().enumerate() {
        let (offset, length) = (range.offset_bytes, range.length_bytes);
        let range_end = offset.checked_add(length);
        let within = range_end.is_some_and(|range_end| range_end <= blob.size_bytes);
        if length == 0 || offset < end || !within {
            let problem = "must be ascending, disjoint, not empty and inside the blob";
            return Err(invalid(&format!("{field}.ranges[{index}]"), problem));
        }
        end = offset + length;
        ranges.push((offset, length));
    }
    Ok(Input {
        source: InputSource::Blob(blob),
        ranges,
    })
}

fn output_ref(field: &str, output: v1::OutputRef) -> Result<Input, Status> {
    use v1::output_ref::Part;
    let part = match output.part {
        None => return Err(invalid(&format!("{field}.part"), "is missing")),
        Some(Part::BlobIndex(position)) => OutputPart::Blob(position),
        Some(Part::Message(v1::WholeMessage {})) => OutputPart::Message,
    };
    Ok(Input {
        source: InputSource::Output {
            task_index: output.task_index,
            part,
        },
        ranges: Vec::new(),
    })
}

fn resources(field: &str, resources: Option<v1::Resources>) -> Result<Resources, Status> {
    let v1::Resources {
        slot_count,
        memory_bytes,
    } = resources.unwrap_or_default();
    if slot_count > SLOT_COUNT_MAX {
        let problem = format!("is {slot_count}, at most {SLOT_COUNT_MAX}");
        return Err(invalid(&format!("{field}.slot_count"), problem));
    }
    if memory_bytes > MEMORY_BYTES_MAX {
        let problem = format!("is {memory_bytes}, at most {MEMORY_BYTES_MAX}");
        return Err(invalid(&format!("{field}.memory_bytes"), problem));
    }
    Ok(Resources {
        slot_count: slot_count.max(1),
        memory_bytes,
    })
}

fn key(field: &str, text: &str) -> Result<Option<Arc<str>>, Status> {
    if text.len() > KEY_BYTES_MAX {
        let problem = format!("has {} bytes, at most {KEY_BYTES_MAX}", text.len());
        return Err(invalid(field, problem));
    }
    if text.is_empty() {
        return Ok(None);
    }
    name(field, text).map(Some)
}

/// What a worker says of the code behind a kind.
pub(in crate::rpc) fn kernel(field: &str, kernel: v1::Kernel) -> Result<Kernel, Status> {
    Ok(Kernel {
        kind: kind(&format!("{field}.kind"), kernel.kind)?,
        revision: kernel.revision,
        deterministic: kernel.deterministic,
    })
}

/// A task; its fields are named from here.
pub(in crate::rpc) fn spec(spec: v1::TaskSpec) -> Result<TaskSpec, Status> {
    if spec.inputs.len() > BLOB_COUNT_MAX {
        let problem = format!("has {} blobs, at most {BLOB_COUNT_MAX}", spec.inputs.len());
        return Err(invalid("inputs", problem));
    }
    if spec.attempts_max > ATTEMPT_COUNT_MAX {
        let problem = format!("is {}, at most {ATTEMPT_COUNT_MAX}", spec.attempts_max);
        return Err(invalid("attempts_max", problem));
    }
    if spec.after.len() > BLOB_COUNT_MAX {
        let problem = format!("has {} tasks, at most {BLOB_COUNT_MAX}", spec.after.len());
        return Err(invalid("after", problem));
    }
    let inputs = spec.inputs.into_iter().enumerate();
    Ok(TaskSpec {
        kind: kind("kind", spec.kind)?,
        parameters: payload("parameters", spec.parameters)?,
        inputs: inputs
            .map(|(index, entry)| input(&format!("inputs[{index}]"), entry))
            .collect::<Result<_, _>>()?,
        attempts_max: match spec.attempts_max {
            0 => ATTEMPT_COUNT_DEFAULT,
            count => count,
        },
        time_limit_ms: spec.time_limit_ms,
        resources: resources("resources", spec.resources)?,
        key: key("key", &spec.key)?,
        after: spec.after,
        // Only asked for where its job wants to reuse outcomes.
        parameters_digest: None,
    })
}

/// Names a task's parameters by their contents, so that an equal one may be found.
pub(in crate::rpc) fn digest_parameters(spec: &mut TaskSpec) {
    spec.parameters_digest = Some(match &spec.parameters {
        Payload::Inline(bytes) => Digest(*blake3::hash(bytes).as_bytes()),
        Payload::Blob(blob) => blob.digest,
        Payload::Packed { .. } => return,
    });
}

fn output(field: &str, output: v1::Output) -> Result<Output, Status> {
    if output.blobs.len() > BLOB_COUNT_MAX {
        let problem = format!("has {} blobs, at most {BLOB_COUNT_MAX}", output.blobs.len());
        return Err(invalid(&format!("{field}.blobs"), problem));
    }
    let blobs = output.blobs.into_iter().enumerate();
    Ok(Output {
        message: payload(&format!("{field}.message"), output.message)?,
        blobs: blobs
            .map(|(index, entry)| blob(&format!("{field}.blobs[{index}]"), Some(entry)))
            .collect::<Result<_, _>>()?,
    })
}

fn failure(failure: v1::Failure) -> Failure {
    let class = match failure.class() {
        v1::FailureClass::Unspecified | v1::FailureClass::KernelError => FailureClass::KernelError,
        v1::FailureClass::WorkerLost => FailureClass::WorkerLost,
        v1::FailureClass::TimedOut => FailureClass::TimedOut,
        v1::FailureClass::BadInput => FailureClass::BadInput,
        v1::FailureClass::Dependency => FailureClass::Dependency,
        v1::FailureClass::KilledWorkers => FailureClass::KilledWorkers,
    };
    let mut message = failure.message;
    if message.len() > REASON_BYTES_MAX {
        let mut letters = message.char_indices().map(|(at, _)| at);
        let cut = letters.rfind(|at| *at <= REASON_BYTES_MAX).unwrap_or(0);
        message.truncate(cut);
        message.push('…');
    }
    Failure { class, message }
}

pub(in crate::rpc) fn result(
    field: &str,
    result: Option<v1::report::Result>,
) -> Result<TaskResult, Status> {
    match result {
        None => Err(invalid(field, "is missing")),
        Some(v1::report::Result::Succeeded(value)) => Ok(TaskResult::Succeeded(output(
            &format!("{field}.succeeded"),
            value,
        )?)),
        Some(v1::report::Result::Failed(value)) => Ok(TaskResult::Failed(failure(value))),
        Some(v1::report::Result::Cancelled(_)) => Ok(TaskResult::Stopped),
    }
}

pub(in crate::rpc) fn address(
    field: &str,
    task: Option<v1::TaskRef>,
    attempt: Option<v1::AttemptId>,
) -> Result<Address, Status> {
    let task = task.ok_or_else(|| invalid(&format!("{field}.task"), "is missing"))?;
    let attempt = attempt.ok_or_else(|| invalid(&format!("{field}.attempt"), "is missing"))?;
    Ok(Address {
        job: job_id(&format!("{field}.task.job_id"), &task.job_id)?,
        index: task.index,
        attempt: AttemptId {
            broker_start: attempt.broker_start,
            n: attempt.n,
        },
    })
}

#[cfg(test)]
mod tests;
