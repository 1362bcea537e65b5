//! Results that the broker has not acknowledged, on disk: they outlast its absence, and this process too.
//!
//! The cache folder has a folder `results`, and in it one for each worker, named by its id and locked by the process
//! that owns it. A worker that starts takes over one that nobody owns, and with it the id, so that the broker gets back
//! at once whatever that worker had. `folder` locks, `record` is the form on disk, `keeper` is the thread that writes.

mod folder;
mod keeper;
mod record;

pub(crate) use folder::{Identity, broker_key};
pub(crate) use keeper::{Keeper, Kept, Piece};
