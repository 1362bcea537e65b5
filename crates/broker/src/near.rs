//! Blobs that workers keep near, so that the broker's link never carries them.
//!
//! `registry` decides, and knows nothing but what it is told: which folders have which blob, who is to keep another copy, and
//! when a blob is safe. `records` is what the broker's disk says of them, so that a restart knows where outputs are. The
//! owner of the swarm has the registry, and hears and tells workers.

mod records;
mod registry;
mod scribe;

pub(crate) use records::{Record, Records};
pub(crate) use registry::{Announcement, Order, Registry, StoreId, Taking, ToKeeper};
pub(crate) use scribe::{Scribe, Written};
