//! Tasks go to where their bytes are; nobody starves of it, and turns stay as they were.

use super::*;
use crate::{CHUNK_BYTES, HoldingChange, queue::decide::PASSED_OVER_COUNT_MAX};
use std::collections::VecDeque;

/// A stack that tasks read a chunk each of.
const STACK: BlobRef = BlobRef {
    digest: Digest([200; 32]),
    size_bytes: 1000 * CHUNK_BYTES,
};

fn reading_chunk(index: u32) -> TaskSpec {
    TaskSpec {
        inputs: vec![Input {
            source: InputSource::Blob(STACK),
            ranges: vec![(u64::from(index) * CHUNK_BYTES, CHUNK_BYTES)],
        }],
        ..spec()
    }
}

impl Scene {
    fn holds(&mut self, n: u8, chunks: impl IntoIterator<Item = u32>) {
        let change = HoldingChange {
            digest: STACK.digest,
            added: chunks.into_iter().collect(),
            removed: Default::default(),
        };
        self.tell(Command::NoteHoldings {
            worker: worker(n),
            changes: vec![change],
        });
    }

    /// Runs all that waits on workers that keep pace. Which task ran on which, in the order given out.
    fn run_in_pace(&mut self, workers: &[u8], run_ms: u64) -> Vec<(TaskId, WorkerId)> {
        let mut running: VecDeque<_> = self.dispatch().into();
        let mut given: Vec<_> = running.iter().map(|(id, _, on)| (*id, *on)).collect();
        while !running.is_empty() {
            for n in workers {
                let Some(at) = running.iter().position(|(.., on)| *on == worker(*n)) else {
                    continue;
                };
                let (task, attempt, worker) = running.remove(at).expect("it was found there");
                self.tell(Command::Report {
                    worker,
                    task,
                    attempt,
                    result: success(0),
                    run_ms,
                });
            }
            let more = self.dispatch();
            given.extend(more.iter().map(|(id, _, on)| (*id, *on)));
            running.extend(more);
        }
        given
    }
}

/// Chunk of a task, by its place in the submit.
type Order = fn(u32) -> u32;

/// Both sent ahead in bulk and one by one.
#[test]
fn a_second_round_goes_to_those_who_hold_the_first() {
    const COUNT: u32 = 40;
    let orders: [Order; 4] = [
        |n| n,
        |n| COUNT - 1 - n,
        |n| n * 7 % COUNT,
        |n| n % 2 * COUNT / 2 + n / 2,
    ];
    for (order, run_ms) in orders
        .into_iter()
        .flat_map(|order| [(order, 5), (order, 10_000)])
    {
        let mut scene = Scene::new();
        scene.create(JOB, "ann", 0);
        scene.join(hello(1, 1));
        scene.join(hello(2, 1));
        scene.holds(1, 0..COUNT / 2);
        scene.holds(2, COUNT / 2..COUNT);
        let chunks: Vec<u32> = (0..COUNT).map(order).collect();
        scene.submit(JOB, chunks.iter().copied().map(reading_chunk).collect());
        let given = scene.run_in_pace(&[1, 2], run_ms);
        assert_eq!(given.len(), COUNT as usize);
        for (id, on) in given {
            let chunk = chunks[usize::try_from(id.index).unwrap()];
            let holder = worker(if chunk < COUNT / 2 { 1 } else { 2 });
            assert_eq!(on, holder, "{id} reads chunk {chunk}");
        }
    }
}

#[test]
fn a_task_is_passed_over_so_often_and_no_more() {
    let held = 1..4 * u32::from(PASSED_OVER_COUNT_MAX);
    let specs = std::iter::once(0).chain(held.clone()).map(reading_chunk);
    let mut scene = Scene::with(specs.collect());
    scene.join(hello(1, 1));
    scene.holds(1, held);
    let given = scene.run_in_pace(&[1], 10_000);
    let at = given.iter().position(|(id, _)| *id == task(0));
    assert_eq!(at, Some(usize::from(PASSED_OVER_COUNT_MAX)));
}

#[test]
fn a_slot_never_waits_for_a_better_match() {
    let mut scene = Scene::with((0..4).map(reading_chunk).collect());
    scene.join(hello(1, 1));
    scene.join(hello(2, 1));
    scene.holds(1, 0..4);
    let given = scene.dispatch();
    let of_other = given.iter().filter(|(.., on)| *on == worker(2));
    assert_eq!((given.len(), of_other.count()), (4, 2));
}

/// Who is given a task of chunk 0: the first by name, or the second if it is known to hold it.
fn who_gets_chunk_0(scene: &mut Scene) -> WorkerId {
    scene.submit(JOB, vec![reading_chunk(0)]);
    let [(task, attempt, on)] = scene.dispatch()[..] else {
        panic!("one task waits");
    };
    scene.report((task, attempt, on), success(0));
    on
}

#[test]
fn holdings_outlive_a_connection_but_not_the_worker_or_the_broker() {
    let mut scene = Scene::with(Vec::new());
    scene.join(hello(1, 1));
    scene.join(hello(2, 1));
    assert_eq!(who_gets_chunk_0(&mut scene), worker(1));
    scene.holds(2, [0]);
    assert_eq!(who_gets_chunk_0(&mut scene), worker(2));
    scene.tell(Command::Disconnect { worker: worker(2) });
    scene.join(hello(2, 1));
    assert_eq!(who_gets_chunk_0(&mut scene), worker(2), "a new connection");
    scene.tell(Command::Disconnect { worker: worker(2) });
    scene.pass(6_000);
    scene.join(hello(2, 1));
    assert_eq!(who_gets_chunk_0(&mut scene), worker(1), "a new worker");
    scene.holds(2, [0]);
    scene.restart();
    scene.join(hello(1, 1));
    scene.join(hello(2, 1));
    assert_eq!(who_gets_chunk_0(&mut scene), worker(1), "a new broker");
}

#[test]
fn who_is_not_there_holds_nothing() {
    let mut scene = Scene::new();
    let command = Command::NoteHoldings {
        worker: worker(1),
        changes: Vec::new(),
    };
    assert_eq!(scene.ask(command), Err(Refusal::UnknownWorker));
}

#[test]
fn neither_priority_nor_owner_yields_to_bytes() {
    let other = JobId([8; 16]);
    for (owner, priority) in [("ann", -1), ("bob", 0)] {
        let mut scene = Scene::with(vec![reading_chunk(0)]);
        scene.create(other, owner, priority);
        scene.submit(other, vec![reading_chunk(1)]);
        scene.join(hello(1, 1));
        scene.holds(1, [1]);
        let given = scene.dispatch();
        assert_eq!(given[0].0, task(0), "{owner} {priority}");
    }
}

#[test]
fn levelled_work_goes_to_a_holder() {
    let mut scene = Scene::with((0..2).map(reading_chunk).collect());
    scene.join(hello(1, 1));
    assert_eq!(scene.dispatch().len(), 2);
    scene.join(hello(2, 1));
    scene.join(hello(3, 1));
    scene.holds(3, [1]);
    let moved = scene.dispatch();
    assert_eq!(moved.len(), 1);
    assert_eq!((moved[0].0, moved[0].2), (task(1), worker(3)));
}
