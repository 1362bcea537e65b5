//! What every backend must do, said once.

use super::{MemStore, Store, mem::without_monotonic_time};
use dewar_queue::{
    AttemptId, BlobRef, Digest, Event, Failure, FailureClass, Input, InputSource, JobId, JobNumber,
    JobTerms, Kind, Made, Outcome, OutcomeResult, Output, OutputPart, Payload, Resources, TaskId,
    TaskSpec, Timestamp, WorkerId,
};
use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use std::sync::Arc;

/// A backend under test: how to open it again after its process ended.
pub(super) trait Backend: Store + Sized {
    /// Closes and opens.
    fn restart(self) -> Self;

    /// Lets so many writes reach the disk from now on, and no more, as if the process died then.
    fn stop_after(&mut self, writes: u64);

    /// Whether it has died since. Nothing changes on disk any more.
    fn has_stopped(&self) -> bool;

    /// Opens what is on the disk.
    fn recover(self) -> Self;

    /// Does now what it does at times to keep its files small.
    fn tidy(&mut self);
}

impl Backend for MemStore {
    fn restart(self) -> Self {
        self.reopen()
    }

    // An append is one step to it, so there is nothing to stop between.
    fn stop_after(&mut self, _writes: u64) {}

    fn has_stopped(&self) -> bool {
        false
    }

    fn recover(self) -> Self {
        self.reopen()
    }

    fn tidy(&mut self) {}
}

#[derive(Debug, Clone)]
enum Step {
    /// Events of one of few jobs each, by their place in [`every_durable_event`].
    Append(Vec<(u8, u8)>),
    Forget(u8),
    Tidy,
    Restart,
    /// A crash after so many writes from now.
    StopAfter(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec((0..4_u8, any::<u8>()), 1..6).prop_map(Step::Append),
        2 => (0..4_u8).prop_map(Step::Forget),
        1 => Just(Step::Tidy),
        1 => Just(Step::Restart),
        4 => (0..12_u64).prop_map(Step::StopAfter),
    ]
}

/// Random appends, forgettings, restarts and crashes, against a store that cannot fail.
pub(super) fn check_crashes<B: Backend>(case_count: u32, fresh: impl Fn() -> B) {
    let config = ProptestConfig {
        cases: case_count,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let given = std::env::var(SEED).ok();
    let any_seed = || uuid::Uuid::new_v4().as_u64_pair().0;
    let seed = given.map_or_else(any_seed, |seed| seed.parse().unwrap());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed_bytes(seed));
    let steps = prop::collection::vec(step(), 1..24);
    let lived = TestRunner::new_with_rng(config, rng).run(&steps, |steps| {
        History::new(fresh()).live(steps);
        Ok(())
    });
    if let Err(error) = lived {
        panic!("{error}\nthe same again: {SEED}={seed}");
    }
}

/// Replays a failure.
const SEED: &str = "DEWAR_TEST_SEED";

fn seed_bytes(seed: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes
}

/// A store's life, and what it has promised.
struct History<B> {
    // None while it restarts.
    store: Option<B>,
    promised: MemStore,
    /// How often each of the few jobs was forgotten: the next one in its place has another number.
    forgotten: [u64; 4],
}

impl<B: Backend> History<B> {
    fn new(store: B) -> Self {
        Self {
            store: Some(store),
            promised: MemStore::default(),
            forgotten: [0; 4],
        }
    }

    fn live(mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Append(events) => {
                    let events = events.into_iter().map(|(job, kind)| self.event(job, kind));
                    let batch: Vec<_> = events.collect();
                    self.append(&batch);
                }
                Step::Forget(job) => {
                    let job = self.job(job);
                    self.append(&[Event::JobForgotten { job }]);
                    self.forgotten[job.0 as usize % 4] += 1;
                }
                Step::Tidy => self.store().tidy(),
                Step::Restart => self.reopen(B::restart),
                Step::StopAfter(writes) => self.store().stop_after(writes),
            }
            if self.store().has_stopped() {
                self.reopen(B::recover);
            }
            let promised = replayed(&mut self.promised);
            assert_eq!(replayed(self.store()), promised);
        }
    }

    fn store(&mut self) -> &mut B {
        self.store.as_mut().expect("no restart is going on")
    }

    fn reopen(&mut self, open: impl FnOnce(B) -> B) {
        self.store = self.store.take().map(open);
    }

    /// Appends; what a crash left in doubt is there whole, or not at all.
    fn append(&mut self, batch: &[Event]) {
        if self.store().append(batch).is_ok() {
            self.promised.append(batch).unwrap();
            return;
        }
        assert!(
            self.store().has_stopped(),
            "nothing but a crash makes it fail"
        );
        self.reopen(B::recover);
        let found = replayed(self.store());
        if found != replayed(&mut self.promised) {
            self.promised.append(batch).unwrap();
        }
    }

    fn job(&self, place: u8) -> JobNumber {
        let place = usize::from(place);
        JobNumber(place as u64 + 4 * (self.forgotten[place] + 1))
    }

    fn event(&self, place: u8, kind: u8) -> Event {
        let mut events = every_durable_event(self.job(place).0);
        let kind = usize::from(kind) % events.len();
        events.swap_remove(kind)
    }
}

/// Runs the whole suite; `fresh` gives an empty store.
pub(super) fn check<B: Backend>(fresh: impl Fn() -> B) {
    everything_comes_back_in_order(fresh());
    starts_are_counted(fresh());
    forgotten_jobs_are_gone(fresh());
    volatile_events_are_passed_over(fresh());
    large_events_come_back(fresh());
}

pub(super) fn replayed(store: &mut impl Store) -> Vec<Event> {
    let mut events = Vec::new();
    store.replay(&mut |event| events.push(event)).unwrap();
    events
}

fn everything_comes_back_in_order<B: Backend>(mut store: B) {
    assert_eq!(replayed(&mut store), []);
    let events: Vec<_> = every_durable_event(1)
        .into_iter()
        .zip(every_durable_event(2))
        .flat_map(|(one, two)| [one, two])
        .collect();
    store.append(&events[..5]).unwrap();
    store.append(&[]).unwrap();
    store.append(&events[5..]).unwrap();
    let expected: Vec<_> = events.into_iter().map(without_monotonic_time).collect();
    let mut store = store.restart();
    assert_eq!(replayed(&mut store), expected);
    assert_eq!(replayed(&mut store), expected, "replay may be repeated");

    let more = every_durable_event(3);
    store.append(&more).unwrap();
    let mut store = store.restart();
    assert_eq!(replayed(&mut store).len(), expected.len() + more.len());
    assert!(replayed(&mut store).starts_with(&expected));
}

fn starts_are_counted<B: Backend>(store: B) {
    let first = store.broker_start();
    let store = store.restart();
    assert_eq!(store.broker_start(), first + 1);
    assert_eq!(store.restart().broker_start(), first + 2);
}

fn forgotten_jobs_are_gone<B: Backend>(mut store: B) {
    for job in 1..=3 {
        store.append(&every_durable_event(job)).unwrap();
    }
    let forget = |job| Event::JobForgotten {
        job: JobNumber(job),
    };
    store.append(&[forget(2)]).unwrap();
    let mut expected = vec![forget(2)];
    expected.extend(
        every_durable_event(1)
            .into_iter()
            .map(without_monotonic_time),
    );
    expected.extend(
        every_durable_event(3)
            .into_iter()
            .map(without_monotonic_time),
    );
    assert_eq!(replayed(&mut store), expected);
    let mut store = store.restart();
    assert_eq!(replayed(&mut store), expected);

    // Born and forgotten in one batch.
    let mut batch = every_durable_event(4);
    batch.extend([forget(4), forget(1)]);
    store.append(&batch).unwrap();
    let mut store = store.restart();
    let left = replayed(&mut store);
    assert_eq!(left[0], forget(4));
    assert_eq!(left.len(), 1 + every_durable_event(3).len());
}

fn volatile_events_are_passed_over<B: Backend>(mut store: B) {
    let seen = Event::WorkerSeen {
        worker: WorkerId([1; 16]),
        at: Timestamp(5),
    };
    store.append(&[seen]).unwrap();
    assert_eq!(replayed(&mut store.restart()), []);
}

fn large_events_come_back<B: Backend>(mut store: B) {
    let job = JobNumber(1);
    let specs: Vec<_> = (0..1000).map(|seed| Arc::new(spec(seed))).collect();
    let many = Event::TasksSubmitted {
        job,
        first_index: 0,
        specs,
    };
    let mut wide = spec(7);
    wide.inputs[0].ranges = (0..20_000).map(|index| (index << 20, 1 << 19)).collect();
    let wide = Event::TasksSubmitted {
        job,
        first_index: 1000,
        specs: vec![Arc::new(wide)],
    };
    let released = Event::BlobsReleased {
        job,
        digests: (0..5000_u32).map(digest).collect(),
    };
    let events = [many, wide, released];
    store.append(&events).unwrap();
    let mut store = store.restart();
    assert!(replayed(&mut store) == events);
    store.append(&[Event::JobForgotten { job }]).unwrap();
    assert_eq!(
        replayed(&mut store.restart()),
        [Event::JobForgotten { job }]
    );
}

/// One of each, and of each variant inside them.
pub(super) fn every_durable_event(job: u64) -> Vec<Event> {
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
            failure: Failure {
                class,
                message: "box of 64 px expected, 63 found".into(),
            },
            retry_at: Timestamp(99),
        });
    }
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

fn spec(seed: u32) -> TaskSpec {
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

fn digest(seed: u32) -> Digest {
    let mut bytes = [0xd1; 32];
    bytes[..4].copy_from_slice(&seed.to_be_bytes());
    Digest(bytes)
}

#[test]
fn mem_conforms() {
    check(MemStore::default);
    check_crashes(64, MemStore::default);
}
