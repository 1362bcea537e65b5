//! Turns of submits: how many may be open, and how many of their messages may be on their way to the disk.
//!
//! Whoever is slow holds an open submit and nothing else: turns of messages are given to those that have come, and are free
//! again once they are on disk. So only the broker itself can keep others waiting for them.

use crate::rpc::{auth::Caller, connections::Connection};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tonic::Status;

/// Submits open at a time: each may have half a message of 8 MiB, and as much that waits for the disk.
const OPEN_COUNT_MAX: usize = 256;

/// Of one owner, so that others have room.
const OPEN_OF_OWNER_MAX: usize = 192;

/// On one connection: a customer with so many jobs has others wait for their turn at home.
pub(in crate::rpc) const OPEN_ON_CONNECTION_MAX: usize = 32;

/// Messages that wait for the disk, of 8 MiB each at the most: twice what makes a full batch of the engine.
const MESSAGE_COUNT_MAX: usize = 32;

/// How long to wait for one of the open ones to end.
const OPENING_TIME: Duration = Duration::from_secs(10);

pub(super) struct Turns {
    open: Arc<Semaphore>,
    /// Never more than there are tokens. Held only to look one up.
    of_owners: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
    pub(super) messages: Arc<Semaphore>,
}

/// A submit that is open for as long as this lives.
pub(super) struct Open {
    _turns: Vec<OwnedSemaphorePermit>,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            open: Arc::new(Semaphore::new(OPEN_COUNT_MAX)),
            of_owners: Mutex::default(),
            messages: Arc::new(Semaphore::new(MESSAGE_COUNT_MAX)),
        }
    }

    /// Opens a submit, if need be when another ends.
    pub(super) async fn open(
        &self,
        owner: &Caller,
        connection: Option<&Connection>,
    ) -> Result<Open, Status> {
        let on_connection = connection.map(|connection| connection.submits.clone());
        let bounds = [
            (on_connection, OPEN_ON_CONNECTION_MAX, "on this connection"),
            (
                Some(self.of_owner(owner)),
                OPEN_OF_OWNER_MAX,
                "of this owner",
            ),
            (Some(self.open.clone()), OPEN_COUNT_MAX, "of all customers"),
        ];
        let by = Instant::now() + OPENING_TIME;
        let mut turns = Vec::with_capacity(bounds.len());
        for (semaphore, count_max, whose) in bounds {
            let Some(semaphore) = semaphore else {
                continue;
            };
            let turn = timeout_at(by, semaphore.acquire_owned()).await;
            let turn = turn.map_err(|_| {
                Status::resource_exhausted(format!(
                    "{count_max} submits {whose} are open already, and none has ended for {} s",
                    OPENING_TIME.as_secs()
                ))
            })?;
            // It is never closed.
            turns.extend(turn.ok());
        }
        Ok(Open { _turns: turns })
    }

    fn of_owner(&self, Caller { owner, .. }: &Caller) -> Arc<Semaphore> {
        let mut of_owners = self
            .of_owners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let turns = of_owners.entry(owner.clone());
        turns
            .or_insert_with(|| Arc::new(Semaphore::new(OPEN_OF_OWNER_MAX)))
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{rpc::connections::Standing, tokens::Rank};

    fn connection() -> Connection {
        Connection {
            standing: Standing::Welcome,
            ends: None,
            submits: Arc::new(Semaphore::new(OPEN_ON_CONNECTION_MAX)),
            has_shown_token: Arc::default(),
            read_bytes: Arc::default(),
        }
    }

    fn caller(name: &str) -> Caller {
        Caller {
            owner: name.into(),
            rank: Rank::Owner,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_bound_is_told_by_its_name_and_leaves_room_for_others() {
        let turns = Turns::new();
        let (ann, ben) = (caller("ann"), caller("ben"));
        let refused = async |owner: &Caller, connection: &Connection| {
            let opened = turns.open(owner, Some(connection)).await;
            let refusal = opened.err().expect("it is one too many");
            assert_eq!(refusal.code(), tonic::Code::ResourceExhausted);
            refusal.message().to_owned()
        };
        let mut open = Vec::new();
        let mut fill = async |owner: &Caller, count: usize| {
            let connection = connection();
            for _ in 0..count {
                open.push(turns.open(owner, Some(&connection)).await.unwrap());
            }
            connection
        };
        let full = fill(&ann, OPEN_ON_CONNECTION_MAX).await;
        let message = refused(&ann, &full).await;
        assert!(
            message.starts_with("32 submits on this connection"),
            "{message}"
        );
        for _ in 1..OPEN_OF_OWNER_MAX / OPEN_ON_CONNECTION_MAX {
            fill(&ann, OPEN_ON_CONNECTION_MAX).await;
        }
        let message = refused(&ann, &connection()).await;
        assert!(
            message.starts_with("192 submits of this owner"),
            "{message}"
        );
        for _ in 0..(OPEN_COUNT_MAX - OPEN_OF_OWNER_MAX) / OPEN_ON_CONNECTION_MAX {
            fill(&ben, OPEN_ON_CONNECTION_MAX).await;
        }
        let message = refused(&ben, &connection()).await;
        assert!(message.starts_with("256 submits of all"), "{message}");

        // One that ends is another's turn.
        let beginning = connection();
        let ben_opens = turns.open(&ben, Some(&beginning));
        let (opened, ()) = tokio::join!(ben_opens, async { drop(open.pop()) });
        assert!(opened.is_ok());
    }
}
