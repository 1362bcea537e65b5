//! The worker: session, slots and cache, as a daemon and as a library.
