//! The workers' connections, and what the queue need not know of workers.

use crate::engine::message::{ToWorker, WorkerInfo};
use dewar_queue::{AttemptId, WorkerId};
use std::collections::{BTreeMap, HashMap};
use tokio::sync::mpsc;

/// Messages that may wait for a worker's socket, beside stops of what it held when it came: twice what the largest worker
/// may be sent ahead. One that reads none of so many is cut off, and may come back.
pub(crate) const OUTBOX_MESSAGE_COUNT_MAX: usize = 16_384;

/// All workers that the queue knows, connected or not.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    /// In order, so that they hear of the end in the same order every time: simulations repeat to the bit.
    members: BTreeMap<WorkerId, Member>,
    progress: HashMap<AttemptId, f32>,
    last_session: u64,
}

#[derive(Debug)]
struct Member {
    info: WorkerInfo,
    joined_unix_ms: u64,
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    /// Tells this connection of the worker from an earlier one that is only now found broken.
    number: u64,
    outbox: mpsc::Sender<ToWorker>,
}

impl Fleet {
    /// A worker said hello on a connection, which replaces any earlier one.
    pub(super) fn attend(
        &mut self,
        id: WorkerId,
        info: WorkerInfo,
        outbox: mpsc::Sender<ToWorker>,
        unix_ms: u64,
    ) -> u64 {
        self.last_session += 1;
        let session = Session {
            number: self.last_session,
            outbox,
        };
        let member = self.members.entry(id).or_insert_with(|| Member {
            info: info.clone(),
            joined_unix_ms: unix_ms,
            session: None,
        });
        member.info = info;
        member.session = Some(session);
        self.last_session
    }

    /// Ends a session, if it is the worker's current one.
    pub(super) fn leave(&mut self, id: WorkerId, session: u64) -> bool {
        let member = self.members.get_mut(&id);
        let ended =
            member.and_then(|member| member.session.take_if(|current| current.number == session));
        ended.is_some()
    }

    pub(super) fn is_current(&self, id: WorkerId, session: u64) -> bool {
        let member = self.members.get(&id);
        let current = member.and_then(|member| member.session.as_ref());
        current.is_some_and(|current| current.number == session)
    }

    pub(super) fn forget(&mut self, id: WorkerId) {
        self.members.remove(&id);
    }

    /// Puts a message into a worker's outbox. A full one ends the session: false.
    pub(super) fn send(&mut self, id: WorkerId, message: ToWorker) -> bool {
        let Some(member) = self.members.get_mut(&id) else {
            return true;
        };
        let Some(session) = &member.session else {
            return true;
        };
        let sent = session.outbox.try_send(message).is_ok();
        if !sent {
            member.session = None;
        }
        sent
    }

    /// Tells every worker that the broker stops and will be back.
    pub(super) fn say_back_soon(&mut self) {
        for session in self
            .members
            .values()
            .filter_map(|member| member.session.as_ref())
        {
            // One whose outbox is full sees the connection close.
            let _ = session.outbox.try_send(ToWorker::BackSoon);
        }
    }

    pub(super) fn set_progress(&mut self, attempt: AttemptId, fraction: f32) {
        self.progress.insert(attempt, fraction.clamp(0.0, 1.0));
    }

    pub(super) fn drop_progress(&mut self, attempt: AttemptId) {
        self.progress.remove(&attempt);
    }

    /// What a worker said of itself, and when it first did.
    pub(crate) fn info(&self, id: WorkerId) -> Option<(&WorkerInfo, u64)> {
        let member = self.members.get(&id)?;
        Some((&member.info, member.joined_unix_ms))
    }

    /// How far a try is, 0 to 1.
    pub(crate) fn progress(&self, attempt: AttemptId) -> f32 {
        self.progress.get(&attempt).copied().unwrap_or(0.0)
    }
}
