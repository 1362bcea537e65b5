//! What can be wrong with an MRC file.

use std::io;
use std::path::PathBuf;

use super::Compression;

/// A file cannot be read as MRC.
#[derive(Debug, thiserror::Error)]
pub enum MrcError {
    /// The operating system refused.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A compressed file is damaged, cut short or too large.
    #[error("{}: cannot be unpacked as {compression}", path.display())]
    Unpack {
        /// The file.
        path: PathBuf,
        /// How it is compressed.
        compression: Compression,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// The file has no bytes.
    #[error("{}: the file is empty; expected an MRC map or stack", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The header makes no sense in either byte order.
    #[error("{}: not an MRC file: {why}", path.display())]
    NotMrc {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        why: String,
    },
    /// The values are of a type Dewar does not read.
    #[error(
        "{}: MRC mode {mode}{} is not supported; expected 0, 1, 2, 6 or 12",
        path.display(), mode_meaning(*mode)
    )]
    UnsupportedMode {
        /// The file.
        path: PathBuf,
        /// The mode's number.
        mode: i32,
    },
    /// The axes are permuted.
    #[error(
        "{}: the axis order (MAPC, MAPR, MAPS) is {} {} {}; expected 1 2 3",
        path.display(), axes[0], axes[1], axes[2]
    )]
    AxisOrder {
        /// The file.
        path: PathBuf,
        /// The order found.
        axes: [i32; 3],
    },
    /// The file is shorter than its header says.
    #[error(
        "{}: truncated: the header promises {} sections of {} x {} (mode {mode}), {expected_bytes} bytes \
         in all; the file has {actual_bytes}, {whole_sections} whole sections",
        path.display(), size[2], size[0], size[1]
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The size promised: nx, ny, nz.
        size: [usize; 3],
        /// The mode's number.
        mode: i32,
        /// The length promised.
        expected_bytes: u64,
        /// The length found.
        actual_bytes: u64,
        /// How many sections are there in full.
        whole_sections: u64,
    },
    /// Without the `MAP ` stamp, a length that does not add up means some other kind of file.
    #[error(
        "{}: not an MRC file: it lacks the MAP stamp, and its header would mean {expected_bytes} bytes \
         where the file has {actual_bytes}",
        path.display()
    )]
    UnstampedLength {
        /// The file.
        path: PathBuf,
        /// The length the header would mean.
        expected_bytes: u64,
        /// The length found.
        actual_bytes: u64,
    },
    /// The section does not exist.
    #[error("{}: section {index} does not exist; the file has {count}, counted from 0", path.display())]
    NoSuchSection {
        /// The file.
        path: PathBuf,
        /// The section asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// Someone shortened the file after it was opened.
    #[error("{}: the file shrank while it was being read", path.display())]
    Shrank {
        /// The file.
        path: PathBuf,
    },
}

fn mode_meaning(mode: i32) -> &'static str {
    match mode {
        3 => " (complex integers)",
        4 => " (complex floats)",
        16 => " (RGB)",
        101 => " (packed 4-bit integers)",
        _ => "",
    }
}
