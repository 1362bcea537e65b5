//! Customers, real brokers and real workers, over loopback.

mod dependencies;
mod keys;
mod kinds;
mod lab;
mod losses;
mod slots;
mod stuck;
mod reruns;
mod reuse;
mod tasks;
