//! MRC maps and image stacks: 1024 bytes of header, perhaps an extended header, then values.
//!
//! Section `z` of a file is one image of a stack or one plane of a map, `nx` values fastest.
//! [`MrcFile`] reads, [`write_map`] and [`StackWriter`] write; [`Encoding`] decodes raw bytes that
//! came from elsewhere, without a file in sight.

mod encoding;
mod error;
mod header;
mod read;
mod unpack;
mod write;

pub use encoding::{DecodeError, Encoding, Mode};
pub use error::MrcError;
pub use header::{MrcHeader, MrcKind};
pub use read::MrcFile;
pub use unpack::Compression;
pub use write::{MrcWriteError, OutputMode, StackWriter, write_map};
