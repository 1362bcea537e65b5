//! How messages come off the wire: counted first, and then decoded.
//!
//! An empty task takes two bytes on the wire and two hundred in memory, so a bound on a message's bytes alone is none on
//! what it becomes. What repeats is counted in the bytes as they came, before anything is made of them.

use crate::{
    limits::{MESSAGE_RECORDS_MAX, SUBMIT_INPUTS_MAX, SUBMIT_TASKS_MAX},
    v1::SubmitRequest,
};
use bytes::Buf as _;
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use std::{any::TypeId, marker::PhantomData};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Number of `tasks` in a `SubmitRequest`.
const TASKS: u32 = 3;

/// Number of `inputs` in a `TaskSpec`.
const INPUTS: u32 = 3;

/// What every service of ours speaks, on both ends.
#[derive(Debug)]
pub struct CountingCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for CountingCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for CountingCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = CountingDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        CountingDecoder(ProstDecoder::default())
    }
}

/// Decodes what is not too much.
#[derive(Debug)]
pub struct CountingDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default + 'static> Decoder for CountingDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // All of it: a message is in one piece by now.
        refuse_excess::<U>(bytes.chunk())?;
        self.0.decode(bytes)
    }
}

fn refuse_excess<U: 'static>(message: &[u8]) -> Result<(), Status> {
    if TypeId::of::<U>() == TypeId::of::<SubmitRequest>() {
        return refuse_excess_of_tasks(message);
    }
    if Records(message).nth(MESSAGE_RECORDS_MAX).is_some() {
        return Err(Status::invalid_argument(format!(
            "more than {MESSAGE_RECORDS_MAX} values in one message"
        )));
    }
    Ok(())
}

fn refuse_excess_of_tasks(message: &[u8]) -> Result<(), Status> {
    let (mut task_count, mut input_count) = (0, 0);
    for (_, task) in Records(message).filter(|(field, _)| *field == TASKS) {
        task_count += 1;
        input_count += Records(task).filter(|(field, _)| *field == INPUTS).count();
        for (what, count, max) in [
            ("tasks", task_count, SUBMIT_TASKS_MAX),
            ("tasks.inputs", input_count, SUBMIT_INPUTS_MAX),
        ] {
            if count > max {
                let problem = format!("{what}: more than {max} in one message; send several");
                return Err(Status::invalid_argument(problem));
            }
        }
    }
    Ok(())
}

/// The records of an encoded message: the number of each field, and its bytes if it comes with its length. Ends where one
/// is malformed; so does decoding, which tells of it.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let (field, wire_type) = decode_key(&mut self.0).ok()?;
        if wire_type != WireType::LengthDelimited {
            skip_field(wire_type, field, &mut self.0, DecodeContext::default()).ok()?;
            return Some((field, &[]));
        }
        let length = decode_varint(&mut self.0).ok()?;
        let (body, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some((field, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Hello, Input, TaskSpec};

    fn submit(tasks: Vec<TaskSpec>) -> Vec<u8> {
        let request = SubmitRequest {
            job_id: vec![7; 16],
            first_index: 300,
            tasks,
        };
        request.encode_to_vec()
    }

    fn check<U: 'static>(message: &[u8], refused: Option<&str>) {
        let checked = refuse_excess::<U>(message);
        let message = checked.as_ref().err().map(Status::message);
        assert_eq!(message.and_then(|text| text.split(" in ").next()), refused);
    }

    #[test]
    fn tasks_and_their_inputs_are_counted_before_they_are_decoded() {
        check::<SubmitRequest>(&[], None);
        check::<SubmitRequest>(&submit(vec![TaskSpec::default(); SUBMIT_TASKS_MAX]), None);
        let many = submit(vec![TaskSpec::default(); SUBMIT_TASKS_MAX + 1]);
        check::<SubmitRequest>(&many, Some("tasks: more than 1000"));

        let with_inputs = |count| {
            let inputs = vec![Input::default(); count];
            let task = || TaskSpec {
                attempts_max: 5,
                inputs: inputs.clone(),
                ..Default::default()
            };
            submit(vec![task(), task()])
        };
        check::<SubmitRequest>(&with_inputs(SUBMIT_INPUTS_MAX / 2), None);
        let too_many = with_inputs(SUBMIT_INPUTS_MAX / 2 + 1);
        check::<SubmitRequest>(&too_many, Some("tasks.inputs: more than 524288"));
    }

    #[test]
    fn values_of_any_message_are_counted() {
        let hello = |count| Hello {
            kinds: vec![Default::default(); count],
            ..Default::default()
        };
        check::<Hello>(&hello(MESSAGE_RECORDS_MAX).encode_to_vec(), None);
        let too_many = hello(MESSAGE_RECORDS_MAX + 1).encode_to_vec();
        check::<Hello>(&too_many, Some("more than 262144 values"));
    }

    #[test]
    fn what_is_malformed_is_left_to_decoding() {
        let message = submit(vec![TaskSpec::default(); 3]);
        for end in 0..message.len() {
            check::<SubmitRequest>(&message[..end], None);
            assert!(Records(&message[..end]).count() <= Records(&message).count());
        }
        check::<SubmitRequest>(&[0xff; 100], None);
    }
}
