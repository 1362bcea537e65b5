//! The worker: takes tasks from a broker, computes them on its slots, and delivers what they came to.
//!
//! `session` is the one owner of all attempts and decides; around it `connection` talks to the broker, `materials`
//! fetches inputs, `slots` run kernels on threads of their own, and `delivery` turns products into blobs. None of them
//! waits for another, so heartbeats go out while every slot computes and every fetch is stuck.

mod attempt;
mod config;
mod connection;
mod delivery;
mod materials;
mod panics;
mod session;
mod slots;

pub use config::{Config, StartError};
pub use dewar_blobs::CACHE_BYTES_DEFAULT;
pub use session::{Running, RunningError, Worker};
