//! The 1024-byte header: offsets, plausibility, and what programs leave out of it.
//!
//! Offsets are those of the MRC2014 format (Cheng et al. 2015). Old and careless writers are met
//! half-way, with a warning each time: no stamp, a wrong machine stamp, an unset axis order.

use std::path::Path;

use super::{Encoding, Mode, MrcError};

/// The header's length; the extended header and the values follow.
pub(crate) const HEADER_BYTES: usize = 1024;

/// No side of a real file comes near this; a wrong byte order always exceeds it for small sizes.
const SIDE_MAX: i32 = 1 << 24;

/// What IMOD writes at byte 152 of its files.
const IMOD_STAMP: i32 = 1_146_047_817;

/// What a header says, put in order.
#[derive(Debug, Clone, PartialEq)]
pub struct MrcHeader {
    /// The number of values along x (fastest), y and z.
    pub size: [usize; 3],
    /// The type and byte order of the values.
    pub encoding: Encoding,
    /// Where the values begin, in bytes.
    pub data_offset: u64,
    /// The length of one voxel or pixel along x; `None` if the header does not say. RELION writes
    /// 1 Å when it does not know, so a particle file's word counts for more.
    pub pixel_size_angstrom: Option<f32>,
    /// Whether the sections are planes of one map or separate images.
    pub kind: MrcKind,
}

/// What the sections of a file are to one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MrcKind {
    /// Planes of one volume.
    Map,
    /// Separate images.
    Stack,
}

impl MrcHeader {
    /// The number of values in one section.
    pub fn section_len(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// The length of one section.
    pub fn section_bytes(&self) -> u64 {
        self.section_len() as u64 * self.encoding.mode.value_bytes() as u64
    }

    /// Where the last section ends.
    pub fn end_offset(&self) -> u64 {
        self.data_offset + self.section_bytes() * self.size[2] as u64
    }

    /// Takes a header apart; `path` serves messages and, where the header leaves it open, its
    /// extension says whether this is a stack. The warnings come second.
    pub(crate) fn parse(
        bytes: &[u8; HEADER_BYTES],
        path: &Path,
    ) -> Result<(Self, Vec<String>), MrcError> {
        let mut warnings = Vec::new();
        let raw = Raw {
            bytes,
            big_endian: byte_order(bytes, path, &mut warnings)?,
        };
        let size = [raw.int(0), raw.int(4), raw.int(8)].map(|side| side as usize);
        let mode = mode(&raw, path)?;
        check_axes(&raw, path)?;
        let extended_bytes = u64::try_from(raw.int(92)).map_err(|_| MrcError::NotMrc {
            path: path.to_owned(),
            why: format!("its extended header would be {} bytes long", raw.int(92)),
        })?;
        let kind = kind(&raw, size, path, &mut warnings);
        let header = Self {
            size,
            encoding: Encoding {
                mode,
                big_endian: raw.big_endian,
            },
            data_offset: HEADER_BYTES as u64 + extended_bytes,
            pixel_size_angstrom: pixel_size(&raw, kind, &mut warnings),
            kind,
        };
        header.check_total(path)?;
        if !has_stamp(bytes) {
            warnings.push("the header lacks the MAP stamp".to_owned());
        }
        Ok((header, warnings))
    }

    /// Later arithmetic on sizes relies on this: all values fit the address space as floats.
    fn check_total(&self, path: &Path) -> Result<(), MrcError> {
        let [nx, ny, nz] = self.size;
        let floats = nx
            .checked_mul(ny)
            .and_then(|n| n.checked_mul(nz))
            .and_then(|n| n.checked_mul(4));
        match floats {
            Some(bytes) if bytes <= isize::MAX as usize / 2 => Ok(()),
            _ => Err(MrcError::NotMrc {
                path: path.to_owned(),
                why: format!("a size of {nx} x {ny} x {nz} is beyond any file"),
            }),
        }
    }
}

/// Whether the bytes `MAP ` stand where MRC files since 1996 have them.
pub(crate) fn has_stamp(bytes: &[u8; HEADER_BYTES]) -> bool {
    &bytes[208..211] == b"MAP"
}

/// A header with its byte order.
struct Raw<'a> {
    bytes: &'a [u8; HEADER_BYTES],
    big_endian: bool,
}

impl Raw<'_> {
    fn word(&self, offset: usize) -> [u8; 4] {
        let b = self.bytes;
        [b[offset], b[offset + 1], b[offset + 2], b[offset + 3]]
    }

    fn int(&self, offset: usize) -> i32 {
        let word = self.word(offset);
        if self.big_endian {
            i32::from_be_bytes(word)
        } else {
            i32::from_le_bytes(word)
        }
    }

    fn float(&self, offset: usize) -> f32 {
        f32::from_bits(self.int(offset) as u32)
    }

    fn is_plausible(&self) -> bool {
        let sides = [0, 4, 8].map(|offset| self.int(offset));
        sides.iter().all(|side| (1..=SIDE_MAX).contains(side)) && (0..=127).contains(&self.int(12))
    }
}

/// Sizes and mode decide, since machine stamps are often wrong or missing; the stamp breaks ties.
fn byte_order(
    bytes: &[u8; HEADER_BYTES],
    path: &Path,
    warnings: &mut Vec<String>,
) -> Result<bool, MrcError> {
    let plausible = |big_endian| Raw { bytes, big_endian }.is_plausible();
    let stamped = match bytes[212] {
        0x44 => Some(false),
        0x11 => Some(true),
        _ => None,
    };
    let found = match (plausible(false), plausible(true)) {
        (true, true) => stamped.unwrap_or(false),
        (true, false) => false,
        (false, true) => true,
        (false, false) => {
            let raw = Raw {
                bytes,
                big_endian: stamped.unwrap_or(false),
            };
            return Err(MrcError::NotMrc {
                path: path.to_owned(),
                why: format!(
                    "its header would mean a size of {} x {} x {} and mode {}",
                    raw.int(0),
                    raw.int(4),
                    raw.int(8),
                    raw.int(12)
                ),
            });
        }
    };
    if stamped.is_some_and(|stamped| stamped != found) {
        let order = if found { "big" } else { "little" };
        warnings.push(format!(
            "the machine stamp is wrong: the file is {order}-endian"
        ));
    }
    Ok(found)
}

fn mode(raw: &Raw<'_>, path: &Path) -> Result<Mode, MrcError> {
    let number = raw.int(12);
    let mode = Mode::from_number(number).ok_or_else(|| MrcError::UnsupportedMode {
        path: path.to_owned(),
        mode: number,
    })?;
    let imod_says_unsigned = raw.int(152) == IMOD_STAMP && raw.int(156) & 1 == 0;
    Ok(if mode == Mode::Int8 && imod_says_unsigned {
        Mode::Uint8
    } else {
        mode
    })
}

fn check_axes(raw: &Raw<'_>, path: &Path) -> Result<(), MrcError> {
    match [64, 68, 72].map(|offset| raw.int(offset)) {
        // All zero is what programs leave that never set the field.
        [1, 2, 3] | [0, 0, 0] => Ok(()),
        axes => Err(MrcError::AxisOrder {
            path: path.to_owned(),
            axes,
        }),
    }
}

/// The space group says what a file is (0 images, 1 and up a volume), but stacks marked 1 and maps
/// marked 0 are both common, so the extension counts for more and a cube is taken for a map.
fn kind(raw: &Raw<'_>, size: [usize; 3], path: &Path, warnings: &mut Vec<String>) -> MrcKind {
    let space_group = raw.int(88);
    let mz = raw.int(36);
    if (401..=630).contains(&space_group) {
        warnings.push("a stack of volumes is read as one stack of sections".to_owned());
        return MrcKind::Stack;
    }
    match extension(path).as_str() {
        "mrcs" | "st" | "stk" => return MrcKind::Stack,
        "map" | "ccp4" => return MrcKind::Map,
        _ => {}
    }
    let cube = size[0] == size[1] && size[1] == size[2] && size[2] > 1;
    match space_group {
        0 if cube && mz != 1 => {
            warnings.push("a cube marked as an image stack (ISPG 0) is read as a map".to_owned());
            MrcKind::Map
        }
        0 => MrcKind::Stack,
        _ => MrcKind::Map,
    }
}

/// The extension in lower case, a final one of a compressed file disregarded.
fn extension(path: &Path) -> String {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase();
    let name = [".gz", ".bz2", ".zst"]
        .into_iter()
        .find_map(|packed| name.strip_suffix(packed))
        .unwrap_or(&name);
    name.rsplit_once('.')
        .map_or(String::new(), |(_, extension)| extension.to_owned())
}

fn pixel_size(raw: &Raw<'_>, kind: MrcKind, warnings: &mut Vec<String>) -> Option<f32> {
    let spacing = |axis: usize| {
        let (length, samples) = (raw.float(40 + 4 * axis), raw.int(28 + 4 * axis));
        let spacing = length / samples as f32;
        (samples > 0 && spacing.is_finite() && spacing > 0.0).then_some(spacing)
    };
    let x = spacing(0)?;
    // The z spacing of a stack means nothing.
    let others = if kind == MrcKind::Map { 1..3 } else { 1..2 };
    for axis in others {
        if let Some(other) = spacing(axis)
            && (other / x - 1.0).abs() > 0.01
        {
            let name = ["x", "y", "z"][axis];
            warnings.push(format!(
                "pixels are {x} A along x but {other} A along {name}"
            ));
        }
    }
    Some(x)
}
