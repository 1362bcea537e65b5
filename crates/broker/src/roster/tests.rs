//! What is written is read, whatever came in between.

use super::*;
use dewar_queue::{AttemptId, HeldAttempt, Timestamp, WorkerHello};

fn task(job: u64, index: u64) -> TaskId {
    TaskId {
        job: JobNumber(job),
        index,
    }
}

fn member(n: u8, name: &str, held: &[(u64, u64)]) -> Expected {
    Expected {
        id: WorkerId([n; 16]),
        name: name.into(),
        held: held.iter().map(|(job, index)| task(*job, *index)).collect(),
    }
}

const ATTEMPT: AttemptId = AttemptId {
    broker_start: 1,
    n: 1,
};

fn given(n: u8, index: u64) -> Event {
    Event::AttemptStarted {
        task: task(1, index),
        attempt: ATTEMPT,
        worker: WorkerId([n; 16]),
        at: Timestamp(1),
    }
}

fn joined(n: u8, held: &[u64]) -> Event {
    let held = held.iter().map(|index| HeldAttempt {
        task: task(1, *index),
        attempt: ATTEMPT,
    });
    Event::WorkerJoined {
        hello: WorkerHello {
            id: WorkerId([n; 16]),
            name: format!("w{n}").into(),
            slot_count: 1,
            memory_bytes: 0,
            kinds: Vec::new(),
            kernels: Vec::new(),
            instruction_class: "".into(),
            held: held.collect(),
        },
        at: Timestamp(1),
    }
}

fn gone(n: u8) -> Event {
    Event::WorkerGone {
        worker: WorkerId([n; 16]),
    }
}

#[test]
fn what_is_written_whole_is_read_and_what_is_not_is_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mut roster = Roster::new(folder.path());
    assert_eq!(roster.read(), []);
    let members = [
        member(1, "node7 [of] two", &[(1, 0), (7, 42)]),
        member(0xfe, "", &[]),
    ];
    roster.write(&members);
    assert_eq!(roster.read(), members);
    fs::write(folder.path().join("workers"), b"no line of ours\n\xff\0").unwrap();
    assert_eq!(roster.read(), []);
}

#[test]
fn what_is_noted_later_counts_and_a_line_that_was_cut_off_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let mut roster = Roster::new(folder.path());
    roster.write(&[member(1, "w1", &[(1, 0)]), member(2, "w2", &[(1, 1)])]);
    roster.note(&[given(1, 2), given(1, 3), given(2, 4), joined(3, &[9])]);
    roster.note(&[given(3, 5)]);
    let before = [
        member(1, "w1", &[(1, 0), (1, 2), (1, 3)]),
        member(2, "w2", &[(1, 1), (1, 4)]),
        member(3, "w3", &[(1, 5), (1, 9)]),
    ];
    assert_eq!(roster.read(), before);
    roster.note(&[joined(1, &[3]), gone(2), given(3, 6)]);
    let after = [
        member(1, "w1", &[(1, 3)]),
        member(3, "w3", &[(1, 5), (1, 6), (1, 9)]),
    ];
    assert_eq!(roster.read(), after);

    let path = folder.path().join("workers");
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        roster.read();
    }
}

#[test]
fn one_that_has_grown_long_or_went_wrong_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut roster = Roster::new(folder.path());
    assert!(roster.is_due(), "nobody knows how the last one ended");
    roster.write(&[member(1, "w1", &[])]);
    let many: Vec<Event> = (0..10_000).map(|index| given(1, index)).collect();
    let mut count = 0;
    while !roster.is_due() {
        roster.note(&many);
        count += 1;
    }
    assert!(count > 5);
    roster.write(&[member(1, "w1", &[(1, 9)])]);
    assert!(!roster.is_due());
    roster.note(&[Event::ComebackOver]);
    assert!(roster.is_due(), "some are expected no more");

    // A folder where it is to be.
    fs::create_dir(folder.path().join("workers.new")).unwrap();
    roster.write(&[]);
    assert!(!roster.is_due(), "not at once");
    roster.note(&many);
    assert_eq!(roster.read(), [member(1, "w1", &[(1, 9)])]);
}
