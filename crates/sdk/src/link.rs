//! Whether the broker can be reached, for customers to tell their users.

use std::time::SystemTime;
use tokio::sync::watch;

/// The way to the broker, as the last call found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// The broker answers.
    Up,
    /// It does not; calls wait and try again.
    Away {
        /// When it was first missed.
        since: SystemTime,
        /// What the last try met.
        reason: String,
    },
}

/// The client's end of the link, told by every call.
#[derive(Debug, Clone)]
pub(crate) struct LinkSender(watch::Sender<Link>);

impl LinkSender {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Link::Up))
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Link> {
        self.0.subscribe()
    }

    pub(crate) fn up(&self) {
        self.0.send_if_modified(|link| {
            let changed = *link != Link::Up;
            *link = Link::Up;
            changed
        });
    }

    /// Keeps the time of the first miss through all later ones.
    pub(crate) fn away(&self, reason: &str) {
        self.0.send_if_modified(|link| match link {
            Link::Away { reason: known, .. } if known == reason => false,
            Link::Away { reason: known, .. } => {
                reason.clone_into(known);
                true
            }
            Link::Up => {
                *link = Link::Away {
                    since: SystemTime::now(),
                    reason: reason.to_owned(),
                };
                true
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_miss_dates_the_absence() {
        let sender = LinkSender::new();
        let mut receiver = sender.subscribe();
        sender.up();
        assert!(!receiver.has_changed().unwrap(), "up was known");

        sender.away("refused");
        let Link::Away { since: first, .. } = receiver.borrow_and_update().clone() else {
            panic!("away was told");
        };
        sender.away("reset");
        let Link::Away { since, reason } = receiver.borrow_and_update().clone() else {
            panic!("still away");
        };
        assert_eq!((since, reason.as_str()), (first, "reset"));

        sender.up();
        assert_eq!(*receiver.borrow_and_update(), Link::Up);
    }
}
