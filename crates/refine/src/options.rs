//! What a user decides about a refinement.

use crate::{error::RefineError, folder, postprocess::PostSettings};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A refinement as its user states it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// The particle file (STAR).
    pub particles: PathBuf,
    /// The starting map.
    pub reference: PathBuf,
    /// Where everything goes; made if it is not there.
    pub out: PathBuf,
    /// Folder from which image names count.
    pub project_dir: Option<PathBuf>,
    /// What the result depends on.
    pub settings: Settings,
    /// Whether to go on where images look inverted or unnormalised.
    pub accept_images: bool,
    /// How the final half-maps are post-processed: their mask, their sharpening.
    pub postprocess: PostSettings,
}

/// The settings a result depends on, as `refine.json` records them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Point group, such as `D7`.
    pub symmetry: String,
    /// Diameter of the circle outside of which images are masked; without it, that of the starting map.
    pub mask_diameter_angstrom: Option<f64>,
    /// The reference is low-passed to this before the first round.
    pub low_pass_angstrom: f64,
    /// Largest shift of a particle from the centre of its image.
    pub shift_max_angstrom: f64,
    /// Rounds at most.
    pub iterations_max: usize,
    /// Decides half-sets where the particle file gives none.
    pub seed: u64,
    /// Pixel size of the reference where its header is wrong or has none.
    pub reference_pixel_size_angstrom: Option<f64>,
    /// Weigh poses by RELION's convention, as if the mask left all Fourier pixels independent.
    #[serde(default)]
    pub relion_weights: bool,
}

impl Options {
    /// The refinement that a folder holds, finished or not, as it was stated last.
    ///
    /// # Errors
    /// If the folder holds none.
    pub fn of_folder(out: &Path) -> Result<Self, RefineError> {
        Ok(Self {
            // It may have been moved.
            out: out.to_owned(),
            ..folder::stated(out)?
        })
    }

    /// The same with paths that mean the same from any folder.
    pub(crate) fn absolute(&self) -> Self {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or(path.clone());
        let postprocess = &self.postprocess;
        Self {
            particles: absolute(&self.particles),
            reference: absolute(&self.reference),
            out: absolute(&self.out),
            project_dir: self.project_dir.as_ref().map(absolute),
            postprocess: PostSettings {
                mask: postprocess.mask.as_ref().map(absolute),
                mtf: postprocess.mtf.as_ref().map(absolute),
                ..postprocess.clone()
            },
            ..self.clone()
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            symmetry: "C1".to_owned(),
            mask_diameter_angstrom: None,
            low_pass_angstrom: 30.0,
            shift_max_angstrom: 20.0,
            iterations_max: 12,
            seed: 1,
            reference_pixel_size_angstrom: None,
            relion_weights: false,
        }
    }
}
