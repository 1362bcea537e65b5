//! The worker: takes tasks from a broker, computes them on its slots, and delivers what they came to.
//!
//! `session` hears and decides; its `book` holds every attempt. Around them `connection` talks to the broker, `materials`
//! fetches inputs, `slots` run kernels on threads of their own, `delivery` turns products into blobs, and `results`
//! keeps on disk what has to wait for the broker; `swarm` gets chunks from
//! whoever has them, and gives them on; `near` keeps results that are not to cross the broker's link. None of them waits for another, so heartbeats go out while every slot computes and every fetch is stuck.

mod attempt;
mod book;
mod config;
mod connection;
mod delivery;
mod handover;
mod hello;
mod load;
mod materials;
mod memory;
mod near;
mod panics;
mod restart;
mod results;
mod self_test;
mod session;
mod signals;
mod slots;
mod speech;
mod swarm;
mod time_limit;
mod worker;

pub use config::{Config, DataConfig, ResultsAt, StartError, StuckKernel};
pub use dewar_blobs::CACHE_BYTES_DEFAULT;
pub use load::LoadLimit;
pub use memory::memory_bytes_default;
pub use restart::begin_anew;
pub use worker::{Pulse, Running, RunningError, Worker};
