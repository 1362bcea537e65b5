//! What can be wrong with a particle file, each with its place.

use std::path::PathBuf;

use super::CryosparcError;
use crate::mrc::Compression;
use crate::star::StarError;

/// How many problems of one file are kept: enough to see what kind they are, without a message
/// for each of a million particles.
pub const PROBLEMS_MAX: usize = 100;

/// A particle file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is no STAR file.
    #[error(transparent)]
    Star(#[from] StarError),
    /// It is one of cryoSPARC's, and cannot be said in STAR.
    #[error(transparent)]
    Cryosparc(#[from] CryosparcError),
    /// It is one, with these problems: at least one, at most [`PROBLEMS_MAX`].
    #[error("{}", summary(.0))]
    Problems(Vec<Problem>),
}

fn summary(problems: &[Problem]) -> String {
    match problems {
        [] => "the particle file cannot be used".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] if rest.len() + 1 >= PROBLEMS_MAX => {
            format!("{first} (and at least {} more)", rest.len())
        }
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

/// One thing wrong, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The particle file.
    pub path: PathBuf,
    /// The line, counted from 1, if the problem has one.
    pub line: Option<u32>,
    /// What is wrong.
    pub kind: ProblemKind,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.kind)
    }
}

/// What can be wrong. Particles are numbered from 1, as the rows of the file.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProblemKind {
    /// A RELION-5 tomography file.
    #[error(
        "a tomography particle file (_{label}); expected single particles, which is all Dewar refines"
    )]
    Tomography {
        /// The label that gave it away.
        label: String,
    },
    /// A file of something else.
    #[error("no particles: this is {found} (_{label}); expected {wanted}")]
    OtherFile {
        /// The label that gave it away.
        label: &'static str,
        /// What it is.
        found: &'static str,
        /// What to give instead.
        wanted: &'static str,
    },
    /// No block has particles.
    #[error("no particles: no data block has a column _rlnImageName")]
    NoParticleTable,
    /// The table has no rows.
    #[error("no particles: the table data_{block} has no rows")]
    NoRows {
        /// The table.
        block: String,
    },
    /// Columns that must be there.
    #[error("data_{block} lacks {}", columns.iter().map(|c| format!("_{c}")).collect::<Vec<_>>().join(", "))]
    MissingColumns {
        /// The table.
        block: String,
        /// The columns.
        columns: Vec<&'static str>,
    },
    /// Nothing says how large a pixel is.
    #[error(
        "no pixel size: expected _rlnImagePixelSize in data_optics, or _rlnDetectorPixelSize and _rlnMagnification with each particle"
    )]
    NoPixelSize,
    /// A value that is not the number its column wants.
    #[error("_{column} is {value:?}; expected {expected}")]
    BadValue {
        /// The column.
        column: &'static str,
        /// The value.
        value: String,
        /// What would do.
        expected: &'static str,
    },
    /// A particle of a group that does not exist.
    #[error(
        "particle {particle} is in optics group {group}, which data_optics does not define; expected one of {known}"
    )]
    UnknownOpticsGroup {
        /// The particle.
        particle: usize,
        /// Its group's number.
        group: u32,
        /// The numbers that exist.
        known: String,
    },
    /// Two groups of one number.
    #[error("optics group {group} is defined twice")]
    RepeatedOpticsGroup {
        /// The number.
        group: u32,
    },
    /// A name that is not number@stack.
    #[error(
        "particle {particle} has the image name {value:?}; expected NUMBER@STACK, as 000001@particles.mrcs"
    )]
    BadImageName {
        /// The particle.
        particle: usize,
        /// The name.
        value: String,
    },
    /// An image beyond the stack's end, or numbered 0.
    #[error(
        "particle {particle} is image {number} of {stack}, which has images 1 to {image_count}"
    )]
    NoSuchImage {
        /// The particle.
        particle: usize,
        /// The image's number, from 1.
        number: usize,
        /// The stack's name.
        stack: String,
        /// How many images the stack has.
        image_count: usize,
    },
    /// One image in both halves, which would make the halves agree on its noise.
    #[error("particles {first} and {second} are the same image, {image}, in different half-sets")]
    SharedByHalves {
        /// The first particle.
        first: usize,
        /// The second.
        second: usize,
        /// The image's name.
        image: String,
    },
    /// Stacks that are nowhere.
    #[error("{} not found: {} (looked in {})", if names.len() == 1 { "stack" } else { "stacks" }, names.join(", "), folders.join(", "))]
    MissingStacks {
        /// The stacks' names in the file.
        names: Vec<String>,
        /// Where they were looked for.
        folders: Vec<String>,
    },
    /// A stack that cannot be read.
    #[error("{reason}")]
    BadStack {
        /// Why, with the stack's name.
        reason: String,
    },
    /// A compressed stack, of which no part can be read alone.
    #[error("{stack} is compressed with {compression}; expected a plain stack (unpack it first)")]
    CompressedStack {
        /// The stack's name.
        stack: String,
        /// How it is compressed.
        compression: Compression,
    },
    /// An image that is not a square of even side.
    #[error("images of {stack} are {} x {} pixels; expected squares of even side", size_px[0], size_px[1])]
    BadBox {
        /// The stack's name.
        stack: String,
        /// The size.
        size_px: [usize; 2],
    },
    /// Images of two sizes.
    #[error(
        "box sizes differ: images of {stack} are {found_px} pixels wide; expected {expected_px}, as {reference}"
    )]
    BoxSizesDiffer {
        /// The stack's name.
        stack: String,
        /// Its box.
        found_px: usize,
        /// The box of the others.
        expected_px: usize,
        /// Which others.
        reference: String,
    },
    /// Groups of two pixel sizes.
    #[error(
        "pixel sizes differ: optics group {group} has {found_angstrom} A; expected {expected_angstrom} A, as group {first}"
    )]
    PixelSizesDiffer {
        /// The group.
        group: u32,
        /// Its pixel size.
        found_angstrom: f64,
        /// The first group's.
        expected_angstrom: f64,
        /// The first group.
        first: u32,
    },
    /// Images that were multiplied and flipped.
    #[error(
        "_rlnCtfDataAreCtfPremultiplied and _rlnCtfDataArePhaseFlipped are both set; expected one of them at most"
    )]
    CorrectedTwice,
    /// Aberrations that are not applied.
    #[error(
        "_{column} has more than {count} numbers: aberrations of that order are not applied; expected 0 for them (take them \
         out to refine as if there were none)"
    )]
    Aberrations {
        /// The column.
        column: &'static str,
        /// How many numbers are applied.
        count: usize,
    },
    /// A property of optics given for particles.
    #[error("_{column} stands in the table of particles; expected it in data_optics")]
    MisplacedOptics {
        /// The column.
        column: &'static str,
    },
}
