//! The swarm: who holds which chunks, and who gets what from whom.
//!
//! `tracker` decides, and knows nothing but what it is told; `owner` is the task that has it, and
//! hears and tells workers; `handle` is the way there.
//! Nothing here is written down: workers say anew what they hold whenever they come. `near` is about what they keep of
//! outputs, which is.

mod avoided;
mod handle;
mod lost;
mod member;
mod near;
mod owner;
mod precache;
mod tracker;

pub(crate) use handle::{Said, SwarmHandle, ToMember};
pub(crate) use member::{Arrival, Counters, Unreached};
pub(crate) use near::{Near, NearBlob};
pub(crate) use owner::{OUTBOX_MAX, start};
pub(crate) use precache::PrecacheProgress;
pub(crate) use tracker::{Holder, Miss, Order, Tracker};

use std::{sync::Arc, time::Instant};

/// Name of machines that reach one another cheaply.
pub(crate) type SiteName = Arc<str>;
