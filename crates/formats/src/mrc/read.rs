//! Reading: files are mapped into memory, so that a stack of any length opens at once; compressed
//! ones are unpacked into memory whole.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::header::{HEADER_BYTES, has_stamp};
use super::{Compression, Encoding, MrcError, MrcHeader};

/// An open map or stack.
#[derive(Debug)]
pub struct MrcFile {
    path: PathBuf,
    header: MrcHeader,
    warnings: Vec<String>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Mapped {
        file: File,
        map: Mmap,
    },
    Unpacked {
        compression: Compression,
        bytes: Vec<u8>,
    },
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Content::Mapped { map, .. } => map,
            Content::Unpacked { bytes, .. } => bytes,
        }
    }
}

impl MrcFile {
    /// Opens a file, checks its header and that its length agrees; reads no values yet, unless
    /// the file is compressed (told by content, not name): it is unpacked here.
    pub fn open(path: &Path) -> Result<Self, MrcError> {
        let content = Content::open(path)?;
        let bytes = content
            .first_chunk::<HEADER_BYTES>()
            .ok_or_else(|| MrcError::NotMrc {
                path: path.to_owned(),
                why: format!(
                    "it has {} bytes, an MRC header alone takes {HEADER_BYTES}",
                    content.len()
                ),
            })?;
        let (header, mut warnings) = MrcHeader::parse(bytes, path)?;
        check_length(
            &header,
            has_stamp(bytes),
            content.len() as u64,
            path,
            &mut warnings,
        )?;
        Ok(Self {
            path: path.to_owned(),
            header,
            warnings,
            content,
        })
    }

    /// The file's name, as it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the header says.
    pub fn header(&self) -> &MrcHeader {
        &self.header
    }

    /// How the values are stored.
    pub fn encoding(&self) -> Encoding {
        self.header.encoding
    }

    /// What is odd about the file but did not keep it from being read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How the file is compressed, if it is; byte ranges then refer to the unpacked content.
    pub fn compression(&self) -> Option<Compression> {
        match &self.content {
            Content::Mapped { .. } => None,
            Content::Unpacked { compression, .. } => Some(*compression),
        }
    }

    /// The number of images, or of planes.
    pub fn section_count(&self) -> usize {
        self.header.size[2]
    }

    /// The number of values in a section.
    pub fn section_len(&self) -> usize {
        self.header.section_len()
    }

    /// Where section `z`, counted from 0, lies in the file.
    pub fn section_byte_range(&self, z: usize) -> Result<Range<u64>, MrcError> {
        if z >= self.section_count() {
            return Err(MrcError::NoSuchSection {
                path: self.path.clone(),
                index: z,
                count: self.section_count(),
            });
        }
        let start = self.header.data_offset + z as u64 * self.header.section_bytes();
        Ok(start..start + self.header.section_bytes())
    }

    /// The raw bytes of section `z`, to be decoded with [`encoding`](Self::encoding).
    pub fn section_bytes(&self, z: usize) -> Result<&[u8], MrcError> {
        let range = self.section_byte_range(z)?;
        self.check_still_whole()?;
        // In bounds: the range ends within the length that was checked at opening.
        Ok(&self.content[range.start as usize..range.end as usize])
    }

    /// Reads section `z` into `values`.
    ///
    /// # Panics
    /// If `values` is not [`section_len`](Self::section_len) long.
    pub fn read_section(&self, z: usize, values: &mut [f32]) -> Result<(), MrcError> {
        assert_eq!(
            values.len(),
            self.section_len(),
            "the buffer must hold exactly one section"
        );
        let bytes = self.section_bytes(z)?;
        self.encoding()
            .decode(bytes, values)
            .expect("both lengths are those of a section");
        Ok(())
    }

    /// Reads every value, x fastest.
    pub fn read_all(&self) -> Result<Vec<f32>, MrcError> {
        let mut values = vec![0.0; self.section_len() * self.section_count()];
        for (z, section) in values.chunks_exact_mut(self.section_len()).enumerate() {
            self.read_section(z, section)?;
        }
        Ok(values)
    }

    /// Touching a mapped page beyond the end of a file that was shortened meanwhile kills the
    /// process (SIGBUS); asking for the length first leaves only a tiny window for that.
    fn check_still_whole(&self) -> Result<(), MrcError> {
        let Content::Mapped { file, .. } = &self.content else {
            return Ok(());
        };
        let length = file
            .metadata()
            .map_err(|source| MrcError::Read {
                path: self.path.clone(),
                source,
            })?
            .len();
        if length < self.header.end_offset() {
            return Err(MrcError::Shrank {
                path: self.path.clone(),
            });
        }
        Ok(())
    }
}

impl Content {
    fn open(path: &Path) -> Result<Self, MrcError> {
        let (file, map) = map(path).map_err(|source| MrcError::Read {
            path: path.to_owned(),
            source,
        })?;
        let map = map.ok_or_else(|| MrcError::Empty {
            path: path.to_owned(),
        })?;
        let Some(compression) = Compression::of(&map) else {
            return Ok(Content::Mapped { file, map });
        };
        let bytes = compression
            .unpack(&map)
            .map_err(|source| MrcError::Unpack {
                path: path.to_owned(),
                compression,
                source,
            })?;
        Ok(Content::Unpacked { compression, bytes })
    }
}

/// Opens a regular file and maps what it has; no map of an empty one.
fn map(path: &Path) -> io::Result<(File, Option<Mmap>)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "it is a folder",
        ));
    }
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    if metadata.len() == 0 {
        return Ok((file, None));
    }
    // SAFETY: the map is only read, and only within the length checked before each read. As
    // with every mapped file, a program that rewrites it meanwhile changes the values seen.
    let map = unsafe { Mmap::map(&file)? };
    Ok((file, Some(map)))
}

fn check_length(
    header: &MrcHeader,
    stamped: bool,
    actual_bytes: u64,
    path: &Path,
    warnings: &mut Vec<String>,
) -> Result<(), MrcError> {
    let expected_bytes = header.end_offset();
    if !stamped && actual_bytes != expected_bytes {
        return Err(MrcError::UnstampedLength {
            path: path.to_owned(),
            expected_bytes,
            actual_bytes,
        });
    }
    if actual_bytes < expected_bytes {
        return Err(MrcError::Truncated {
            path: path.to_owned(),
            size: header.size,
            mode: header.encoding.mode.number(),
            expected_bytes,
            actual_bytes,
            whole_sections: actual_bytes.saturating_sub(header.data_offset)
                / header.section_bytes(),
        });
    }
    if actual_bytes > expected_bytes {
        warnings.push("the file is longer than its header says; the rest is ignored".to_owned());
    }
    Ok(())
}
