//! The broker: engine, store, rpc around the queue.

pub mod store;
