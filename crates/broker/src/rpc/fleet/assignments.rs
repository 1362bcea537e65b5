//! What a worker is told, packed into messages that it can decode.
//!
//! A task may read the messages of thousands of others, which all travel with it. So bytes are counted before anything
//! is read, and again as they will be sent. A task that fits no message fails, and so does one whose bytes the broker's disk
//! has lost: they would break the session, and the next one, for ever.

use super::convert;
use crate::{
    engine::{Address, FromWorker, ToWorker},
    store::PackReader,
};
use dewar_proto::{limits::MESSAGE_BYTES_MAX, v1, v1::broker_message::Message};
use dewar_queue::{Failure, FailureClass, TaskResult, TaskSpec};
use prost::Message as _;
use tonic::{Code, Status};

/// Bytes of assignments in one message: large enough to be cheap, and far from what the worker refuses to decode.
const MESSAGE_BYTES: usize = MESSAGE_BYTES_MAX / 2;

/// Bytes of one assignment: all of a message but what frames it.
const ASSIGNMENT_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 1024;

/// What is ready to be sent, and what cannot be.
#[derive(Default)]
pub(super) struct Packed {
    /// In order.
    pub(super) messages: Vec<Message>,
    /// Ends of tries whose tasks cannot be sent, as if the worker had reported them.
    pub(super) refused: Vec<FromWorker>,
    assignments: Vec<v1::Assignment>,
    bytes: usize,
}

/// Takes the first messages whose payloads are about a message together; one at least.
pub(super) fn portion(waiting: &mut Vec<ToWorker>) -> Vec<ToWorker> {
    let mut bytes = 0;
    let fitting = waiting.iter().take_while(|message| {
        bytes += match message {
            ToWorker::Assign { spec, .. } => payload_bytes(spec),
            _ => 0,
        };
        bytes <= MESSAGE_BYTES
    });
    let count = fitting.count().clamp(1, waiting.len());
    waiting.drain(..count).collect()
}

/// Puts what a worker is told into messages.
pub(super) async fn pack(
    packs: &PackReader,
    portion: Vec<ToWorker>,
    minor: u32,
) -> Result<Packed, Status> {
    let mut packed = Packed::default();
    match read(packs, &portion).await {
        Ok(payloads) => packed.put(portion, payloads, minor)?,
        Err(status) if status.code() == Code::DataLoss => {
            // Which of them is lost, only each by itself tells.
            for message in portion {
                match read(packs, std::slice::from_ref(&message)).await {
                    Ok(payloads) => packed.put(vec![message], payloads, minor)?,
                    Err(status) if status.code() == Code::DataLoss => packed.lose(message, &status),
                    Err(status) => return Err(status),
                }
            }
        }
        Err(status) => return Err(status),
    }
    packed.flush();
    Ok(packed)
}

async fn read(packs: &PackReader, portion: &[ToWorker]) -> Result<Vec<v1::Payload>, Status> {
    let payloads = portion.iter().filter_map(sendable);
    convert::payloads_to_wire(packs, payloads.flat_map(convert::payloads_of)).await
}

impl Packed {
    fn put(
        &mut self,
        portion: Vec<ToWorker>,
        payloads: Vec<v1::Payload>,
        minor: u32,
    ) -> Result<(), Status> {
        let mut payloads = payloads.into_iter();
        for message in portion {
            let is_sendable = sendable(&message).is_some();
            match message {
                ToWorker::Assign { address, spec, .. } if !is_sendable => {
                    self.refuse(address, too_large(payload_bytes(&spec)));
                }
                ToWorker::Assign { address, job, spec } => {
                    let assignment = v1::Assignment {
                        task: Some(convert::task_ref(address)),
                        attempt: Some(convert::attempt_id(address)),
                        spec: Some(convert::spec_to_wire(&spec, &mut payloads)?),
                        display_name: format!("{job}.{}", address.index),
                    };
                    self.assign(address, assignment);
                }
                ToWorker::BackSoon if minor == 0 => {}
                other => self.tell(other),
            }
        }
        Ok(())
    }

    /// The broker's own disk has lost what the task needs.
    fn lose(&mut self, message: ToWorker, status: &Status) {
        if let ToWorker::Assign { address, .. } = message {
            let problem = format!("its parameters or inputs are lost: {}", status.message());
            self.refuse(address, problem);
        }
    }

    fn assign(&mut self, address: Address, assignment: v1::Assignment) {
        let bytes = assignment.encoded_len();
        if bytes > ASSIGNMENT_BYTES_MAX {
            self.refuse(address, too_large(bytes));
            return;
        }
        if self.bytes + bytes > MESSAGE_BYTES {
            self.flush();
        }
        self.assignments.push(assignment);
        self.bytes += bytes;
    }

    fn refuse(&mut self, address: Address, message: String) {
        self.refused.push(FromWorker::Report {
            address,
            result: TaskResult::Failed(Failure {
                class: FailureClass::BadInput,
                message,
            }),
            run_ms: 0,
            fetch_ms: 0,
        });
    }

    /// Assignments that follow one another travel together; order is kept towards everything else.
    fn tell(&mut self, message: ToWorker) {
        self.flush();
        self.messages.extend(match message {
            ToWorker::Received(address) => Some(Message::ReportReceived(v1::ReportReceived {
                task: Some(convert::task_ref(address)),
                attempt: Some(convert::attempt_id(address)),
            })),
            ToWorker::Stop(address) => Some(Message::Stop(v1::Stop {
                task: Some(convert::task_ref(address)),
                attempt: Some(convert::attempt_id(address)),
            })),
            ToWorker::Drain => Some(Message::Drain(v1::Drain {})),
            ToWorker::BackSoon => Some(Message::BackSoon(v1::BackSoon {})),
            ToWorker::Assign { .. } => None,
        });
    }

    fn flush(&mut self) {
        self.bytes = 0;
        if !self.assignments.is_empty() {
            let assignments = std::mem::take(&mut self.assignments);
            let assignments = v1::Assignments { assignments };
            self.messages.push(Message::Assignments(assignments));
        }
    }
}

fn too_large(bytes: usize) -> String {
    format!(
        "its parameters and inputs are {bytes} bytes together, at most {ASSIGNMENT_BYTES_MAX} reach a worker; \
         give large outputs as blobs"
    )
}

/// The task of an assignment that may fit a message. Others are not even read: they may be hundreds of megabytes.
fn sendable(message: &ToWorker) -> Option<&TaskSpec> {
    match message {
        ToWorker::Assign { spec, .. } => {
            (payload_bytes(spec) <= ASSIGNMENT_BYTES_MAX).then_some(spec)
        }
        _ => None,
    }
}

fn payload_bytes(spec: &TaskSpec) -> usize {
    let payloads = convert::payloads_of(spec);
    let bytes = payloads.map(|payload| payload.carried_bytes()).sum::<u64>();
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
