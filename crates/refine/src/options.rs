//! What a user decides about a refinement.

use crate::postprocess::PostSettings;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A refinement as its user states it.
#[derive(Debug, Clone)]
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
