//! Events to write: one of each kind, with every field that is ever set.

use dewar_queue::{
    AttemptId, BlobRef, Digest, Event, Failure, FailureClass, Input, InputSource, JobId, JobNumber,
    JobTerms, Kind, Made, Outcome, OutcomeResult, Output, OutputPart, Payload, Resources, TaskId,
    TaskSpec, Timestamp, WorkerId,
};
use std::sync::Arc;

/// One of each, and of each variant inside them.
pub(in crate::store) fn every_durable_event(job: u64) -> Vec<Event> {
    let job = JobNumber(job);
    let task = TaskId { job, index: 0 };
    let attempt = AttemptId {
        broker_start: 3,
        n: 41,
    };
    let blob = blob(9);
    let mut specs: Vec<_> = (0..3).map(spec).collect();
    specs[1].parameters = Payload::Blob(blob);
    specs[2].parameters = Payload::Packed {
        file: 1,
        offset: 1 << 33,
        length: 5000,
        checksum: u32::MAX,
    };
    specs[2].inputs.clear();
    let mut events = vec![
        Event::JobCreated {
            job,
            id: JobId([7; 16]),
            owner: "ada".into(),
            name: "β-galactosidase".into(),
            priority: -100,
            terms: JobTerms::default(),
            created_unix_ms: 1_700_000_000_000,
        },
        Event::TasksSubmitted {
            job,
            first_index: 0,
            specs: specs.into_iter().map(Arc::new).collect(),
        },
        Event::BlobHeld { job, blob },
        Event::BlobsReleased {
            job,
            digests: vec![digest(1), digest(2)],
        },
        Event::JobClosed { job, at_unix_ms: 5 },
        Event::JobCancelled { job, at_unix_ms: 6 },
    ];
    let classes = [
        FailureClass::KernelError,
        FailureClass::WorkerLost,
        FailureClass::TimedOut,
        FailureClass::BadInput,
        FailureClass::Dependency,
        FailureClass::KilledWorkers,
    ];
    for class in classes {
        events.push(Event::AttemptFailed {
            task,
            attempt,
            worker: None,
            failure: Failure {
                class,
                message: "box of 64 px expected, 63 found".into(),
            },
            retry_at: Timestamp(99),
        });
    }
    events.push(Event::AttemptFailed {
        task,
        attempt,
        worker: Some(WorkerId([9; 16])),
        failure: Failure {
            class: FailureClass::KernelError,
            message: "out of memory".into(),
        },
        retry_at: Timestamp(99),
    });
    let results = [
        OutcomeResult::Succeeded(Output {
            message: Payload::Inline(Arc::from(&b"output"[..])),
            blobs: vec![blob, blob],
        }),
        OutcomeResult::Failed(Failure {
            class: FailureClass::BadInput,
            message: String::new(),
        }),
        OutcomeResult::Cancelled,
    ];
    for (index, result) in (0..).zip(results) {
        events.push(Event::TaskEnded {
            outcome: Outcome {
                task: TaskId { job, index },
                sequence: index + 1,
                result,
                worker_name: (index == 0).then(|| "node7-4711".into()),
                run_ms: 1234,
                generation: 0,
                reused: false,
                made_by: None,
            },
            at_unix_ms: 1_700_000_000_001,
        });
    }
    events.extend(events_with_every_field(job));
    events
}

/// Events with fields that earlier releases did not write.
fn events_with_every_field(job: JobNumber) -> Vec<Event> {
    let mut demanding = spec(4);
    demanding.resources = Resources {
        slot_count: 8,
        memory_bytes: 1 << 34,
    };
    demanding.key = Some("round 3, half 1".into());
    demanding.after = vec![0, 2];
    demanding.parameters_digest = Some(digest(3));
    let parts = [
        OutputPart::Blob(0),
        OutputPart::Blob(3),
        OutputPart::Message,
    ];
    demanding.inputs = parts
        .map(|part| Input {
            source: InputSource::Output {
                task_index: 1,
                part,
            },
            ranges: Vec::new(),
        })
        .into();
    vec![
        Event::JobCreated {
            job,
            id: JobId([8; 16]),
            owner: "ada".into(),
            name: String::new().into(),
            priority: 100,
            terms: JobTerms {
                keep_ms: Some(0),
                absence_ms_max: Some(60_000),
                reuse: true,
            },
            created_unix_ms: 0,
        },
        Event::TasksSubmitted {
            job,
            first_index: 3,
            specs: vec![Arc::new(demanding)],
        },
        Event::TasksCancelled {
            job,
            indices: vec![0, 70_000],
            at_unix_ms: 7,
        },
        Event::AttemptAcquitted {
            task: TaskId { job, index: 1 },
            attempt: AttemptId {
                broker_start: 3,
                n: 42,
            },
        },
        Event::TasksRerun {
            job,
            indices: vec![1],
            fence: AttemptId {
                broker_start: 3,
                n: 42,
            },
        },
        Event::TaskEnded {
            outcome: Outcome {
                task: TaskId { job, index: 1 },
                sequence: 9,
                result: OutcomeResult::Succeeded(Output {
                    message: Payload::Inline(Arc::from([])),
                    blobs: Vec::new(),
                }),
                worker_name: None,
                run_ms: 0,
                generation: 2,
                reused: true,
                made_by: Some(Made {
                    revision: 3,
                    instruction_class: "x86-64-v3".into(),
                }),
            },
            at_unix_ms: 8,
        },
    ]
}

pub(super) fn spec(seed: u32) -> TaskSpec {
    TaskSpec {
        inputs: vec![
            Input {
                source: InputSource::Blob(blob(seed)),
                ranges: vec![(0, 1024), (1 << 40, 1)],
            },
            Input {
                source: InputSource::Blob(blob(seed + 1)),
                ranges: Vec::new(),
            },
        ],
        time_limit_ms: u64::MAX,
        ..TaskSpec::new(
            Kind {
                name: "em.align".into(),
                version: 1,
            },
            Payload::Inline(vec![seed as u8; 200].into()),
        )
    }
}

fn blob(seed: u32) -> BlobRef {
    BlobRef {
        digest: digest(seed),
        size_bytes: u64::from(seed) << 30,
    }
}

pub(super) fn digest(seed: u32) -> Digest {
    let mut bytes = [0xd1; 32];
    bytes[..4].copy_from_slice(&seed.to_be_bytes());
    Digest(bytes)
}
