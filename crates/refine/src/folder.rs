//! The output folder as a place of work: whose it is, who uses it now, and what a run after a crash must know.

use crate::{
    checkpoint,
    error::RefineError,
    options::{Options, Settings},
    record::{self, FileStamp, InputDigests},
    report,
};
use dewar_formats::atomic;
use dewar_sdk::JobId;
use serde::{Deserialize, Serialize};
use std::{fs, io::Write as _, path::Path};

/// What the folder is for; written before the first round.
const CLAIM: &str = ".dewar-refine.json";

/// Locked while a refinement uses the folder.
const LOCK: &str = ".dewar-lock";

/// The job at the broker, while it runs.
const JOB: &str = ".dewar-job";

/// What a folder was claimed for.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    /// What makes it this refinement and no other.
    identity: Identity,
    /// How it was stated last, for who goes on with it.
    options: Options,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Identity {
    settings: Settings,
    particles_blake3: String,
    reference_blake3: String,
    stacks: Vec<FileStamp>,
}

impl Identity {
    fn of(options: &Options, digests: &InputDigests) -> Self {
        Self {
            // More rounds may be asked of the same refinement.
            settings: Settings {
                iterations_max: 0,
                ..options.settings.clone()
            },
            particles_blake3: digests.particles.blake3.clone(),
            reference_blake3: digests.reference.blake3.clone(),
            stacks: digests.stacks.iter().map(FileStamp::anywhere).collect(),
        }
    }
}

/// How the refinement in a folder was stated last.
///
/// # Errors
/// If there is none.
pub fn stated(out: &Path) -> Result<Options, RefineError> {
    let path = out.join(CLAIM);
    if !path.exists() {
        return Err(RefineError::OutputFolder {
            folder: out.to_owned(),
            problem: "it holds no refinement to go on with; expected the --out of an earlier one"
                .to_owned(),
        });
    }
    let claim: Claim = checkpoint::read_json(&path)?;
    Ok(claim.options)
}

/// Whether the output folder is free, or holds this very refinement. Changes nothing.
///
/// # Errors
/// If it holds another, of which a round is finished.
pub fn check(options: &Options, digests: &InputDigests) -> Result<(), RefineError> {
    let path = options.out.join(CLAIM);
    // A run that finished no round has nothing to lose: its inputs were mended, or its settings reconsidered.
    if !path.exists() || !has_finished_round(&options.out) {
        return Ok(());
    }
    let earlier: Claim = checkpoint::read_json(&path)?;
    if earlier.identity == Identity::of(options, digests) {
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
/// If another run uses it now.
pub fn lock(out: &Path) -> Result<fs::File, RefineError> {
    let path = out.join(LOCK);
    let file = fs::File::create(&path).map_err(|source| RefineError::Write { path, source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(RefineError::OutputFolder {
            folder: out.to_owned(),
            problem: "another run works in it now; wait for it, or give another --out".to_owned(),
        }),
        // Some network file systems know no locks; two refinements in one folder are a mistake, not an attack.
        Err(fs::TryLockError::Error(_)) => Ok(file),
    }
}

/// Marks the output folder as this refinement's.
///
/// # Errors
/// If it holds another, of which a round is finished.
pub fn claim(options: &Options, digests: &InputDigests) -> Result<(), RefineError> {
    check(options, digests)?;
    let claim = Claim {
        identity: Identity::of(options, digests),
        options: options.absolute(),
    };
    checkpoint::write_json(&options.out.join(CLAIM), &claim)
}

/// Takes the mark away where no round was finished, and the folder with it if nothing else is in it.
pub fn release(out: &Path) {
    if !has_finished_round(out) {
        // What cannot be removed does no harm: the next run may claim the folder all the same.
        let _ = fs::remove_file(out.join(CLAIM));
        let _ = fs::remove_file(out.join(LOCK));
        // It says no more than who started this has been told.
        let _ = fs::remove_file(out.join(report::FILE));
        let _ = fs::remove_dir(out);
    }
}

fn has_finished_round(out: &Path) -> bool {
    checkpoint::folder(out, 1).exists() || out.join(record::FILE).exists()
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
    use crate::record::FileDigest;

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
            accept_images: false,
            postprocess: Default::default(),
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
        claim(&options(out, 1), &digests()).unwrap();
        claim(&options(out, 2), &digests()).unwrap();
        fs::create_dir(checkpoint::folder(out, 1)).unwrap();
        claim(&options(out, 2), &digests()).unwrap();
        let refused = claim(&options(out, 1), &digests());
        assert!(matches!(refused, Err(RefineError::OutputFolder { .. })));
        release(out);
        assert!(out.join(CLAIM).exists(), "a finished round was given up");
    }

    #[test]
    fn a_folder_in_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        let refused = lock(folder.path());
        assert!(matches!(refused, Err(RefineError::OutputFolder { .. })));
        drop(held);
        lock(folder.path()).unwrap();
    }

    #[test]
    fn what_never_began_leaves_nothing_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        claim(&options(&out, 1), &digests()).unwrap();
        fs::write(out.join("notes.txt"), "mine").unwrap();
        release(&out);
        assert!(!out.join(CLAIM).exists());
        assert!(out.join("notes.txt").exists());
        fs::remove_file(out.join("notes.txt")).unwrap();
        release(&out);
        assert!(!out.exists());
    }
}
