//! NumPy's `.npy` files of structured records: named columns of numbers and text, which is what cryoSPARC's `.cs` files are.
//!
//! The header is a Python literal; only what NumPy writes there is understood. Values are little-endian, as every machine
//! that runs cryoSPARC writes them.

mod literal;

use std::io;
use std::path::{Path, PathBuf};

use literal::Literal;

/// What every file begins with.
pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";

/// The header names the columns; a thousand of them fit in less.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// A file cannot be read as records.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    /// The operating system refused.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is none, or of a kind that is not understood.
    #[error("{}: not a NumPy file of records: {why}", path.display())]
    NotRecords {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        why: String,
    },
    /// It is shorter than its header says.
    #[error("{}: truncated: the header promises {count} records of {record_bytes} bytes; the file has {found}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// How many records it should have.
        count: usize,
        /// The length of each.
        record_bytes: usize,
        /// How many are there in full.
        found: usize,
    },
}

/// A file of records, in memory whole.
pub(crate) struct Records {
    fields: Vec<Field>,
    record_bytes: usize,
    count: usize,
    bytes: Vec<u8>,
    data_offset: usize,
}

#[derive(Debug, Clone, PartialEq)]
struct Field {
    name: String,
    kind: Kind,
    item_bytes: usize,
    item_count: usize,
    offset: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Float,
    Signed,
    Unsigned,
    Ascii,
    Unicode,
    /// Skipped over: complex numbers, dates and what else there is of known length.
    Other,
}

/// One column.
#[derive(Clone, Copy)]
pub(crate) struct Column<'a> {
    records: &'a Records,
    field: &'a Field,
}

impl Records {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, NpyError> {
        let bytes = std::fs::read(path).map_err(|source| NpyError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(bytes, path)
    }

    fn parse(bytes: Vec<u8>, path: &Path) -> Result<Self, NpyError> {
        let header = header(&bytes).and_then(|(header, data_offset)| {
            let (fields, record_bytes, count) = layout(header)?;
            Ok((fields, record_bytes, count, data_offset))
        });
        let (fields, record_bytes, count, data_offset) =
            header.map_err(|why| NpyError::NotRecords {
                path: path.to_owned(),
                why,
            })?;
        let found = (bytes.len() - data_offset) / record_bytes;
        if found < count {
            return Err(NpyError::Truncated {
                path: path.to_owned(),
                count,
                record_bytes,
                found,
            });
        }
        Ok(Self {
            fields,
            record_bytes,
            count,
            bytes,
            data_offset,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    pub(crate) fn column(&self, name: &str) -> Option<Column<'_>> {
        let field = self.fields.iter().find(|field| field.name == name)?;
        Some(Column {
            records: self,
            field,
        })
    }
}

impl Column<'_> {
    /// A value as a number; none if there is no such item, or it is text.
    pub(crate) fn number(&self, row: usize, item: usize) -> Option<f64> {
        let bytes = self.item(row, item)?;
        Some(match (self.field.kind, bytes) {
            (Kind::Float, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
            (Kind::Float, &[..]) => f64::from_le_bytes(bytes.try_into().ok()?),
            (Kind::Signed, _) => signed(bytes)? as f64,
            (Kind::Unsigned, _) => unsigned(bytes)? as f64,
            _ => return None,
        })
    }

    /// A value as an identifier: no number of floating point could hold all 64 bits.
    pub(crate) fn id(&self, row: usize) -> Option<u64> {
        match self.field.kind {
            Kind::Unsigned | Kind::Signed => unsigned(self.item(row, 0)?),
            _ => None,
        }
    }

    /// A value as text, without the zeros that fill its field.
    pub(crate) fn text(&self, row: usize) -> Option<String> {
        let bytes = self.item(row, 0)?;
        match self.field.kind {
            Kind::Ascii => {
                let end = bytes
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |at| at + 1);
                Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
            }
            Kind::Unicode => {
                let (characters, _) = bytes.as_chunks::<4>();
                let characters = characters.iter().map(|c| u32::from_le_bytes(*c));
                let text: Option<String> = characters.map(char::from_u32).collect();
                Some(text?.trim_end_matches('\0').to_owned())
            }
            _ => None,
        }
    }

    pub(crate) fn item_count(&self) -> usize {
        self.field.item_count
    }

    fn item(&self, row: usize, item: usize) -> Option<&[u8]> {
        let records = self.records;
        if row >= records.count || item >= self.field.item_count {
            return None;
        }
        let record = records.data_offset + row * records.record_bytes;
        let start = record + self.field.offset + item * self.field.item_bytes;
        records.bytes.get(start..start + self.field.item_bytes)
    }
}

fn unsigned(bytes: &[u8]) -> Option<u64> {
    let mut all = [0; 8];
    all.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(u64::from_le_bytes(all))
}

fn signed(bytes: &[u8]) -> Option<i64> {
    let unused = 64_u32.checked_sub(8 * bytes.len() as u32)?;
    // The sign is the topmost bit there is.
    Some(((unsigned(bytes)? << unused) as i64) >> unused)
}

/// The header's text, and where the records begin.
fn header(bytes: &[u8]) -> Result<(&str, usize), String> {
    let short = || "it ends within its header".to_owned();
    let rest = bytes
        .strip_prefix(MAGIC)
        .ok_or("it does not begin as one")?;
    let (start, length) = match *rest {
        [1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([a, b]))),
        [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
        [version, ..] => return Err(format!("version {version} of the format is unknown")),
        [] => return Err(short()),
    };
    if length > HEADER_BYTES_MAX {
        return Err(format!("its header would be {length} bytes long"));
    }
    let header = bytes.get(start..start + length).ok_or_else(short)?;
    let header = str::from_utf8(header).map_err(|_| "its header is no text".to_owned())?;
    Ok((header, start + length))
}

/// The fields, the length of a record, and how many records there are.
fn layout(header: &str) -> Result<(Vec<Field>, usize, usize), String> {
    let header = Literal::parse(header).ok_or("its header is not understood")?;
    let count = match header.entry("shape").and_then(Literal::items) {
        Some([Literal::Integer(count)]) => *count,
        _ => return Err("its records are not in one row".to_owned()),
    };
    let described = header
        .entry("descr")
        .and_then(Literal::items)
        .ok_or("it holds an array of plain values")?;
    let mut fields = Vec::new();
    let mut record_bytes = 0_usize;
    for description in described {
        let field = Field::of(description, record_bytes)?;
        record_bytes = field
            .item_bytes
            .checked_mul(field.item_count)
            .and_then(|length| length.checked_add(record_bytes))
            .ok_or("its records would be longer than memory")?;
        fields.push(field);
    }
    if record_bytes == 0 {
        return Err("its records are empty".to_owned());
    }
    Ok((fields, record_bytes, count))
}

impl Field {
    /// From `('name', '<f4')` or `('name', '<f4', (2,))`.
    fn of(description: &Literal, offset: usize) -> Result<Self, String> {
        let (name, code, shape): (_, _, &[Literal]) = match description.items() {
            Some([Literal::Text(name), Literal::Text(code)]) => (name, code, &[]),
            Some([Literal::Text(name), Literal::Text(code), shape]) => (
                name,
                code,
                shape.items().unwrap_or(std::slice::from_ref(shape)),
            ),
            _ => return Err("a column is described in a way that is not understood".to_owned()),
        };
        let of_field = |why: &str| format!("column {name} has the type {code:?}, {why}");
        let mut characters = code.chars();
        let order = characters.next();
        let kind = characters.next();
        let size: Option<usize> = characters.as_str().parse().ok();
        let (Some(kind), Some(size)) = (kind, size) else {
            // '|O', which has no size: pickled Python objects.
            return Err(of_field("which is not read"));
        };
        if order == Some('>') && size > 1 {
            return Err(of_field("whose byte order is not read"));
        }
        let item_count = shape.iter().try_fold(1_usize, |count, side| match side {
            Literal::Integer(side) => count.checked_mul(*side),
            _ => None,
        });
        let (kind, item_bytes) = match kind {
            'f' if size == 4 || size == 8 => (Kind::Float, Some(size)),
            'i' if (1..=8).contains(&size) => (Kind::Signed, Some(size)),
            'u' | 'b' if (1..=8).contains(&size) => (Kind::Unsigned, Some(size)),
            'S' => (Kind::Ascii, Some(size)),
            'U' => (Kind::Unicode, size.checked_mul(4)),
            _ => (Kind::Other, Some(size)),
        };
        let (Some(item_bytes), Some(item_count)) = (item_bytes, item_count) else {
            return Err(of_field("which is longer than memory"));
        };
        Ok(Self {
            name: name.clone(),
            kind,
            item_bytes,
            item_count,
            offset,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, records: &[u8]) -> Vec<u8> {
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        [MAGIC, &[1, 0], &length, header.as_bytes(), records].concat()
    }

    fn parse(header: &str, records: &[u8]) -> Result<Records, String> {
        Records::parse(file(header, records), Path::new("a.cs")).map_err(|error| error.to_string())
    }

    #[test]
    fn columns_of_every_kind() {
        let header = "{'descr': [('a', '<f4', (2,)), ('b', '|S3'), ('c', '<U2'), ('d', '<i2'), ('e', '<u8'), ('x', '<c8')], \
             'fortran_order': False, 'shape': (1,), }\n";
        let mut record = Vec::new();
        record.extend(1.5_f32.to_le_bytes());
        record.extend((-2.5_f32).to_le_bytes());
        record.extend(b"ab\0");
        record.extend([u32::from('ä').to_le_bytes(), [0; 4]].concat());
        record.extend((-3_i16).to_le_bytes());
        record.extend(u64::MAX.to_le_bytes());
        record.extend([0; 8]);
        let records = parse(header, &record).unwrap();
        let column = |name| records.column(name).unwrap();
        assert_eq!(column("a").item_count(), 2);
        assert_eq!(column("a").number(0, 1), Some(-2.5));
        assert_eq!(column("a").number(0, 2), None);
        assert_eq!(column("b").text(0).unwrap(), "ab");
        assert_eq!(column("c").text(0).unwrap(), "ä");
        assert_eq!(column("d").number(0, 0), Some(-3.0));
        assert_eq!(column("e").id(0), Some(u64::MAX));
        assert_eq!(column("x").number(0, 0), None);
        assert!(records.column("f").is_none());
    }

    #[test]
    fn what_is_no_file_of_records_is_told() {
        let shape = "'fortran_order': False, 'shape': (2,)";
        let cases = [
            (
                format!("{{'descr': '<f4', {shape}}}"),
                "it holds an array of plain values",
            ),
            (
                format!("{{'descr': [('a', '|O')], {shape}}}"),
                "column a has the type \"|O\", which is not read",
            ),
            (
                format!("{{'descr': [('a', '>f4')], {shape}}}"),
                "column a has the type \">f4\", whose byte order is not read",
            ),
            (
                format!("{{'descr': [('a', '<f4', (4611686018427387904, 8))], {shape}}}"),
                "column a has the type \"<f4\", which is longer than memory",
            ),
            (
                "{'descr': [('a', '<f4')]}".to_owned(),
                "its records are not in one row",
            ),
            ("{'descr': [".to_owned(), "its header is not understood"),
        ];
        for (header, expected) in cases {
            let found = parse(&header, &[0; 8]).err().unwrap();
            assert_eq!(
                found,
                format!("a.cs: not a NumPy file of records: {expected}")
            );
        }
        let short = parse(&format!("{{'descr': [('a', '<f4')], {shape}}}"), &[0; 7]);
        assert_eq!(
            short.err().unwrap(),
            "a.cs: truncated: the header promises 2 records of 4 bytes; the file has 1"
        );
        for bytes in [
            &b"\x93NUMPY"[..],
            b"\x93NUMPY\x01\x00\xff\xff{",
            b"\x93NUMPY\x07\0\0\0\0\0",
        ] {
            assert!(Records::parse(bytes.to_vec(), Path::new("a.cs")).is_err());
        }
    }
}
