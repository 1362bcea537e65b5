//! The real programs as child processes, for tests and the demo; never shipped.
//!
//! Nothing here is a mock: brokers and workers listen on loopback, keep their data in folders the caller owns, and die
//! by SIGKILL when told to. Whatever is dropped is killed, so that a failed test leaves nothing behind.

mod notify_socket;
mod process;
mod programs;
mod proxy;
pub mod refinement;
mod small_disk;

pub use notify_socket::NotifySocket;
pub use process::{Guarded, output, run, wait_until};
pub use programs::{Broker, BrokerOptions, Programs, WorkerOptions};
pub use proxy::{Mode, Proxy};
pub use rustix::process::Signal;
pub use small_disk::SmallDisk;

use std::path::PathBuf;

/// The real data beside the project, if it is there. Says so on stderr if it is not, since a test is then skipped.
pub fn shared_data(test: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("{test}: skipped, since shared/data is not beside the project");
    None
}
