//! Which messages make a batch, and what of them is packed before anything is decided.

use super::{
    disk::Payloads,
    message::{FromWorker, Message},
};
use dewar_queue::{Command, Output, TaskResult};
use std::sync::Arc;
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

/// Payloads in messages that their events will carry.
pub(super) fn payloads_of(messages: &mut [Message]) -> Payloads<'_> {
    let mut payloads = Payloads::default();
    for message in messages {
        match message {
            Message::Command {
                command: Command::Submit { specs, .. },
                ..
            } => {
                // A spec that comes in belongs to its message alone, so nothing is copied here.
                let specs = specs.iter_mut().map(Arc::make_mut);
                payloads
                    .parameters
                    .extend(specs.map(|spec| &mut spec.parameters));
            }
            Message::FromWorker {
                message:
                    FromWorker::Report {
                        result: TaskResult::Succeeded(Output { message, .. }),
                        ..
                    },
                ..
            } => payloads.outputs.push(message),
            _ => {}
        }
    }
    payloads
}
