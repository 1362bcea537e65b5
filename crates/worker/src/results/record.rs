//! The form of reports on disk: a head, and then each with its length and digest before it.

use dewar_blobs::hash_bytes;
use dewar_proto::{limits, v1};
use prost::Message as _;

/// What every file begins with. The number is raised when the form changes.
const HEAD: &[u8] = b"dewar results 1\n";

/// The number in [`HEAD`].
const FORM: u32 = 1;

const DIGEST_BYTES: usize = 32;

/// The bytes of a file of reports.
pub(super) fn encode<'a>(reports: impl IntoIterator<Item = &'a v1::Report>) -> Vec<u8> {
    let mut bytes = HEAD.to_vec();
    for report in reports {
        let body = report.encode_to_vec();
        let length = u32::try_from(body.len()).expect("a report has 64 KiB of output at most");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&hash_bytes(&body).blob().digest.0);
        bytes.extend_from_slice(&body);
    }
    bytes
}

/// Whether a file is of a later form, which a later program may read.
pub(super) fn is_of_later_form(bytes: &[u8]) -> bool {
    let number = bytes.strip_prefix(b"dewar results ");
    let end = number.and_then(|rest| rest.iter().position(|byte| *byte == b'\n'));
    let number = number.zip(end).and_then(|(rest, end)| {
        let digits = std::str::from_utf8(&rest[..end]).ok()?;
        digits.parse::<u32>().ok()
    });
    number.is_some_and(|number| number > FORM)
}

/// The reports of a file, up to the first that is torn or altered. False if there is one.
pub(super) fn decode(bytes: &[u8]) -> (Vec<v1::Report>, bool) {
    let mut reports = Vec::new();
    let Some(mut rest) = bytes.strip_prefix(HEAD) else {
        return (reports, false);
    };
    while !rest.is_empty() {
        let Some((report, after)) = first(rest) else {
            return (reports, false);
        };
        reports.push(report);
        rest = after;
    }
    (reports, true)
}

fn first(bytes: &[u8]) -> Option<(v1::Report, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (digest, rest) = rest.split_first_chunk::<DIGEST_BYTES>()?;
    if length > limits::MESSAGE_BYTES_MAX {
        return None;
    }
    let (body, rest) = rest.split_at_checked(length)?;
    let is_whole = hash_bytes(body).blob().digest.0 == *digest;
    let report = is_whole.then(|| v1::Report::decode(body).ok()).flatten()?;
    Some((report, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(index: u64) -> v1::Report {
        v1::Report {
            task: Some(v1::TaskRef {
                job_id: vec![7; 16],
                index,
            }),
            attempt: Some(v1::AttemptId {
                broker_start: 1,
                n: index,
            }),
            result: Some(v1::report::Result::Cancelled(v1::Cancelled {})),
            run_ms: 5,
            fetch_ms: 0,
        }
    }

    #[test]
    fn reports_come_back_up_to_the_first_that_is_hurt() {
        let reports = [report(1), report(2), report(3)];
        let bytes = encode(&reports);
        assert_eq!(decode(&bytes), (reports.to_vec(), true));

        let second_begins = encode(&reports[..1]).len();
        for at in 0..bytes.len() {
            let (torn, is_whole) = decode(&bytes[..at]);
            assert!(reports.starts_with(&torn), "cut at {at}");
            assert_eq!(is_whole, at >= HEAD.len() && encode(&torn).len() == at);
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            let (read, is_whole) = decode(&altered);
            assert!(!is_whole && reports.starts_with(&read), "altered at {at}");
            assert_eq!(read.is_empty(), at < second_begins);
        }
    }
}
