//! The stacks of a particle file: found, opened, and held against one another.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::problem::ProblemKind;
use super::{StackFile, paths};
use crate::chain::one_line;
use crate::mrc::{MrcFile, MrcHeader};

/// Looks each stack up once, and gathers what is wrong with any.
pub(super) struct Stacks {
    folders: Vec<PathBuf>,
    pub(super) found: Vec<StackFile>,
    known: HashMap<String, Option<usize>>,
    missing: Vec<String>,
    /// What is wrong, with the line of first mention.
    pub(super) problems: Vec<(Option<u32>, ProblemKind)>,
    pub(super) warnings: Vec<String>,
    /// Pixel sizes from the headers, one a stack.
    pub(super) header_pixel_sizes: Vec<Option<f32>>,
}

impl Stacks {
    pub(super) fn new(star_path: &Path, project_dir: Option<&Path>) -> Self {
        Self {
            folders: paths::search_folders(star_path, project_dir),
            found: Vec::new(),
            known: HashMap::new(),
            missing: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            header_pixel_sizes: Vec::new(),
        }
    }

    /// The position of a stack in `found`; none if it cannot be used, which is then on record.
    pub(super) fn index(&mut self, name: &str, line: Option<u32>) -> Option<usize> {
        if let Some(index) = self.known.get(name) {
            return *index;
        }
        let index = self.open(name, line);
        self.known.insert(name.to_owned(), index);
        index
    }

    /// All that are missing, as one problem: one look at the disk mends them together.
    pub(super) fn missing(&mut self) -> Option<ProblemKind> {
        let names = std::mem::take(&mut self.missing);
        let folders = self
            .folders
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        (!names.is_empty()).then_some(ProblemKind::MissingStacks { names, folders })
    }

    fn open(&mut self, name: &str, line: Option<u32>) -> Option<usize> {
        let Some(path) = paths::find(name, &self.folders) else {
            self.missing.push(name.to_owned());
            return None;
        };
        let problem = match MrcFile::open(&path) {
            Ok(file) => match check(name, &file, self.found.first()) {
                None => {
                    let odd = file.warnings().iter();
                    self.warnings
                        .extend(odd.map(|warning| format!("{}: {warning}", path.display())));
                    self.add(name, path, file.header());
                    return Some(self.found.len() - 1);
                }
                Some(problem) => problem,
            },
            Err(error) => ProblemKind::BadStack {
                reason: one_line(&error),
            },
        };
        self.problems.push((line, problem));
        None
    }

    fn add(&mut self, name: &str, path: PathBuf, header: &MrcHeader) {
        self.header_pixel_sizes.push(header.pixel_size_angstrom);
        self.found.push(StackFile {
            name: name.to_owned(),
            path,
            image_count: header.size[2],
            size_px: [header.size[0], header.size[1]],
            encoding: header.encoding,
            data_offset: header.data_offset,
        });
    }
}

fn check(name: &str, file: &MrcFile, first: Option<&StackFile>) -> Option<ProblemKind> {
    let [nx, ny, _] = file.header().size;
    let stack = name.to_owned();
    if let Some(compression) = file.compression() {
        return Some(ProblemKind::CompressedStack { stack, compression });
    }
    if nx != ny || nx % 2 != 0 {
        return Some(ProblemKind::BadBox {
            stack,
            size_px: [nx, ny],
        });
    }
    let first = first.filter(|first| first.size_px[0] != nx)?;
    Some(ProblemKind::BoxSizesDiffer {
        stack,
        found_px: nx,
        expected_px: first.size_px[0],
        reference: first.name.clone(),
    })
}
