//! The broker: engine, store, rpc around the queue.
//!
//! [`Broker::start`] is all of it; the daemon, tests and `thread:N` start it alike.

mod broker;
mod config;
mod data_dir;
mod disk_space;
mod engine;
mod meter;
mod near;
mod reports;
mod roster;
mod rpc;
#[doc(hidden)]
pub mod simulation;
pub mod store;
mod swarm;
mod tokens;
mod web;

pub use broker::{Broker, Fault, Pulse, Running, StartError};
pub use config::{Config, NearPatience, Patience};
pub use data_dir::DataDirError;
pub use disk_space::DiskBounds;
pub use engine::{EngineError, EngineFault, EngineHandle};
pub use tokens::add_owner;
