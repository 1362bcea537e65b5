//! Writing: little-endian MRC2014 that passes the format's validator.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::f16;

use super::Mode;
use super::header::HEADER_BYTES;
use crate::Statistics;
use crate::atomic::{AtomicFile, WriteError};

/// The type of the values to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputMode {
    /// Mode 2, which every program reads.
    #[default]
    Float32,
    /// Mode 12: half the size, three digits, and fewer programs that read it.
    Float16,
}

/// A map or stack could not be written.
#[derive(Debug, thiserror::Error)]
pub enum MrcWriteError {
    /// The disk or the folder refused.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The sizes are none an MRC file can have, or the values are not as many as they say.
    #[error(
        "{}: {values} values cannot be written as {} x {} x {}",
        path.display(), size[0], size[1], size[2]
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// The number of values given.
        values: usize,
        /// The size given: nx, ny, nz.
        size: [usize; 3],
    },
    /// The pixel size is not a positive number.
    #[error("{}: a pixel size of {pixel_size_angstrom} A cannot be written", path.display())]
    PixelSize {
        /// The file.
        path: PathBuf,
        /// The pixel size given.
        pixel_size_angstrom: f32,
    },
}

/// Writes a volume (mode 2, ISPG 1) of `size` nx, ny, nz, x fastest. The label, cut to 80
/// characters, says what made it; keep time and place out of it, so that equal maps are equal files.
pub fn write_map(
    path: &Path,
    size: [usize; 3],
    pixel_size_angstrom: f32,
    values: &[f32],
    label: &str,
) -> Result<(), MrcWriteError> {
    check_pixel_size(path, pixel_size_angstrom)?;
    let product = size[0]
        .checked_mul(size[1])
        .and_then(|n| n.checked_mul(size[2]));
    if product != Some(values.len()) || !size.iter().all(|side| is_side(*side)) {
        return Err(MrcWriteError::Size {
            path: path.to_owned(),
            values: values.len(),
            size,
        });
    }
    let mut statistics = Statistics::new();
    let header = |statistics: &Statistics| Fields {
        size,
        mode: Mode::Float32,
        is_volume: true,
        pixel_size_angstrom,
        statistics: *statistics,
        label,
    };
    crate::atomic::write(path, |file| {
        // Statistics take a pass over the values that writing makes anyway, so the header comes last.
        file.write_all(&[0; HEADER_BYTES])?;
        for plane in values.chunks(size[0] * size[1]) {
            statistics.add(plane);
            write_values(file, plane)?;
        }
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header(&statistics).encode())
    })?;
    Ok(())
}

/// Writes a stack of images one after the other. Dropped before [`finish`](Self::finish), it
/// leaves no file.
#[derive(Debug)]
pub struct StackWriter {
    file: AtomicFile,
    size_px: [usize; 2],
    mode: OutputMode,
    pixel_size_angstrom: f32,
    label: String,
    image_count: usize,
    statistics: Statistics,
}

impl StackWriter {
    /// Begins a stack (ISPG 0) of images of `size_px` nx, ny; the label is as in [`write_map`].
    pub fn create(
        path: &Path,
        size_px: [usize; 2],
        pixel_size_angstrom: f32,
        mode: OutputMode,
        label: &str,
    ) -> Result<Self, MrcWriteError> {
        check_pixel_size(path, pixel_size_angstrom)?;
        if !size_px.iter().all(|side| is_side(*side)) {
            let size = [size_px[0], size_px[1], 0];
            return Err(MrcWriteError::Size {
                path: path.to_owned(),
                values: 0,
                size,
            });
        }
        let mut writer = Self {
            file: AtomicFile::create(path)?,
            size_px,
            mode,
            pixel_size_angstrom,
            label: label.to_owned(),
            image_count: 0,
            statistics: Statistics::new(),
        };
        writer
            .file
            .write_all(&[0; HEADER_BYTES])
            .map_err(|source| writer.fault(source))?;
        Ok(writer)
    }

    /// Adds one image, x fastest.
    pub fn append(&mut self, pixels: &[f32]) -> Result<(), MrcWriteError> {
        let next_count = self.image_count + 1;
        if Some(pixels.len()) != self.size_px[0].checked_mul(self.size_px[1])
            || !is_side(next_count)
        {
            return Err(self.size_error(pixels.len()));
        }
        match self.mode {
            OutputMode::Float32 => {
                self.statistics.add(pixels);
                write_values(&mut self.file, pixels)
            }
            OutputMode::Float16 => {
                let stored: Vec<f16> = pixels.iter().map(|pixel| f16::from_f32(*pixel)).collect();
                // The header describes what a reader will find, after rounding.
                let rounded: Vec<f32> = stored.iter().map(|value| value.to_f32()).collect();
                self.statistics.add(&rounded);
                let bytes: Vec<u8> = stored
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                self.file.write_all(&bytes)
            }
        }
        .map_err(|source| self.fault(source))?;
        self.image_count = next_count;
        Ok(())
    }

    /// The number of images so far.
    pub fn image_count(&self) -> usize {
        self.image_count
    }

    /// Completes the header and gives the file its name. A stack needs at least one image.
    pub fn finish(mut self) -> Result<(), MrcWriteError> {
        if self.image_count == 0 {
            return Err(self.size_error(0));
        }
        let header = Fields {
            size: [self.size_px[0], self.size_px[1], self.image_count],
            mode: match self.mode {
                OutputMode::Float32 => Mode::Float32,
                OutputMode::Float16 => Mode::Float16,
            },
            is_volume: false,
            pixel_size_angstrom: self.pixel_size_angstrom,
            statistics: self.statistics,
            label: &self.label,
        }
        .encode();
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.write_all(&header))
            .map_err(|source| self.fault(source))?;
        self.file.commit()?;
        Ok(())
    }

    fn fault(&self, source: io::Error) -> MrcWriteError {
        WriteError {
            path: self.file.path().to_owned(),
            source,
        }
        .into()
    }

    fn size_error(&self, values: usize) -> MrcWriteError {
        let size = [self.size_px[0], self.size_px[1], self.image_count];
        MrcWriteError::Size {
            path: self.file.path().to_owned(),
            values,
            size,
        }
    }
}

fn is_side(side: usize) -> bool {
    (1..=i32::MAX as usize).contains(&side)
}

fn check_pixel_size(path: &Path, pixel_size_angstrom: f32) -> Result<(), MrcWriteError> {
    if pixel_size_angstrom.is_finite() && pixel_size_angstrom > 0.0 {
        return Ok(());
    }
    Err(MrcWriteError::PixelSize {
        path: path.to_owned(),
        pixel_size_angstrom,
    })
}

fn write_values(file: &mut AtomicFile, values: &[f32]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(values.len() * 4);
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    file.write_all(&bytes)
}

/// What varies between the headers Dewar writes.
struct Fields<'a> {
    size: [usize; 3],
    mode: Mode,
    is_volume: bool,
    pixel_size_angstrom: f32,
    statistics: Statistics,
    label: &'a str,
}

impl Fields<'_> {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let size = self.size.map(|side| side as i32);
        // A stack is one section deep along z as far as the unit cell goes (MRC2014).
        let depth = if self.is_volume { size[2] } else { 1 };
        let cell = [size[0], size[1], depth];
        for axis in 0..3 {
            put_int(&mut header, 4 * axis, size[axis]);
            put_int(&mut header, 28 + 4 * axis, cell[axis]);
            let length = cell[axis] as f32 * self.pixel_size_angstrom;
            put_float(&mut header, 40 + 4 * axis, length);
            put_float(&mut header, 52 + 4 * axis, 90.0);
            put_int(&mut header, 64 + 4 * axis, axis as i32 + 1);
        }
        put_int(&mut header, 12, self.mode.number());
        put_float(&mut header, 76, self.statistics.min());
        put_float(&mut header, 80, self.statistics.max());
        put_float(&mut header, 84, self.statistics.mean() as f32);
        put_int(&mut header, 88, i32::from(self.is_volume));
        put_int(&mut header, 108, FORMAT_VERSION);
        header[208..212].copy_from_slice(b"MAP ");
        header[212..216].copy_from_slice(&[0x44, 0x44, 0, 0]);
        put_float(&mut header, 216, self.statistics.std() as f32);
        put_int(&mut header, 220, 1);
        put_label(&mut header, self.label);
        header
    }
}

/// MRC2014 with its addition of mode 12.
const FORMAT_VERSION: i32 = 20141;

fn put_int(header: &mut [u8; HEADER_BYTES], offset: usize, value: i32) {
    header[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

fn put_float(header: &mut [u8; HEADER_BYTES], offset: usize, value: f32) {
    header[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

/// Labels are 80 printable ASCII characters, padded with spaces.
fn put_label(header: &mut [u8; HEADER_BYTES], label: &str) {
    let label = if label.trim().is_empty() {
        "Dewar"
    } else {
        label
    };
    let printable = label.chars().map(|c| {
        if matches!(c, ' '..='~') {
            c as u8
        } else {
            b'?'
        }
    });
    for (slot, byte) in header[224..304]
        .iter_mut()
        .zip(printable.chain(std::iter::repeat(b' ')))
    {
        *slot = byte;
    }
}
