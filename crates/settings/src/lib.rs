//! What daemons and command share: configuration file, logging, folders and what they are on, tokens.
//!
//! A program states its flags once, with clap. [`parse`] then lets each be set by a flag, by its `DEWAR_…` variable or
//! by a line of the configuration file, in this order of precedence, with the program's own default last.

mod connect;
mod file;
mod file_system;
mod folders;
mod inspect;
mod log;
mod manual;
mod memory;
mod size;
mod words;

pub use connect::{ConnectArgs, TokenError};
pub use file::{SettingsError, parse, try_parse_from};
pub use file_system::network_kind;
pub use folders::{broker_data_dir, host_name, worker_cache_dir};
pub use inspect::{Inspected, Origin, Setting, inspect};
pub use log::{LogArgs, LogError, LogFormat};
pub use memory::keep_transfer_memory;
pub use size::{Bandwidth, ByteSize, MalformedSize};
pub use words::{rounded_size, rounded_time};
