//! What every backend must do, said once.

mod samples;

pub(super) use samples::every_durable_event;

use super::{MemStore, Store, mem::without_monotonic_time};
use dewar_queue::{Event, JobNumber, Timestamp, WorkerId};
use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use samples::{digest, spec};
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

#[test]
fn mem_conforms() {
    check(MemStore::default);
    check_crashes(64, MemStore::default);
}
