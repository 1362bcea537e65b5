use super::*;
use bytes::Bytes;
use dewar_task::{Context, Kind};

const ONE: Need = need(1, 0);

const fn need(slot_count: usize, memory_bytes: u64) -> Need {
    Need {
        slot_count,
        memory_bytes,
    }
}

/// Slots whose threads have ended, so that what is given stays where it is.
fn slots(slot_count: u16, memory_bytes: u64) -> Slots {
    let (events, _) = mpsc::channel(1);
    let mut slots = Slots::start(0, memory_bytes, 0, &Registry::default(), &events).unwrap();
    slots.slot_count = slot_count.into();
    slots
}

fn give(slots: &mut Slots, index: u64, need: Need) {
    assert!(slots.has_room(need), "{need:?}");
    let task = v1::TaskRef {
        job_id: vec![7; 16],
        index,
    };
    let attempt = v1::AttemptId {
        broker_start: 1,
        n: index,
    };
    let prepared = Prepared {
        kind: Kind {
            name: "test".to_owned(),
            version: 1,
        },
        parameters: Bytes::new(),
        context: Context::default(),
        need,
        time_limit: None,
        fetch_ms: 0,
    };
    let key = AttemptKey::from_wire(Some(&task), Some(&attempt)).unwrap();
    let task = "j1.1".into();
    slots.run(Work {
        key,
        task,
        prepared,
    });
}

#[test]
fn a_wide_task_waits_for_all_its_slots_and_lets_none_ahead() {
    let mut slots = slots(3, 0);
    give(&mut slots, 0, ONE);
    assert!(!slots.has_room(need(3, 0)));
    give(&mut slots, 1, need(2, 0));
    assert!(!slots.has_room(ONE));
    slots.end(ONE, Duration::ZERO);
    assert!(!slots.has_room(need(2, 0)));
    slots.end(need(2, 0), Duration::ZERO);
    assert!(slots.all_idle());
    // It gets what there is.
    give(&mut slots, 2, need(99, 0));
    slots.run_mean = Duration::from_nanos(1);
    assert!(!slots.has_room(ONE), "nothing is ahead beside a wide one");
    slots.end(need(99, 0), Duration::ZERO);
    assert!(slots.all_idle());
}

#[test]
fn memory_counts_where_it_is_said() {
    let mut slots = slots(3, 100);
    give(&mut slots, 0, need(1, 60));
    assert!(!slots.has_room(need(1, 50)));
    assert!(slots.has_room(need(1, 40)) && slots.has_room(ONE));
    slots.end(need(1, 60), Duration::ZERO);
    give(&mut slots, 1, need(1, 1000));
}

#[test]
fn short_tasks_are_given_ahead_and_come_back_in_order() {
    let mut slots = slots(2, 0);
    give(&mut slots, 0, ONE);
    give(&mut slots, 1, ONE);
    assert!(!slots.has_room(ONE), "nobody knows yet how long they take");
    slots.run_mean = Duration::from_millis(1);
    for index in 2..7 {
        give(&mut slots, index, ONE);
    }
    assert!(!slots.has_room(ONE));
    assert_eq!(slots.busy_count(), 2);
    let recalled = slots.recall();
    let indices: Vec<_> = recalled.iter().map(|work| work.key.task().index).collect();
    assert_eq!(indices, [0, 1, 2, 3, 4, 5, 6]);
    assert!(slots.all_idle());
}
