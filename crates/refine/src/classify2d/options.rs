//! What a user decides about a classification.

use super::inputs;
use crate::error::RefineError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A classification as its user states it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// The particle file (STAR).
    pub particles: PathBuf,
    /// Where everything goes; made if it is not there.
    pub out: PathBuf,
    /// Folder from which image names count.
    pub project_dir: Option<PathBuf>,
    /// What the result depends on.
    pub settings: Settings,
}

impl Options {
    /// The classification that a folder holds, finished or not, as it was stated last.
    ///
    /// # Errors
    /// If the folder holds none.
    pub fn of_folder(out: &Path) -> Result<Self, RefineError> {
        Ok(Self {
            // It may have been moved.
            out: out.to_owned(),
            ..inputs::stated(out)?
        })
    }

    /// The same with paths that mean the same from any folder.
    pub(super) fn absolute(&self) -> Self {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or(path.clone());
        Self {
            particles: absolute(&self.particles),
            out: absolute(&self.out),
            project_dir: self.project_dir.as_ref().map(absolute),
            settings: self.settings.clone(),
        }
    }
}

/// The settings a result depends on, as `classify2d.json` records them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How many classes.
    pub class_count: usize,
    /// Diameter of the circle outside of which images are masked; without it, four fifths of the box.
    pub mask_diameter_angstrom: Option<f64>,
    /// Largest shift of a particle from the centre of its image.
    pub shift_max_angstrom: f64,
    /// Rounds at most.
    pub iterations: usize,
    /// No finer detail than this is compared; without it, as fine as the averages resolve.
    pub limit_angstrom: Option<f64>,
    /// How far averages are trusted beyond what their own power says: RELION's T.
    pub tau_factor: f64,
    /// Decides where particles begin.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            class_count: 50,
            mask_diameter_angstrom: None,
            shift_max_angstrom: 20.0,
            iterations: 25,
            limit_angstrom: None,
            tau_factor: 2.0,
            seed: 1,
        }
    }
}
