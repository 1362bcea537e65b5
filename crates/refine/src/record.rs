//! What is written of a refinement beside its maps: `refine.json`, and notes for the run after a crash.

use crate::{
    checkpoint,
    error::RefineError,
    options::{Options, Settings},
    round::StageSeconds,
};
use dewar_formats::{atomic, particles::ParticleSet};
use dewar_sdk::JobId;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

/// The record's file name.
pub const FILE: &str = "refine.json";

/// What the folder is for; written before the first round.
const CLAIM: &str = ".dewar-refine.json";

/// Locked while a refinement uses the folder.
const LOCK: &str = ".dewar-lock";

/// The job at the broker, while it runs.
const JOB: &str = ".dewar-job";

/// A finished refinement, complete enough to repeat it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The release that wrote it.
    pub program_version: String,
    /// What the user decided.
    pub settings: Settings,
    /// The mask diameter that was used.
    pub mask_diameter_angstrom: f64,
    /// What was refined.
    pub inputs: InputDigests,
    /// How many particles.
    pub particle_count: usize,
    /// How many in each half.
    pub half_counts: [usize; 2],
    /// Side of the images and maps.
    pub box_size_px: usize,
    /// Of images and maps.
    pub pixel_size_angstrom: f64,
    /// Rounds done.
    pub iterations: usize,
    /// Whether it stopped because nothing improved.
    pub converged: bool,
    /// FSC 0.143 of the last half-maps, unmasked.
    pub resolution_angstrom: Option<f64>,
    /// The same of every round.
    pub resolutions_angstrom: Vec<f64>,
    /// How long each round took.
    pub round_seconds: Vec<f64>,
    /// How long the tasks of each stage ran in each round, added up over workers.
    pub stage_seconds: Vec<StageSeconds>,
    /// How long the last run took, from reading its inputs.
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

/// What a folder was claimed for.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Claim {
    settings: Settings,
    particles_blake3: String,
    reference_blake3: String,
    stacks: Vec<FileStamp>,
}

impl Claim {
    fn of(options: &Options, digests: &InputDigests) -> Self {
        Self {
            // More rounds may be asked of the same refinement.
            settings: Settings {
                iterations_max: 0,
                ..options.settings.clone()
            },
            particles_blake3: digests.particles.blake3.clone(),
            reference_blake3: digests.reference.blake3.clone(),
            stacks: digests.stacks.clone(),
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

fn digest(path: &Path) -> Result<FileDigest, RefineError> {
    let mut hasher = blake3::Hasher::new();
    let mut file = fs::File::open(path).map_err(|error| cannot_read(path, &error))?;
    io::copy(&mut file, &mut hasher).map_err(|error| cannot_read(path, &error))?;
    Ok(FileDigest {
        path: path.display().to_string(),
        blake3: hasher.finalize().to_hex().to_string(),
    })
}

fn stamp(path: &Path) -> Result<FileStamp, RefineError> {
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

/// Whether the output folder is free, or holds this very refinement. Changes nothing.
///
/// # Errors
/// If it holds another, of which a round is finished.
pub fn check_folder(options: &Options, digests: &InputDigests) -> Result<(), RefineError> {
    let path = options.out.join(CLAIM);
    // A run that finished no round has nothing to lose: its inputs were mended, or its settings reconsidered.
    if !path.exists() || !has_finished_round(&options.out) {
        return Ok(());
    }
    let earlier: Claim = checkpoint::read_json(&path)?;
    if earlier == Claim::of(options, digests) {
        return Ok(());
    }
    Err(RefineError::OutputFolder {
        folder: options.out.clone(),
        problem:
            "it holds a refinement with other settings or inputs; give another --out, or remove it"
                .to_owned(),
    })
}

/// Locks the output folder, for as long as the file given back is open.
///
/// # Errors
/// If another refinement uses it now.
pub fn lock_folder(out: &Path) -> Result<fs::File, RefineError> {
    let path = out.join(LOCK);
    let file = fs::File::create(&path).map_err(|source| RefineError::Write { path, source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(RefineError::OutputFolder {
            folder: out.to_owned(),
            problem: "another `dewar refine` works in it now; wait for it, or give another --out"
                .to_owned(),
        }),
        // Some network file systems know no locks; two refinements in one folder are a mistake, not an attack.
        Err(fs::TryLockError::Error(_)) => Ok(file),
    }
}

/// Marks the output folder as this refinement's.
///
/// # Errors
/// If it holds another, of which a round is finished.
pub fn claim_folder(options: &Options, digests: &InputDigests) -> Result<(), RefineError> {
    check_folder(options, digests)?;
    checkpoint::write_json(&options.out.join(CLAIM), &Claim::of(options, digests))
}

/// Takes the mark away where no round was finished, and the folder with it if nothing else is in it.
pub fn release_folder(out: &Path) {
    if !has_finished_round(out) {
        // What cannot be removed does no harm: the next run may claim the folder all the same.
        let _ = fs::remove_file(out.join(CLAIM));
        let _ = fs::remove_file(out.join(LOCK));
        let _ = fs::remove_dir(out);
    }
}

fn has_finished_round(out: &Path) -> bool {
    checkpoint::folder(out, 1).exists() || out.join(FILE).exists()
}

/// Notes the job, so that a run after a crash can end it.
///
/// # Errors
/// If the disk refuses.
pub fn remember_job(out: &Path, job: JobId) -> Result<(), RefineError> {
    atomic::write(&out.join(JOB), |file| writeln!(file, "{job}"))?;
    Ok(())
}

/// The job of a run that did not end by itself.
pub fn remembered_job(out: &Path) -> Option<JobId> {
    fs::read_to_string(out.join(JOB)).ok()?.trim().parse().ok()
}

/// Removes the note.
pub fn forget_job(out: &Path) {
    // Left behind, it costs the next run one needless cancel.
    let _ = fs::remove_file(out.join(JOB));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(out: &Path, seed: u64) -> Options {
        Options {
            particles: "particles.star".into(),
            reference: "map.mrc".into(),
            out: out.to_owned(),
            project_dir: None,
            settings: Settings {
                seed,
                ..Settings::default()
            },
        }
    }

    fn digests() -> InputDigests {
        let digest = |path: &str| FileDigest {
            path: path.to_owned(),
            blake3: path.to_owned(),
        };
        InputDigests {
            particles: digest("particles.star"),
            reference: digest("map.mrc"),
            stacks: Vec::new(),
        }
    }

    #[test]
    fn a_folder_is_another_refinements_once_a_round_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        claim_folder(&options(out, 1), &digests()).unwrap();
        claim_folder(&options(out, 2), &digests()).unwrap();
        fs::create_dir(checkpoint::folder(out, 1)).unwrap();
        claim_folder(&options(out, 2), &digests()).unwrap();
        let refused = claim_folder(&options(out, 1), &digests());
        assert!(matches!(refused, Err(RefineError::OutputFolder { .. })));
        release_folder(out);
        assert!(out.join(CLAIM).exists(), "a finished round was given up");
    }

    #[test]
    fn a_folder_in_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let lock = lock_folder(folder.path()).unwrap();
        let refused = lock_folder(folder.path());
        assert!(matches!(refused, Err(RefineError::OutputFolder { .. })));
        drop(lock);
        lock_folder(folder.path()).unwrap();
    }

    #[test]
    fn what_never_began_leaves_nothing_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        claim_folder(&options(&out, 1), &digests()).unwrap();
        fs::write(out.join("notes.txt"), "mine").unwrap();
        release_folder(&out);
        assert!(!out.join(CLAIM).exists());
        assert!(out.join("notes.txt").exists());
        fs::remove_file(out.join("notes.txt")).unwrap();
        release_folder(&out);
        assert!(!out.exists());
    }
}
