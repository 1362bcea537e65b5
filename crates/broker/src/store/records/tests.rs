//! Golden bytes: what a release wrote, every later one must read as the same events.

use super::*;
use crate::store::{conformance::every_durable_event, mem::without_monotonic_time};

/// One line for each event of [`every_durable_event`]: its record, in hexadecimal.
const GOLDEN: &str = include_str!("golden.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn stored_bytes_stay_the_same() {
    let written: Vec<String> = every_durable_event(300)
        .iter()
        .map(|event| hex(&encode([event])[0].bytes))
        .collect();
    assert!(
        GOLDEN.lines().eq(written.iter().map(String::as_str)),
        "what is written changed; if older stores can still be read, golden.txt becomes:\n{}",
        written.join("\n")
    );
}

#[test]
fn golden_bytes_are_read() {
    let job = JobNumber(300);
    let read: Vec<Event> = GOLDEN
        .lines()
        .flat_map(|line| {
            let (digits, _) = line.as_bytes().as_chunks::<2>();
            let bytes: Vec<u8> = digits
                .iter()
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect();
            assert_eq!(
                decode(JobNumber(1), &bytes),
                None,
                "a record of another job"
            );
            decode(job, &bytes).unwrap()
        })
        .collect();
    let expected: Vec<Event> = every_durable_event(300)
        .into_iter()
        .map(without_monotonic_time)
        .collect();
    assert_eq!(read, expected);
}

#[test]
fn small_events_share_a_record() {
    let events = [every_durable_event(1), every_durable_event(2)].concat();
    let records = encode(&events);
    assert_eq!(records.len(), 2);
    assert!(
        records
            .iter()
            .all(|record| record.bytes.len() <= FRAME_BYTES_MAX)
    );
    let read: Vec<Event> = records
        .iter()
        .flat_map(|record| decode(record.job, &record.bytes).unwrap())
        .collect();
    let written: Vec<Event> = events.into_iter().map(without_monotonic_time).collect();
    assert_eq!(read, written);
}

#[test]
fn frames_join_to_the_record() {
    for length in [1, FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1, 3 * FRAME_BYTES_MAX] {
        let record: Vec<u8> = (0..length).map(|index| index as u8).collect();
        let values: Vec<_> = frames(&record).map(|frame| seal(b"key", &frame)).collect();
        assert_eq!(values.len(), length.div_ceil(FRAME_BYTES_MAX));
        let mut joined = Vec::new();
        for (index, value) in values.iter().enumerate() {
            assert!(value.len() <= VALUE_BYTES_MAX);
            let frame = unseal(b"key", value).unwrap();
            assert_eq!(frame.continues, index + 1 < values.len());
            joined.extend_from_slice(frame.bytes);
        }
        assert_eq!(joined, record);
    }
}

#[test]
fn every_changed_bit_is_noticed() {
    let frame = Frame {
        continues: false,
        bytes: b"twelve bytes",
    };
    let mut value = seal(b"key", &frame);
    for bit in 0..value.len() * 8 {
        value[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(unseal(b"key", &value), None, "bit {bit}");
        value[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(unseal(b"key", &value), Some(frame));
    assert_eq!(unseal(b"kez", &value), None);
    for length in 0..value.len() {
        assert_eq!(unseal(b"key", &value[..length]), None);
    }
}
