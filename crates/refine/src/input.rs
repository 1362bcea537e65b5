//! What a refinement begins with, read and checked before anything is computed.
//!
//! Whoever prepares data set by set has more than one thing wrong: all problems that can be found are told at once.

mod images;
mod particles;

use crate::{
    error::RefineError,
    options::{Options, Settings},
    plan,
    scale::Groups,
    schedule,
};
use dewar_compute::{
    ctf::{Ctf, CtfParams},
    fft::{RealFft2, half_plane_len},
    filter,
    mask::{self, AutoMask},
    noise::NoiseEstimate,
    postprocess::{Mtf, check_mask},
    symmetry::{PointGroup, UnknownPointGroup},
    volume::Volume,
};

use dewar_formats::{
    check_image,
    mrc::MrcFile,
    particles::{Applied, HalfSet, Particle, ParticleSet},
};
use dewar_proto::em::v1;
use num_complex::Complex32;
use std::path::Path;

/// Largest side of images: maps can be padded by a quarter, which is the least that interpolation needs.
const BOX_SIZE_PX_MAX: usize = 1024;

/// Images of each half that the first noise estimate is made from.
const NOISE_SAMPLE: usize = 500;

/// Largest difference, as a fraction, between the pixel sizes of particles and reference that is still rounding.
const PIXEL_SIZE_TOLERANCE: f64 = 0.02;

/// Largest part of the box the mask may fill: its soft edge needs room.
const MASK_DIAMETER_MAX: f64 = 0.95;

/// Smallest part of the box that a mask whose diameter nobody gave may fill: less is no particle but a speck.
const MASK_DIAMETER_MIN: f64 = 0.25;

/// How far beyond the starting map's own edge that mask reaches: the map is blurred, and its centre may be a bit off.
const MASK_MARGIN_PX: f64 = 2.0;

/// Checked inputs.
pub struct Prepared {
    /// The structure's point group.
    pub group: PointGroup,
    /// The particle file.
    pub set: ParticleSet,
    /// Particles of each half, as positions in the file, ascending.
    pub halves: [Vec<usize>; 2],
    /// The half, 0 or 1, of each particle.
    pub half_of: Vec<usize>,
    /// The low-passed starting map.
    pub reference: Volume,
    /// Diameter of the mask on images and maps.
    pub mask_diameter_angstrom: f64,
    /// The groups whose strength is estimated.
    pub groups: Groups,
    /// What post-processing needs of files.
    pub postprocess: PostInputs,
    /// What is odd but does no harm.
    pub warnings: Vec<String>,
}

/// The files of post-processing, read.
#[derive(Debug, Clone, Default)]
pub struct PostInputs {
    /// The user's mask.
    pub mask: Option<Volume>,
    /// The detector's curve.
    pub mtf: Option<Mtf>,
}

/// Reads and checks all inputs.
///
/// # Errors
/// With a line for each problem, that names the file, the place and what was expected.
pub fn prepare(options: &Options) -> Result<Prepared, RefineError> {
    let settings = &options.settings;
    let group: PointGroup = settings
        .symmetry
        .parse()
        .map_err(|error: UnknownPointGroup| RefineError::Input(error.to_string()))?;
    let set = ParticleSet::read(&options.particles, options.project_dir.as_deref())?;
    check_box(&set)?;
    let mut problems = Problems(particles::problems(&set));
    let mut warnings = set.warnings.clone();
    let half_of = problems.take(assign_halves(&set, settings.seed))?;
    let reference = read_reference(&options.reference, &set, settings, &mut warnings);
    let reference = problems.take(reference)?;
    let mask_diameter_angstrom = reference
        .as_ref()
        .map(|reference| mask_diameter(settings, &set, reference));
    problems.take(check_lengths(settings, &set))?;
    let postprocess = problems.take(PostInputs::read(options, &set))?;
    if let (Some(reference), Some(diameter)) = (&reference, mask_diameter_angstrom) {
        let shell_max = schedule::first_shell_max(
            set.box_size_px,
            set.pixel_size_angstrom,
            settings.low_pass_angstrom,
        );
        let looked = images::look_at(&set, reference, diameter, shell_max);
        if let Some(looked) = problems.take(looked)? {
            problems.0.extend(looked.unusable);
            warnings.extend(looked.odd);
            match options.accept_images {
                true => warnings.extend(looked.suspicious),
                false => problems
                    .0
                    .extend(looked.suspicious.into_iter().map(|problem| {
                        format!("{problem}; or go on as they are with --accept-images")
                    })),
            }
        }
    }
    match (half_of, reference, mask_diameter_angstrom, postprocess) {
        (Some(half_of), Some(reference), Some(mask_diameter_angstrom), Some(postprocess))
            if problems.0.is_empty() =>
        {
            Ok(Prepared {
                group,
                groups: Groups::of(&set),
                postprocess,
                halves: [0, 1].map(|half| of_half_set(&half_of, half)),
                half_of,
                set,
                reference,
                mask_diameter_angstrom,
                warnings,
            })
        }
        _ => Err(RefineError::Inputs(problems.0)),
    }
}

/// What was found wrong so far.
struct Problems(Vec<String>);

impl Problems {
    /// Keeps what is wrong with an input, and goes on without it.
    ///
    /// # Errors
    /// If it is no fault of the input's.
    fn take<T>(&mut self, read: Result<T, RefineError>) -> Result<Option<T>, RefineError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_input() => {
                self.0.extend(error.problems());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl PostInputs {
    fn read(options: &Options, set: &ParticleSet) -> Result<Self, RefineError> {
        let mask = options.postprocess.mask.as_deref();
        Ok(Self {
            mask: mask.map(|mask| read_mask(mask, set)).transpose()?,
            mtf: options.postprocess.read_mtf(set.pixel_size_angstrom)?,
        })
    }
}

/// The particles of a half-set, ascending.
fn of_half_set(half_of: &[usize], half: usize) -> Vec<usize> {
    (0..half_of.len())
        .filter(|at| half_of[*at] == half)
        .collect()
}

fn check_box(set: &ParticleSet) -> Result<(), RefineError> {
    let expected = schedule::BOX_SIZE_PX_MIN..=BOX_SIZE_PX_MAX;
    if expected.contains(&set.box_size_px) {
        return Ok(());
    }
    Err(RefineError::Input(format!(
        "{}: the images are {} pixels wide; a refinement needs at least {} and takes at most {BOX_SIZE_PX_MAX} (scale \
         them down: finer detail than twice the pixel size is not in them)",
        set.path.display(),
        set.box_size_px,
        schedule::BOX_SIZE_PX_MIN
    )))
}

/// The one the user gave, else that of the starting map.
fn mask_diameter(settings: &Settings, set: &ParticleSet, reference: &Volume) -> f64 {
    let box_angstrom = set.box_size_px as f64 * set.pixel_size_angstrom;
    settings.mask_diameter_angstrom.unwrap_or_else(|| {
        diameter_angstrom(reference, set.pixel_size_angstrom).clamp(
            MASK_DIAMETER_MIN * box_angstrom,
            MASK_DIAMETER_MAX * box_angstrom,
        )
    })
}

/// Whether the lengths a user gave fit into the images.
fn check_lengths(settings: &Settings, set: &ParticleSet) -> Result<(), RefineError> {
    let box_angstrom = set.box_size_px as f64 * set.pixel_size_angstrom;
    let largest = MASK_DIAMETER_MAX * box_angstrom;
    let mut problems = Vec::new();
    if let Some(diameter) = settings.mask_diameter_angstrom
        && !(diameter > 0.0 && diameter <= largest)
    {
        problems.push(format!(
            "the mask diameter is {diameter} A; it must be above 0 and at most {largest:.1} A, {:.0} % of the box",
            MASK_DIAMETER_MAX * 100.0,
        ));
    }
    let shift_max_angstrom = settings.shift_max_angstrom;
    if !(0.0..=box_angstrom / 2.0).contains(&shift_max_angstrom) {
        problems.push(format!(
            "the largest shift is {shift_max_angstrom} A; it must be from 0 to {:.1} A, half the box",
            box_angstrom / 2.0
        ));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(RefineError::Inputs(problems))
}

/// The half of each particle: the file's own where it has them, else by a hash of the image's name.
fn assign_halves(set: &ParticleSet, seed: u64) -> Result<Vec<usize>, RefineError> {
    let given = set
        .particles
        .iter()
        .filter(|particle| particle.half_set.is_some())
        .count();
    if given != 0 && given != set.particles.len() {
        return Err(RefineError::Input(format!(
            "{}: {given} of {} particles have a half-set (rlnRandomSubset 1 or 2); expected all or none",
            set.path.display(),
            set.particles.len()
        )));
    }
    let halves: Vec<usize> = set
        .particles
        .iter()
        .map(|particle| match particle.half_set {
            Some(HalfSet::One) => 0,
            Some(HalfSet::Two) => 1,
            None => {
                let name = format!(
                    "{:06}@{}",
                    particle.image_index + 1,
                    set.stacks[particle.stack_index].name
                );
                plan::half_of(&name, seed)
            }
        })
        .collect();
    let second: usize = halves.iter().sum();
    if second == 0 || second == halves.len() {
        return Err(RefineError::Input(format!(
            "{}: all {} particles fall into one half-set; a refinement needs particles in both",
            set.path.display(),
            halves.len()
        )));
    }
    Ok(halves)
}

fn read_reference(
    path: &Path,
    set: &ParticleSet,
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Result<Volume, RefineError> {
    let file = MrcFile::open(path)?;
    let name = path.display();
    warnings.extend(
        file.warnings()
            .iter()
            .map(|warning| format!("{name}: {warning}")),
    );
    let [nx, ny, nz] = file.header().size;
    if nx != ny || ny != nz {
        return Err(RefineError::Input(format!(
            "{name}: the reference is {nx} x {ny} x {nz}; expected a cube"
        )));
    }
    let pixel = settings
        .reference_pixel_size_angstrom
        .or(file.header().pixel_size_angstrom.map(f64::from));
    let pixel = pixel.ok_or_else(|| {
        RefineError::Input(format!(
            "{name}: the header has no pixel size; give it with --pixel-size"
        ))
    })?;
    let expected = set.pixel_size_angstrom;
    if (pixel / expected - 1.0).abs() > PIXEL_SIZE_TOLERANCE {
        return Err(RefineError::Input(format!(
            "{name}: the pixel size is {pixel} A, that of the particles {expected} A; expected the same"
        )));
    }
    let data = file.read_all()?;
    if data.iter().any(|value| !value.is_finite()) {
        return Err(RefineError::Input(format!(
            "{name}: the reference has voxels that are NaN or infinite"
        )));
    }
    if data.iter().all(|value| *value == data[0]) {
        return Err(RefineError::Input(format!(
            "{name}: every voxel of the reference is {}",
            data[0]
        )));
    }
    let map = Volume::new(nx, data)
        .and_then(|map| map.resized(set.box_size_px))
        .map_err(|error| RefineError::Input(format!("{name}: {error}")))?;
    Ok(filter::low_pass(
        &map,
        set.pixel_size_angstrom,
        settings.low_pass_angstrom,
    ))
}

/// The user's mask for post-processing.
fn read_mask(path: &Path, set: &ParticleSet) -> Result<Volume, RefineError> {
    let file = MrcFile::open(path)?;
    let name = path.display();
    let (size, box_size_px) = (file.header().size, set.box_size_px);
    if size != [box_size_px; 3] {
        return Err(RefineError::Input(format!(
            "{name}: the mask is {} x {} x {}; expected {box_size_px} each way, as the images",
            size[0], size[1], size[2]
        )));
    }
    let mask = Volume::new(box_size_px, file.read_all()?)
        .map_err(|error| RefineError::Input(format!("{name}: {error}")))?;
    check_mask(&mask).map_err(|error| RefineError::Input(format!("{name}: {error}")))?;
    Ok(mask)
}

/// The diameter of the sphere about the origin that holds what stands out in a low-passed map.
fn diameter_angstrom(map: &Volume, pixel_size_angstrom: f64) -> f64 {
    // The map's own resolution: it is low-passed already.
    let params = AutoMask {
        low_pass_angstrom: 2.0 * pixel_size_angstrom,
        dilation_px: 0.0,
        edge_px: 1.0,
        ..AutoMask::default()
    };
    let mask = mask::automatic(map, pixel_size_angstrom, &params);
    let n = map.n();
    let offset = |i: usize| i as f64 - (n / 2) as f64;
    let radius2_px = mask
        .data()
        .iter()
        .enumerate()
        .filter(|(_, weight)| **weight > 0.5)
        .map(|(i, _)| offset(i % n).powi(2) + offset(i / n % n).powi(2) + offset(i / n / n).powi(2))
        .fold(0.0, f64::max);
    2.0 * (radius2_px.sqrt() + MASK_MARGIN_PX) * pixel_size_angstrom
}

/// The first noise estimate of one half.
///
/// # Errors
/// If an image cannot be read or is NaN or constant.
pub fn first_noise(
    prepared: &Prepared,
    half: usize,
) -> Result<Vec<v1::NoiseSpectrum>, RefineError> {
    noise_of(&prepared.set, &prepared.halves[half])
}

/// A noise estimate from some of these particles' images, spread over the list. Every optics group gets the same; their
/// own follow from the first round's residuals.
///
/// # Errors
/// If an image cannot be read or is NaN or constant.
pub fn noise_of(
    set: &ParticleSet,
    particles: &[usize],
) -> Result<Vec<v1::NoiseSpectrum>, RefineError> {
    let step = particles.len().div_ceil(NOISE_SAMPLE).max(1);
    // One at a time: a data set may have more stacks than a process may open files.
    let mut open: Option<(usize, MrcFile)> = None;
    let n = set.box_size_px;
    let mut fft = RealFft2::new(n)
        .map_err(|error| RefineError::Input(format!("{}: {error}", set.path.display())))?;
    let mut estimate = NoiseEstimate::new(n);
    let mut pixels = vec![0.0; n * n];
    let mut transform = vec![Complex32::ZERO; half_plane_len(n)];
    let mut ctf = vec![0.0; half_plane_len(n)];
    for &index in particles.iter().step_by(step) {
        let particle = &set.particles[index];
        let stack = match open.take() {
            Some((index, stack)) if index == particle.stack_index => stack,
            _ => set.stacks[particle.stack_index].open()?,
        };
        stack.read_section(particle.image_index, &mut pixels)?;
        open = Some((particle.stack_index, stack));
        if let Some(problem) = check_image(&pixels) {
            return Err(RefineError::Input(format!(
                "{}: particle {} (image {} of {}): {problem}",
                set.path.display(),
                index + 1,
                particle.image_index + 1,
                set.stacks[particle.stack_index].name
            )));
        }
        fft.forward(&pixels, &mut transform);
        if set.optics[particle.optics_index].applied == Applied::Whole {
            Ctf::new(&ctf_params(set, particle))
                .map_err(|error| {
                    RefineError::Input(format!(
                        "{}: particle {}: {error}",
                        set.path.display(),
                        index + 1
                    ))
                })?
                .fill_half_plane(n, set.pixel_size_angstrom, &mut ctf);
            estimate.add_multiplied(&transform, &ctf);
        } else {
            estimate.add(&transform);
        }
    }
    let spectrum = v1::NoiseSpectrum {
        sigma2: estimate.sigma2(),
    };
    Ok(vec![spectrum; set.optics.len()])
}

/// What the microscope did to a particle, and what was done about that since.
pub(crate) fn ctf_params(set: &ParticleSet, particle: &Particle) -> CtfParams {
    let optics = &set.optics[particle.optics_index];
    CtfParams {
        defocus_u_angstrom: particle.ctf.defocus_u_angstrom,
        defocus_v_angstrom: particle.ctf.defocus_v_angstrom,
        defocus_angle_deg: particle.ctf.defocus_angle_deg,
        voltage_kv: optics.voltage_kv,
        spherical_aberration_mm: optics.spherical_aberration_mm,
        amplitude_contrast: optics.amplitude_contrast,
        phase_shift_deg: particle.ctf.phase_shift_deg,
        b_factor_angstrom2: particle.ctf.b_factor,
        scale: particle.ctf.scale,
        even_zernike: optics.even_zernike,
        applied: match optics.applied {
            Applied::Nothing => dewar_compute::ctf::Applied::Nothing,
            Applied::Phases => dewar_compute::ctf::Applied::Phases,
            Applied::Whole => dewar_compute::ctf::Applied::Whole,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_diameter_is_that_of_what_stands_out() {
        // A ball of 60 A a little off the origin: its far side, plus the margin.
        let ball = Volume::from_fn(32, |x, y, z| {
            if ((x - 1.0).powi(2) + y * y + z * z).sqrt() <= 7.5 {
                1.0
            } else {
                0.0
            }
        })
        .unwrap();
        let diameter = diameter_angstrom(&filter::low_pass(&ball, 4.0, 16.0), 4.0);
        assert!((76.0..=92.0).contains(&diameter), "{diameter}");
    }
}
