//! The worker's part in the swarm: what it lacks it gets from the broker or from peers, as the broker says, and what it has it
//! gives to peers.
//!
//! `source` is what the cache asks; `owner` holds all that is wanted and tells the broker; `sharing` keeps the connection for
//! that; `transfer` carries one chunk; `server` answers peers; `precache` fetches what the broker wants here beforehand.

mod owner;
mod precache;
mod server;
mod sharing;
mod source;
mod transfer;

pub(crate) use owner::{Myself, Owner, Wish};
pub(crate) use precache::precache;
pub(crate) use server::{DataPort, PeerToken};
pub(crate) use source::SwarmSource;
pub(crate) use transfer::Sources;
