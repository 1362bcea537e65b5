//! Data sets with a known truth, as files: a stack, its particle file, and what a perfect refinement would find.
//!
//! The images themselves are `dewar_compute::simulate`'s work; here they meet maps, models and STAR files. Equal
//! options give equal bytes.

mod files;
mod source;

use dewar_compute::{
    density::DensityError,
    simulate::{Simulation, SimulationError, SimulationParams},
    symmetry::PointGroup,
    volume::SizeError,
};
use dewar_formats::{mrc, particles::ParticlesWriteError, pdb};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Pixel size of the built-in phantom's images: it has detail to 8 Å.
pub const PHANTOM_PIXEL_SIZE_ANGSTROM: f64 = 4.0;

/// What to simulate.
#[derive(Debug, Clone)]
pub struct SimulateOptions {
    /// The map (MRC) or atomic model (PDB; both may be gzipped) to project; the built-in phantom if none.
    pub source: Option<PathBuf>,
    /// Where the files go; made if it is not there.
    pub out: PathBuf,
    /// How many particles.
    pub particle_count: u64,
    /// The variance of the noise-free images, CTF applied, inside the particle's circle, over the noise's.
    pub snr: f64,
    /// The side of the images. Even, as the refinement wants it; a map is cropped or padded to it.
    pub box_size_px: usize,
    /// The point group. The phantom is given it; a map or model has it or has it not.
    pub symmetry: PointGroup,
    /// What the random numbers grow from.
    pub seed: u64,
    /// The pixel size, where the map's header has none or a wrong one, and for models.
    pub pixel_size_angstrom: Option<f64>,
    /// The diameter of the particle's circle; without it the phantom's own, or four fifths of the box.
    pub diameter_angstrom: Option<f64>,
}

/// What was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulated {
    /// The particle file, without poses.
    pub particles: PathBuf,
    /// The particle file with the exact poses.
    pub truth: PathBuf,
    /// The map as it was projected.
    pub map: PathBuf,
    /// The pixel size of all of them.
    pub pixel_size_angstrom: f64,
    /// The diameter of the circle in which signal was measured.
    pub diameter_angstrom: f64,
    /// What is odd about the map but did no harm.
    pub warnings: Vec<String>,
}

/// Why nothing was simulated.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The map cannot be read.
    #[error(transparent)]
    Map(#[from] mrc::MrcError),
    /// The model cannot be read.
    #[error(transparent)]
    Model(#[from] pdb::PdbError),
    /// The map or model cannot be used.
    #[error("{}: {problem}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An option makes no sense.
    #[error("{0}")]
    Options(String),
    /// The map has no size that can be computed with.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// The model cannot be drawn.
    #[error(transparent)]
    Density(#[from] DensityError),
    /// The map cannot be projected.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    /// A file is there that would be overwritten.
    #[error("{} is there already; give an empty folder", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The folder cannot be made.
    #[error("cannot make the folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The stack or the map cannot be written.
    #[error(transparent)]
    WriteMrc(#[from] mrc::MrcWriteError),
    /// A particle file cannot be written.
    #[error(transparent)]
    WriteParticles(#[from] ParticlesWriteError),
}

impl SimulateError {
    /// Whether the user's input was wrong, rather than the work.
    #[must_use]
    pub fn is_input(&self) -> bool {
        !matches!(
            self,
            Self::Folder { .. } | Self::WriteMrc(_) | Self::WriteParticles(_)
        )
    }
}

/// Makes the data set. `progress` hears how many particles are done after each of them.
///
/// # Errors
/// If an option or the map is wrong, or a file cannot be written. `particles.star` comes last: where it is, the set is
/// whole.
pub fn simulate(
    options: &SimulateOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<Simulated, SimulateError> {
    check(options)?;
    let places = files::Places::in_folder(&options.out);
    places.check_free()?;
    let source = source::read(options)?;
    let box_angstrom = options.box_size_px as f64 * source.pixel_size_angstrom;
    let diameter_angstrom = options
        .diameter_angstrom
        .or(source.diameter_angstrom)
        .unwrap_or(0.8 * box_angstrom);
    if diameter_angstrom > box_angstrom {
        return Err(SimulateError::Options(format!(
            "the particle's diameter is {diameter_angstrom} A, the box {box_angstrom} A; expected a larger box"
        )));
    }
    let params = SimulationParams {
        particle_count: options.particle_count,
        snr: options.snr,
        diameter_angstrom,
        pixel_size_angstrom: source.pixel_size_angstrom,
        seed: options.seed,
    };
    let simulation = Simulation::new(&source.map, params)?;
    make_folder(&options.out)?;
    let label = format!(
        "dewar simulate: symmetry {}, seed {}",
        options.symmetry, options.seed
    );
    places.write_map(&source.map, source.pixel_size_angstrom, &label)?;
    let truths = places.write_stack(
        simulation,
        options.box_size_px,
        source.pixel_size_angstrom,
        &label,
        progress,
    )?;
    places.write_particle_files(&truths, options.box_size_px, source.pixel_size_angstrom)?;
    Ok(Simulated {
        particles: places.particles,
        truth: places.truth,
        map: places.map,
        pixel_size_angstrom: source.pixel_size_angstrom,
        diameter_angstrom,
        warnings: source.warnings,
    })
}

/// What can be said before anything is read.
fn check(options: &SimulateOptions) -> Result<(), SimulateError> {
    let wrong = |problem: String| Err(SimulateError::Options(problem));
    if options.box_size_px < BOX_SIZE_PX_MIN || !options.box_size_px.is_multiple_of(2) {
        return wrong(format!(
            "the box is {} px; expected an even number from {BOX_SIZE_PX_MIN}",
            options.box_size_px
        ));
    }
    // What the header of a stack can count.
    if options.particle_count > i32::MAX as u64 {
        return wrong(format!(
            "{} particles do not fit into one stack",
            options.particle_count
        ));
    }
    Ok(())
}

/// Below, shifts of three pixels would move particles out of their images.
const BOX_SIZE_PX_MIN: usize = 16;

fn make_folder(path: &Path) -> Result<(), SimulateError> {
    std::fs::create_dir_all(path).map_err(|source| SimulateError::Folder {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
