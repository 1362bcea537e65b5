//! What a classification starts from, checked, and the folder it may write into.

use super::{
    SHELLS_MIN,
    options::{Options, Settings},
    outputs::Prepared,
    state,
};
use crate::{
    checkpoint,
    error::RefineError,
    record::{self, FileStamp},
};
use dewar_formats::particles::ParticleSet;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What a folder is for; written before the first round.
const CLAIM: &str = ".dewar-classify2d.json";

/// Largest part of the box that the mask may fill, and what it fills where nobody says: its soft edge needs room.
const MASK_DIAMETER_MAX: f64 = 0.95;
const MASK_DIAMETER: f64 = 0.8;

/// Largest side of images.
const BOX_SIZE_PX_MAX: usize = 512;

/// Most classes.
const CLASS_COUNT_MAX: usize = 1000;

/// Checks the inputs and whether the output folder is free for them, and writes nothing. Returns the stacks.
///
/// # Errors
/// If the inputs are wrong, or the folder holds something else.
pub fn check(options: &Options) -> Result<Vec<PathBuf>, RefineError> {
    let prepared = prepare(options)?;
    check_folder(&options.out, &Identity::of(options, &prepared))?;
    let stacks = prepared.set.stacks.into_iter();
    Ok(stacks.map(|stack| stack.path).collect())
}

/// How the classification in a folder was stated last.
///
/// # Errors
/// If there is none.
pub(super) fn stated(out: &Path) -> Result<Options, RefineError> {
    let path = out.join(CLAIM);
    if !path.exists() {
        return Err(RefineError::OutputFolder {
            folder: out.to_owned(),
            problem:
                "it holds no classification to go on with; expected the --out of an earlier one"
                    .to_owned(),
        });
    }
    let claim: Claim = checkpoint::read_json(&path)?;
    Ok(claim.options)
}

/// What a folder was claimed for.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    /// What makes it this classification and no other.
    identity: Identity,
    /// How it was stated last, for who goes on with it.
    options: Options,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Identity {
    settings: Settings,
    particles_blake3: String,
    stacks: Vec<FileStamp>,
}

impl Identity {
    fn of(options: &Options, prepared: &Prepared) -> Self {
        Self {
            // More rounds may be asked of the same classification.
            settings: Settings {
                iterations: 0,
                ..options.settings.clone()
            },
            particles_blake3: prepared.digest.blake3.clone(),
            stacks: prepared.stamps.iter().map(FileStamp::anywhere).collect(),
        }
    }
}

/// Takes the folder for this classification.
///
/// # Errors
/// If it holds something else, or the disk refuses.
pub(super) fn claim(options: &Options, prepared: &Prepared) -> Result<(), RefineError> {
    let identity = Identity::of(options, prepared);
    check_folder(&options.out, &identity)?;
    let claim = Claim {
        identity,
        options: options.absolute(),
    };
    checkpoint::write_json(&options.out.join(CLAIM), &claim)
}

fn check_folder(out: &Path, identity: &Identity) -> Result<(), RefineError> {
    let path = out.join(CLAIM);
    let problem = if path.exists() {
        // A run that finished no round has nothing to lose.
        if state::last_iteration(out).is_none()
            || checkpoint::read_json::<Claim>(&path)?.identity == *identity
        {
            return Ok(());
        }
        "it holds a classification with other settings or inputs; give another --out, or remove it"
    } else if state::last_iteration(out).is_some() || out.join("particles.star").exists() {
        "it holds something else; give another --out"
    } else {
        return Ok(());
    };
    Err(RefineError::OutputFolder {
        folder: out.to_owned(),
        problem: problem.to_owned(),
    })
}

/// Reads the particle file, and checks it and the settings.
///
/// # Errors
/// If one of them is wrong.
pub(super) fn prepare(options: &Options) -> Result<Prepared, RefineError> {
    let settings = &options.settings;
    let set = ParticleSet::read(&options.particles, options.project_dir.as_deref())?;
    let box_angstrom = set.box_size_px as f64 * set.pixel_size_angstrom;
    let input = |problem: String| Err(RefineError::Input(problem));
    if !(2 * (SHELLS_MIN + 1)..=BOX_SIZE_PX_MAX).contains(&set.box_size_px) {
        return input(format!(
            "{}: the images are {} pixels wide; a classification takes {} to {BOX_SIZE_PX_MAX}",
            options.particles.display(),
            set.box_size_px,
            2 * (SHELLS_MIN + 1)
        ));
    }
    if !(1..=CLASS_COUNT_MAX.min(set.particles.len())).contains(&settings.class_count) {
        return input(format!(
            "{} classes of {} particles; expected 1 to {}",
            settings.class_count,
            set.particles.len(),
            CLASS_COUNT_MAX.min(set.particles.len())
        ));
    }
    let mask_max = MASK_DIAMETER_MAX * box_angstrom;
    let mask_diameter_angstrom = settings
        .mask_diameter_angstrom
        .unwrap_or(MASK_DIAMETER * box_angstrom);
    if !(set.pixel_size_angstrom..=mask_max).contains(&mask_diameter_angstrom) {
        return input(format!(
            "the mask diameter is {mask_diameter_angstrom} A; it must be at least a pixel and at most {mask_max:.1} A, \
             {:.0} % of the box",
            MASK_DIAMETER_MAX * 100.0
        ));
    }
    if !(0.0..=box_angstrom / 2.0).contains(&settings.shift_max_angstrom) {
        return input(format!(
            "the largest shift is {} A; it must be from 0 to {:.1} A, half the box",
            settings.shift_max_angstrom,
            box_angstrom / 2.0
        ));
    }
    let stamps = set.stacks.iter().map(|stack| record::stamp(&stack.path));
    Ok(Prepared {
        digest: record::digest(&options.particles)?,
        stamps: stamps.collect::<Result<_, _>>()?,
        mask_diameter_angstrom,
        set,
    })
}
