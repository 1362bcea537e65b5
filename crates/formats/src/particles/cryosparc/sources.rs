//! The files a set is spread over: the one named, and the passthrough files beside it.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::CryosparcError;
use crate::npy::{Column, MAGIC, Records};

/// What cryoSPARC's own container begins with.
const CSDAT_MAGIC: &[u8] = b"\x94CSDAT";

/// Passthrough files that are looked into; a job has one or two.
const PASSTHROUGH_MAX: usize = 16;

/// Fields that tell what a file of other records holds.
const OTHERS: [(&str, &str); 4] = [
    ("micrograph_blob/path", "a file of micrographs"),
    ("movie_blob/path", "a file of movies"),
    ("map/path", "a file of volumes"),
    ("template/path", "a file of templates"),
];

/// Whether a file is of cryoSPARC's making; false if it cannot be read, which others will say better.
pub(crate) fn is_cryosparc(path: &Path) -> bool {
    let mut start = [0; 6];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && (start == MAGIC || start == CSDAT_MAGIC)
}

/// A set's files, joined by `uid`.
pub(super) struct Sources {
    path: PathBuf,
    main: Records,
    uids: Vec<u64>,
    passthrough: Vec<Passthrough>,
}

struct Passthrough {
    path: PathBuf,
    records: Records,
    rows: HashMap<u64, usize>,
}

/// A field's values, wherever they stand.
#[derive(Clone)]
pub(super) struct Values<'a> {
    name: &'static str,
    sources: &'a Sources,
    own: Option<Column<'a>>,
    passed: Vec<(Column<'a>, &'a HashMap<u64, usize>)>,
}

impl Sources {
    pub(super) fn read(path: &Path) -> Result<Self, CryosparcError> {
        let main = read(path)?;
        let own = |name: &str| main.names().any(|known| known == name);
        if let Some((_, found)) = OTHERS
            .into_iter()
            .find(|(name, _)| own(name) && !own("blob/path"))
        {
            return Err(CryosparcError::NotParticles {
                path: path.to_owned(),
                found,
            });
        }
        let uids = (0..main.len())
            .map(|row| main.column("uid")?.id(row))
            .collect();
        let Some(uids) = uids else {
            return Err(CryosparcError::NotParticles {
                path: path.to_owned(),
                found: "records without a uid",
            });
        };
        let mut passthrough = Vec::new();
        for other in beside(path) {
            let records = read(&other)?;
            let Some(column) = records.column("uid") else {
                continue;
            };
            let rows = (0..records.len())
                .filter_map(|row| Some((column.id(row)?, row)))
                .collect();
            passthrough.push(Passthrough {
                path: other,
                rows,
                records,
            });
        }
        Ok(Self {
            path: path.to_owned(),
            main,
            uids,
            passthrough,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.main.len()
    }

    pub(super) fn uids(&self) -> &[u64] {
        &self.uids
    }

    /// A field's values; none if no file has the field. The file named counts for more than those beside it.
    pub(super) fn values(&self, name: &'static str) -> Option<Values<'_>> {
        let own = self.main.column(name);
        let passed: Vec<_> = self
            .passthrough
            .iter()
            .filter_map(|file| Some((file.records.column(name)?, &file.rows)))
            .collect();
        (own.is_some() || !passed.is_empty()).then_some(Values {
            name,
            sources: self,
            own,
            passed,
        })
    }

    /// The half-sets, where the particles are in two.
    pub(super) fn split(&self) -> Option<Values<'_>> {
        let split = self.values("alignments3D/split")?;
        let first = split.find(0)?.number(0);
        // Before a refinement has parted a set all are in one.
        let differs = |row| split.find(row).and_then(|at| at.number(0)) != first;
        (0..self.len()).any(differs).then_some(split)
    }

    pub(super) fn missing(&self, fields: Vec<&'static str>) -> CryosparcError {
        CryosparcError::MissingFields {
            path: self.path.clone(),
            fields,
            passthrough: self.passthrough_paths(),
        }
    }

    fn passthrough_paths(&self) -> Vec<PathBuf> {
        self.passthrough
            .iter()
            .map(|file| file.path.clone())
            .collect()
    }
}

/// A column and the row in it.
struct Place<'a> {
    column: Column<'a>,
    row: usize,
}

impl Place<'_> {
    fn number(&self, item: usize) -> Option<f64> {
        self.column.number(self.row, item)
    }
}

impl<'a> Values<'a> {
    pub(super) fn number(&self, row: usize) -> Result<f64, CryosparcError> {
        self.numbers::<1>(row).map(|[number]| number)
    }

    pub(super) fn numbers<const N: usize>(&self, row: usize) -> Result<[f64; N], CryosparcError> {
        let place = self.find(row).ok_or_else(|| self.missing(row))?;
        let mut numbers = [0.0; N];
        for (item, number) in numbers.iter_mut().enumerate() {
            *number = place.number(item).ok_or_else(|| self.missing(row))?;
        }
        Ok(numbers)
    }

    pub(super) fn text(&self, row: usize) -> Result<String, CryosparcError> {
        let text = self
            .find(row)
            .and_then(|place| place.column.text(place.row));
        text.ok_or_else(|| self.missing(row))
    }

    /// Whether any of a particle's values is not 0; false where it has none.
    pub(super) fn is_nonzero(&self, row: usize) -> bool {
        self.find(row).is_some_and(|place| {
            let numbers = (0..place.column.item_count()).filter_map(|item| place.number(item));
            numbers.into_iter().any(|number| number != 0.0)
        })
    }

    pub(super) fn aberration(&self, row: usize) -> CryosparcError {
        CryosparcError::Aberration {
            path: self.sources.path.clone(),
            field: self.name,
            particle: row + 1,
        }
    }

    fn find(&self, row: usize) -> Option<Place<'a>> {
        if let Some(column) = self.own {
            return Some(Place { column, row });
        }
        let uid = self.sources.uids.get(row)?;
        let found = |(column, rows): &(Column<'a>, &'a HashMap<u64, usize>)| {
            Some(Place {
                column: *column,
                row: *rows.get(uid)?,
            })
        };
        self.passed.iter().find_map(found)
    }

    fn missing(&self, row: usize) -> CryosparcError {
        CryosparcError::MissingValue {
            path: self.sources.path.clone(),
            particle: row + 1,
            uid: self.sources.uids[row],
            field: self.name,
            passthrough: self.sources.passthrough_paths(),
        }
    }
}

fn read(path: &Path) -> Result<Records, CryosparcError> {
    let mut start = [0; 6];
    let is_csdat = File::open(path)
        .and_then(|mut file| file.read_exact(&mut start))
        .is_ok_and(|()| start == CSDAT_MAGIC);
    if is_csdat {
        return Err(CryosparcError::Csdat {
            path: path.to_owned(),
        });
    }
    Ok(Records::read(path)?)
}

/// The passthrough files in a file's folder, by name.
fn beside(path: &Path) -> Vec<PathBuf> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let is_passthrough = |other: &PathBuf| {
        let name = other.file_name().unwrap_or_default().to_string_lossy();
        name.contains("passthrough")
            && name.ends_with(".cs")
            && other.file_name() != path.file_name()
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(is_passthrough)
        .collect();
    found.sort();
    found.truncate(PASSTHROUGH_MAX);
    found
}
