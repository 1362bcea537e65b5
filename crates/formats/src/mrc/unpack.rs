//! Compressed maps: told by their first bytes, never by name, and unpacked into memory whole.
//!
//! A few kilobytes can claim to be terabytes. So the header is unpacked alone, and then no more than it promises, which
//! may not be more than any map has.

use std::io::{self, Read};
use std::path::Path;

use super::MrcHeader;
use super::header::HEADER_BYTES;

/// Twice a map of box 1024, which is the largest that is refined.
const UNPACKED_BYTES_MAX: u64 = 8 << 30;

/// What begins the first block of a bzip2 file, after the level: the digits of pi.
const BZIP2_BLOCK: [u8; 6] = [0x31, 0x41, 0x59, 0x26, 0x53, 0x59];

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// With blocks of any size.
    Bzip2,
    /// RFC 8878.
    Zstd,
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Compression::Gzip => "gzip",
            Compression::Bzip2 => "bzip2",
            Compression::Zstd => "zstd",
        })
    }
}

impl Compression {
    /// How a file that begins with these bytes is compressed, if it is.
    pub fn of(start: &[u8]) -> Option<Self> {
        match start {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..] if rest.starts_with(&BZIP2_BLOCK) => {
                Some(Self::Bzip2)
            }
            // The second begins what parallel compressors put before each frame.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Unpacks a map: no more than the header inside promises, and a byte, to notice excess.
    pub(super) fn unpack(self, packed: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip => unpack(flate2::read::MultiGzDecoder::new(packed)),
            Self::Bzip2 => unpack(bzip2::read::MultiBzDecoder::new(packed)),
            Self::Zstd => unpack(zstd::stream::read::Decoder::with_buffer(packed)?),
        }
    }
}

fn unpack(mut unpacked: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    unpacked
        .by_ref()
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut bytes)?;
    let header = bytes
        .first_chunk::<HEADER_BYTES>()
        .and_then(|header| MrcHeader::parse(header, Path::new("")).ok());
    let Some((header, _)) = header else {
        // No map: what was unpacked is enough to say so.
        return Ok(bytes);
    };
    let promised = header.end_offset();
    if promised > UNPACKED_BYTES_MAX {
        return Err(io::Error::other(format!(
            "its header promises {promised} bytes; at most {UNPACKED_BYTES_MAX} are unpacked in memory (unpack the file first)"
        )));
    }
    let rest = promised + 1 - bytes.len() as u64;
    bytes
        .try_reserve_exact(rest as usize)
        .map_err(|_| io::Error::other(format!("there is no memory for its {promised} bytes")))?;
    unpacked.take(rest).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_first_bytes() {
        let cases: [(&[u8], Option<Compression>); 7] = [
            (&[0x1f, 0x8b, 8], Some(Compression::Gzip)),
            (b"BZh91AY&SY\0", Some(Compression::Bzip2)),
            // Text may well begin with these three letters.
            (b"BZh9 is no magic", None),
            (&[0x28, 0xb5, 0x2f, 0xfd], Some(Compression::Zstd)),
            (&[0x50, 0x2a, 0x4d, 0x18], Some(Compression::Zstd)),
            (b"data_optics", None),
            (&[], None),
        ];
        for (start, expected) in cases {
            assert_eq!(Compression::of(start), expected, "{start:?}");
        }
    }
}
