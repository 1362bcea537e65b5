//! How everyone else reaches the owner of the swarm, and what is said to it.

use super::{
    Arrival, Holder, Miss, NearBlob, Order, PrecacheProgress, SiteName, Tracker, Unreached,
};
use crate::near::{Announcement, Registry, ToKeeper};
use dewar_blobs::{BlobRef, ChunkList, ChunkSet, Digest};
use dewar_queue::WorkerId;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Ways to the owner; clones are the same.
#[derive(Clone)]
pub(crate) struct SwarmHandle {
    pub(super) sender: mpsc::Sender<Message>,
}

/// What a worker says.
#[derive(Debug)]
pub(crate) enum Said {
    Holds {
        blob: BlobRef,
        chunks: ChunkSet,
    },
    HoldsNoMore {
        blob: BlobRef,
        chunks: ChunkSet,
    },
    Wants {
        blob: BlobRef,
        chunks: Vec<u64>,
    },
    WantsNoMore {
        blob: BlobRef,
        chunks: Vec<u64>,
    },
    Got {
        blob: BlobRef,
        chunk: u64,
        from: Holder,
        size_bytes: u64,
    },
    Missed {
        blob: BlobRef,
        chunk: u64,
        from: Holder,
        miss: Miss,
        message: Arc<str>,
    },
    CannotPrecache {
        blob: BlobRef,
        message: Arc<str>,
    },
    /// What its folder of results has.
    Announces(Announcement),
    Keeps {
        list: ChunkList,
        stamp: u64,
        is_output: bool,
    },
    CannotKeep {
        blob: BlobRef,
        message: Arc<str>,
    },
    KeepsNoMore {
        blob: BlobRef,
        stamp: u64,
    },
    /// It is about to go.
    Leaves,
}

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum ToMember {
    Fetch(Order),
    Precache(BlobRef),
    Keeper(ToKeeper),
}

/// A look at what the owner has.
type Look = Box<dyn FnOnce(&Tracker, &Registry) + Send>;

/// One message to the owner.
pub(super) enum Message {
    Join {
        worker: WorkerId,
        arrival: Arrival,
        outbox: mpsc::Sender<ToMember>,
        reply: oneshot::Sender<u64>,
    },
    /// The broker reached it at this address.
    Reached {
        worker: WorkerId,
        session: u64,
        address: Arc<str>,
    },
    /// It did not, so far.
    Unreached {
        worker: WorkerId,
        session: u64,
        unreached: Unreached,
    },
    Said {
        worker: WorkerId,
        session: u64,
        said: Said,
    },
    Leave {
        worker: WorkerId,
        session: u64,
    },
    Look(Look),
    FindNear {
        digest: Digest,
        reply: oneshot::Sender<Option<NearBlob>>,
    },
    /// The broker has a blob now that workers kept, or could not get it.
    TakenIn {
        digest: Digest,
        is_done: bool,
    },
    Precache {
        blobs: Vec<BlobRef>,
        site: Option<SiteName>,
        progress: mpsc::Sender<PrecacheProgress>,
    },
}

/// The swarm is no more: the broker shuts down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gone;

impl SwarmHandle {
    /// Begins a worker's part in the swarm, and gives the number of this session.
    pub(crate) async fn join(
        &self,
        worker: WorkerId,
        arrival: Arrival,
        outbox: mpsc::Sender<ToMember>,
    ) -> Result<u64, Gone> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Join {
            worker,
            arrival,
            outbox,
            reply,
        })
        .await?;
        answer.await.map_err(|_| Gone)
    }

    pub(crate) async fn reached(
        &self,
        worker: WorkerId,
        session: u64,
        address: Arc<str>,
    ) -> Result<(), Gone> {
        self.send(Message::Reached {
            worker,
            session,
            address,
        })
        .await
    }

    pub(crate) async fn unreached(
        &self,
        worker: WorkerId,
        session: u64,
        unreached: Unreached,
    ) -> Result<(), Gone> {
        self.send(Message::Unreached {
            worker,
            session,
            unreached,
        })
        .await
    }

    pub(crate) async fn said(
        &self,
        worker: WorkerId,
        session: u64,
        said: Said,
    ) -> Result<(), Gone> {
        self.send(Message::Said {
            worker,
            session,
            said,
        })
        .await
    }

    pub(crate) async fn leave(&self, worker: WorkerId, session: u64) -> Result<(), Gone> {
        self.send(Message::Leave { worker, session }).await
    }

    /// Looks at the tracker and the registry. Everything waits meanwhile, so the look must be short.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Tracker, &Registry) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Look(Box::new(|tracker, near| {
            // The asker may have gone.
            let _ = reply.send(look(tracker, near));
        })))
        .await?;
        answer.await.map_err(|_| Gone)
    }

    /// Where a blob is that workers keep; none if they do not.
    pub(crate) async fn find_near(&self, digest: Digest) -> Result<Option<NearBlob>, Gone> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::FindNear { digest, reply }).await?;
        answer.await.map_err(|_| Gone)
    }

    /// The broker has a blob now that workers kept, or could not get it.
    pub(crate) async fn taken_in(&self, digest: Digest, is_done: bool) -> Result<(), Gone> {
        self.send(Message::TakenIn { digest, is_done }).await
    }

    /// Has workers fetch blobs. What is told ends when all have them.
    pub(crate) async fn precache(
        &self,
        blobs: Vec<BlobRef>,
        site: Option<SiteName>,
    ) -> Result<mpsc::Receiver<PrecacheProgress>, Gone> {
        let (progress, receiver) = mpsc::channel(16);
        self.send(Message::Precache {
            blobs,
            site,
            progress,
        })
        .await?;
        Ok(receiver)
    }

    async fn send(&self, message: Message) -> Result<(), Gone> {
        self.sender.send(message).await.map_err(|_| Gone)
    }
}
