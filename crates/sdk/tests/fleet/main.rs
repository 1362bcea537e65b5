//! Customers, real brokers and real workers, over loopback.

mod dependencies;
mod keys;
mod kinds;
mod lab;
mod losses;
mod near;
mod planes;
mod reruns;
mod reuse;
mod slots;
mod stuck;
mod submits;
mod swarm;
mod tasks;
mod time_limits;
