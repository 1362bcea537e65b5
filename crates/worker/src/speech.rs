//! What the session says to the broker: in order, and no faster than the broker reads.
//!
//! Messages that the connection does not take yet wait here. There are never more than the attempts that the broker
//! itself has given, each with one report or one word that it is handed back, so nothing else bounds them.

use crate::connection::Outbox;
use dewar_proto::v1;
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;
use v1::worker_message::Message;

/// A broker that reads nothing for so long is stuck, and is better called anew. As long as its own patience is.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// Words on their way.
#[derive(Default)]
pub(crate) struct Speech {
    /// None while there is no connection.
    outbox: Option<Outbox>,
    waiting: VecDeque<Message>,
    /// When the connection last took a message, if some wait since then.
    waits_since: Option<Instant>,
}

impl Speech {
    /// Begins anew on a new connection. What waited was for another, and is said again if it matters.
    pub(crate) fn begin(&mut self, outbox: Outbox, hello: v1::Hello) {
        self.end();
        self.outbox = Some(outbox);
        self.say(Message::Hello(hello));
    }

    /// The connection is gone.
    pub(crate) fn end(&mut self) {
        self.outbox = None;
        self.waiting.clear();
        self.waits_since = None;
    }

    /// There is somebody to say it to, or to be soon.
    pub(crate) fn has_begun(&self) -> bool {
        self.outbox.is_some()
    }

    /// Nothing waits to be said.
    pub(crate) fn is_over(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What is said while there is no connection is lost; what must not be is said again after the next hello.
    pub(crate) fn say(&mut self, message: Message) {
        self.say_all([message]);
    }

    pub(crate) fn say_all(&mut self, messages: impl IntoIterator<Item = Message>) {
        if self.outbox.is_some() {
            self.waiting.extend(messages);
            self.pass_on();
        }
    }

    /// Says that the worker lives, before all that waits: a long queue of reports must not look like silence.
    pub(crate) fn beat(&mut self, heartbeat: v1::Heartbeat) {
        if self
            .waits_since
            .is_some_and(|since| since + STUCK_AFTER <= Instant::now())
            && let Some(outbox) = &self.outbox
        {
            outbox.stuck.cancel();
            return;
        }
        if matches!(self.waiting.front(), Some(Message::Heartbeat(_))) {
            self.waiting.pop_front();
        }
        if self.outbox.is_some() {
            self.waiting.push_front(Message::Heartbeat(heartbeat));
            self.pass_on();
        }
    }

    /// Waits until the connection takes more of what waits; for ever if nothing does. Losing its turn in a `select!`
    /// loses nothing.
    pub(crate) async fn proceed(&mut self) {
        let Some(outbox) = self.outbox.as_ref().filter(|_| !self.waiting.is_empty()) else {
            return std::future::pending().await;
        };
        if outbox.sender.reserve().await.is_err() {
            // The connection is ending, which the session hears from it.
            return std::future::pending().await;
        }
        self.pass_on();
    }

    fn pass_on(&mut self) {
        let Some(outbox) = &self.outbox else {
            return;
        };
        let mut has_moved = false;
        while !self.waiting.is_empty()
            && let Ok(permit) = outbox.sender.try_reserve()
        {
            let message = self.waiting.pop_front();
            permit.send(v1::WorkerMessage { message });
            has_moved = true;
        }
        if self.waiting.is_empty() {
            self.waits_since = None;
        } else if has_moved || self.waits_since.is_none() {
            self.waits_since = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    fn report(n: u64) -> Message {
        Message::Report(v1::Report {
            run_ms: n,
            fetch_ms: 0,
            ..Default::default()
        })
    }

    fn begun(room: usize) -> (Speech, mpsc::Receiver<v1::WorkerMessage>, CancellationToken) {
        let (sender, receiver) = mpsc::channel(room);
        let stuck = CancellationToken::new();
        let outbox = Outbox {
            sender,
            stuck: stuck.clone(),
        };
        let mut speech = Speech::default();
        speech.begin(outbox, v1::Hello::default());
        (speech, receiver, stuck)
    }

    #[tokio::test]
    async fn a_slow_reader_hears_everything_in_order_and_that_the_worker_lives() {
        let (mut speech, mut receiver, stuck) = begun(2);
        speech.say_all((0..5000).map(report));
        speech.beat(v1::Heartbeat::default());
        speech.beat(v1::Heartbeat::default());
        let mut heard = Vec::new();
        let mut beat_count = 0;
        while heard.len() < 5000 {
            let message = tokio::select! {
                message = receiver.recv() => message.unwrap().message,
                () = speech.proceed() => continue,
            };
            match message {
                Some(Message::Report(report)) => heard.push(report.run_ms),
                Some(Message::Heartbeat(_)) => {
                    beat_count += 1;
                    assert!(heard.len() < 3, "it overtakes what waits");
                }
                _ => assert!(heard.is_empty(), "hello comes first"),
            }
        }
        assert!(heard.into_iter().eq(0..5000));
        assert_eq!(beat_count, 1);
        assert!(speech.is_over() && !stuck.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_reads_nothing_is_called_anew() {
        let (mut speech, _receiver, stuck) = begun(1);
        speech.say_all((0..3).map(report));
        tokio::time::advance(STUCK_AFTER / 2).await;
        speech.beat(v1::Heartbeat::default());
        assert!(!stuck.is_cancelled());
        tokio::time::advance(STUCK_AFTER / 2).await;
        speech.beat(v1::Heartbeat::default());
        assert!(stuck.is_cancelled());
    }
}
