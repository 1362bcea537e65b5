//! Customers, real brokers and real workers, over loopback.

mod kinds;
mod lab;
mod losses;
mod slots;
mod stuck;
mod tasks;
