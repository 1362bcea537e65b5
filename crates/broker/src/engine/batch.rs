//! Which messages make a batch.

use super::{disk::PARAMETERS_IN_EVENTS_BYTES_MAX, message::Message};
use dewar_queue::Command;
use tokio::sync::mpsc;

/// Messages in one batch: with a few events each they make one commit of the store.
const BATCH_MESSAGE_COUNT_MAX: usize = 512;

/// Tasks in the submits of one batch, about: what the store commits well at once.
const BATCH_TASK_COUNT_MAX: usize = 16_000;

/// Takes what waits, up to a batch. Waits for the first; 0 if none will ever come.
pub(super) async fn take(
    receiver: &mut mpsc::Receiver<Message>,
    messages: &mut Vec<Message>,
) -> usize {
    let Some(first) = receiver.recv().await else {
        return 0;
    };
    let mut task_count = task_count_of(&first);
    messages.push(first);
    while messages.len() < BATCH_MESSAGE_COUNT_MAX && task_count < BATCH_TASK_COUNT_MAX {
        let Ok(message) = receiver.try_recv() else {
            break;
        };
        task_count += task_count_of(&message);
        messages.push(message);
    }
    messages.len()
}

fn task_count_of(message: &Message) -> usize {
    match message {
        Message::Command {
            command: Command::Submit { specs, .. },
            ..
        } => specs.len(),
        _ => 0,
    }
}

/// Whether the parameters in a batch's submits are too much for its events, whatever becomes of them.
pub(super) fn has_parameters_in_bulk(messages: &[Message]) -> bool {
    let specs = messages.iter().flat_map(|message| match message {
        Message::Command {
            command: Command::Submit { specs, .. },
            ..
        } => specs.as_slice(),
        _ => &[],
    });
    let bytes = specs.map(|spec| spec.parameters.carried_bytes());
    bytes.sum::<u64>() > PARAMETERS_IN_EVENTS_BYTES_MAX
}
