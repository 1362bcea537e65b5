//! `refine.json`: what is written of a refinement beside its maps.

use crate::{
    error::RefineError,
    figures::{RoundFigures, ViewCoverage},
    options::{Options, Settings},
    postprocess::{PostSettings, Told},
    round::{StageSeconds, WorkerSeconds},
};
use dewar_formats::particles::ParticleSet;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// The record's file name.
pub const FILE: &str = "refine.json";

/// A finished refinement, complete enough to repeat it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The release that wrote it.
    pub program_version: String,
    /// The class of instructions of the machine that made the maps.
    pub instruction_class: String,
    /// Those of all machines that computed for it. On machines of one class the result is the same bytes, whoever they are.
    #[serde(default)]
    pub instruction_classes: BTreeSet<String>,
    /// The command that was given.
    pub command: Vec<String>,
    /// Where it was given: relative paths count from there.
    #[serde(default)]
    pub working_dir: PathBuf,
    /// What the user decided that the result depends on.
    pub settings: Settings,
    /// Folder from which image names counted, if one was given.
    pub project_dir: Option<PathBuf>,
    /// Whether images that looked inverted or unnormalised were accepted.
    pub accept_images: bool,
    /// How its half-maps were post-processed.
    pub postprocess: PostSettings,
    /// The mask diameter that was used.
    pub mask_diameter_angstrom: f64,
    /// What was refined.
    pub inputs: InputDigests,
    /// How many particles.
    pub particle_count: usize,
    /// How many in each half.
    pub half_counts: [usize; 2],
    /// How many groups had their strength estimated; `model.star` has it.
    pub group_count: usize,
    /// Side of the images and maps.
    pub box_size_px: usize,
    /// Of images and maps.
    pub pixel_size_angstrom: f64,
    /// Rounds done.
    pub iterations: usize,
    /// Whether it stopped because nothing improved.
    pub converged: bool,
    /// Whether the half-maps agree beyond what the starting map and its mask could have given them.
    pub has_own_detail: bool,
    /// FSC 0.143 of the final half-maps, unmasked.
    pub resolution_angstrom: f64,
    /// What post-processing made of them.
    pub postprocessed: Told,
    /// How evenly the particles' views cover the structure.
    pub coverage: Option<ViewCoverage>,
    /// Every round in numbers.
    pub rounds: Vec<RoundFigures>,
    /// How long the tasks of the final maps ran.
    pub final_stages: StageSeconds,
    /// Who computed them.
    #[serde(default)]
    pub final_workers: Vec<WorkerSeconds>,
    /// What was odd about the inputs.
    pub warnings: Vec<String>,
    /// How long the last run took, from reading its inputs. An interrupted run's rounds count in `rounds` only.
    pub seconds: f64,
}

/// The input files, by content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputDigests {
    /// The particle file: path and BLAKE3.
    pub particles: FileDigest,
    /// The starting map.
    pub reference: FileDigest,
    /// The stacks: path, size and time, since reading them whole would take as long as a round.
    pub stacks: Vec<FileStamp>,
}

/// A file and the BLAKE3 of its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// As it was named.
    pub path: String,
    /// In hexadecimal, as `b3sum` prints it.
    pub blake3: String,
}

/// A file and what tells that it has not changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// As it was found.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// When it was last changed.
    pub modified_unix_ms: u64,
}

impl FileStamp {
    /// The same however it is reached: a path may be relative or absolute.
    pub fn anywhere(&self) -> Self {
        let path = fs::canonicalize(&self.path);
        Self {
            path: path.map_or(self.path.clone(), |path| path.display().to_string()),
            ..self.clone()
        }
    }
}

impl InputDigests {
    /// Reads the small files whole and looks at the stacks.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn of(options: &Options, set: &ParticleSet) -> Result<Self, RefineError> {
        Ok(Self {
            particles: digest(&options.particles)?,
            reference: digest(&options.reference)?,
            stacks: set
                .stacks
                .iter()
                .map(|stack| stamp(&stack.path))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// The command that was given, word by word. What is no text is told as near as can be.
pub fn command() -> Vec<String> {
    let words = std::env::args_os();
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}

/// The digest of a file, read whole.
///
/// # Errors
/// If it cannot be read.
pub fn digest(path: &Path) -> Result<FileDigest, RefineError> {
    let mut hasher = blake3::Hasher::new();
    let mut file = fs::File::open(path).map_err(|error| cannot_read(path, &error))?;
    io::copy(&mut file, &mut hasher).map_err(|error| cannot_read(path, &error))?;
    Ok(FileDigest {
        path: path.display().to_string(),
        blake3: hasher.finalize().to_hex().to_string(),
    })
}

/// What tells that a file has not changed.
///
/// # Errors
/// If it cannot be looked at.
pub fn stamp(path: &Path) -> Result<FileStamp, RefineError> {
    let metadata = fs::metadata(path).map_err(|error| cannot_read(path, &error))?;
    let modified = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    Ok(FileStamp {
        path: path.display().to_string(),
        size_bytes: metadata.len(),
        modified_unix_ms: modified.map_or(0, |time| time.as_millis() as u64),
    })
}

fn cannot_read(path: &Path, error: &io::Error) -> RefineError {
    RefineError::Input(format!("{}: {error}", path.display()))
}
