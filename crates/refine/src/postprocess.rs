//! Post-processing from what a user states to the files he gets: what `dewar postprocess` does, and a refinement at its end.
//!
//! The computing is `dewar_compute::postprocess`'s. Whoever calls brings the half-maps.

mod files;
mod local;
mod record;

pub use crate::report::write_postprocessed as write_pictures;
pub use files::{Places, read_mtf};
pub use local::Local;
pub use record::{Told, record};

use dewar_compute::{
    postprocess::{self, Params, PostProcessError, PostProcessed, STEP_COUNT},
    volume::Volume,
};
use dewar_formats::{atomic, mrc, star};
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
};

/// How to post-process, as a user states it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PostSettings {
    /// Soft mask around the particle; made from the half-maps if none is given.
    pub mask: Option<PathBuf>,
    /// What to sharpen by, negative; fitted if none is given.
    pub b_factor_angstrom2: Option<f64>,
    /// The detector's curve.
    pub mtf: Option<PathBuf>,
    /// Pixel size of the micrographs, where the maps' is another.
    pub mtf_pixel_size_angstrom: Option<f64>,
    /// Whether to measure the resolution at every place too.
    pub local_resolution: bool,
    /// What random phases grow from.
    pub seed: u64,
}

/// What came of two half-maps.
#[derive(Debug, Clone)]
pub struct Found {
    /// Curves, resolution, sharpened map.
    pub map: PostProcessed,
    /// The resolution at every place, if asked for.
    pub local: Option<Local>,
}

/// What the work is at, for whoever shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The curves and the sharpened map.
    Map,
    /// The resolution at every place.
    Local,
}

/// Why files of post-processing could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PostFilesError {
    /// It would be overwritten.
    #[error("{} is there already; give an empty folder", .0.display())]
    Exists(PathBuf),
    /// The folder cannot be made.
    #[error("cannot make the folder {}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The detector's curve is none.
    #[error("{}: {problem}", path.display())]
    Mtf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The detector's curve is in no STAR file.
    #[error(transparent)]
    Star(#[from] star::StarError),
    /// A map cannot be written.
    #[error(transparent)]
    Map(#[from] mrc::MrcWriteError),
    /// A table or the record cannot be written.
    #[error(transparent)]
    Write(#[from] atomic::WriteError),
}

impl PostFilesError {
    /// Whether the user's input was wrong, rather than the work.
    pub fn is_input(&self) -> bool {
        matches!(self, Self::Exists(_) | Self::Mtf { .. } | Self::Star(_))
    }
}

impl PostSettings {
    /// The detector's curve, if one is named.
    ///
    /// # Errors
    /// If the file has none.
    pub fn read_mtf(
        &self,
        pixel_size_angstrom: f64,
    ) -> Result<Option<postprocess::Mtf>, PostFilesError> {
        let detector_pixel_angstrom = self.mtf_pixel_size_angstrom.unwrap_or(pixel_size_angstrom);
        let read = |path: &Path| read_mtf(path, detector_pixel_angstrom);
        self.mtf.as_deref().map(read).transpose()
    }
}

/// Post-processes two half-maps. `progress` hears how many of how many parts of a step are done.
///
/// # Errors
/// If they or the mask cannot be used.
pub fn run(
    halves: [&Volume; 2],
    params: Params,
    with_local: bool,
    progress: &mut dyn FnMut(Step, u64, u64),
) -> Result<Found, PostProcessError> {
    let (pixel_size_angstrom, seed) = (params.pixel_size_angstrom, params.seed);
    let map = postprocess::postprocess(halves, params, &mut |step| {
        progress(Step::Map, step, STEP_COUNT);
    })?;
    let local = with_local.then(|| {
        local::measure(
            halves,
            &map.mask,
            pixel_size_angstrom,
            seed,
            &mut |done, total| progress(Step::Local, done, total),
        )
    });
    Ok(Found { map, local })
}
