//! Every way a task can be malformed, and the field that is named for it.

use super::*;

fn good() -> v1::TaskSpec {
    v1::TaskSpec {
        kind: Some(v1::Kind {
            name: "em.align".into(),
            version: 1,
        }),
        inputs: vec![v1::Input {
            blob: Some(v1::BlobRef {
                digest: vec![1; 32],
                size_bytes: 100,
            }),
            ranges: vec![range(0, 10), range(10, 90)],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn range(offset_bytes: u64, length_bytes: u64) -> v1::ByteRange {
    v1::ByteRange {
        offset_bytes,
        length_bytes,
    }
}

fn check(spoil: impl FnOnce(&mut v1::TaskSpec), expected: &str) {
    let mut wire = good();
    spoil(&mut wire);
    let status = spec(wire)
        .map_err(|status| within("tasks[7]", &status))
        .expect_err(expected);
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(
        status.message().starts_with(expected),
        "{} does not begin with {expected}",
        status.message()
    );
}

#[test]
fn a_good_task_passes() {
    let spec = spec(good()).unwrap();
    assert_eq!(spec.attempts_max, 3);
    assert_eq!(spec.inputs[0].ranges, [(0, 10), (10, 90)]);
}

#[test]
fn what_is_wrong_is_named() {
    check(|spec| spec.kind = None, "tasks[7].kind: is missing");
    let named = |name: &str| v1::Kind {
        name: name.into(),
        version: 1,
    };
    check(
        |spec| spec.kind = Some(named("")),
        "tasks[7].kind.name: is empty",
    );
    check(
        |spec| spec.kind = Some(named("a\nb")),
        "tasks[7].kind.name: has control",
    );
    check(
        |spec| spec.kind = Some(named(&"x".repeat(257))),
        "tasks[7].kind.name: has 257",
    );
    check(
        |spec| spec.attempts_max = 101,
        "tasks[7].attempts_max: is 101",
    );
    check(
        |spec| spec.inputs[0].blob = None,
        "tasks[7].inputs[0].blob: is missing",
    );
    let short = v1::BlobRef {
        digest: vec![1; 31],
        size_bytes: 1,
    };
    check(
        |spec| spec.inputs[0].blob = Some(short),
        "tasks[7].inputs[0].blob.digest: must be 32 bytes, not 31",
    );
    check(
        |spec| spec.inputs = vec![spec.inputs[0].clone(); 4097],
        "tasks[7].inputs: has 4097 blobs",
    );
    for bad in [range(50, 51), range(u64::MAX, 2), range(10, 0), range(9, 1)] {
        check(
            |spec| spec.inputs[0].ranges[1] = bad,
            "tasks[7].inputs[0].ranges[1]: must be",
        );
    }
    let large = v1::Payload {
        place: Some(v1::payload::Place::Inline(vec![0; 65_537].into())),
    };
    check(
        |spec| spec.parameters = Some(large),
        "tasks[7].parameters.inline: has 65537 bytes",
    );
}

#[test]
fn long_reasons_are_cut_between_letters() {
    let long = v1::Failure {
        class: 99,
        message: "é".repeat(2000),
    };
    let failure = failure(long);
    assert_eq!(failure.class, FailureClass::KernelError);
    assert!(failure.message.len() <= REASON_BYTES_MAX + '…'.len_utf8());
    assert!(failure.message.ends_with("é…"));
}
