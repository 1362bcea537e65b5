//! A look at some of the images before anything is computed: whether they can be used, are normalised, and are as bright as
//! the map where it is bright.
//!
//! Images are taken evenly from the whole file, a bounded number of them: a file of a million particles is looked at as
//! quickly as one of a thousand. Workers check every image again for what would spoil a map.

use super::ctf_params;
use crate::error::RefineError;
use dewar_compute::{
    ctf::Ctf,
    fft::{RealFft2, frequency_index, half_plane_len},
    orientation::Rotation,
    projector::Projector,
    volume::Volume,
};
use dewar_formats::{check_image, mrc::MrcFile, particles::ParticleSet};
use num_complex::Complex32;

/// Images that are looked at.
pub const SAMPLE: usize = 256;

/// Bad images that are named one by one.
const NAMED_MAX: usize = 5;

/// A background is normalised if its mean is within this many of its standard deviations from 0 (RELION warns there)...
const MEAN_MAX_SD: f64 = 0.5;

/// ... and these between this and its inverse.
const SD_MAX: f64 = 2.0;

/// The part of images that may be otherwise: dirt and carbon.
const ODD_PART_MAX: f64 = 0.1;

/// Images whose standard deviations differ by more than this between the lower and the upper tenth spoil one another's noise.
const SD_RANGE_MAX: f64 = 2.5;

/// Fewer images do not tell their contrast.
const CONTRAST_IMAGES_MIN: usize = 30;

/// Standard errors by which images must agree less than not at all with the map to be called inverted.
const INVERTED_ERRORS: f64 = 6.0;

/// The first shell that is compared for contrast: below lie ice and gradients.
const CONTRAST_SHELL_MIN: usize = 2;

/// What was seen.
#[derive(Debug, Default)]
pub struct Looked {
    /// Images that cannot be used.
    pub unusable: Vec<String>,
    /// What would spoil the result, if it is what it looks like.
    pub suspicious: Vec<String>,
    /// What is odd but does no harm.
    pub odd: Vec<String>,
}

/// Looks at images spread over the file.
///
/// # Errors
/// If a stack cannot be read.
pub fn look_at(
    set: &ParticleSet,
    reference: &Volume,
    mask_diameter_angstrom: f64,
    shell_max: usize,
) -> Result<Looked, RefineError> {
    let n = set.box_size_px;
    // A circle larger than the image leaves its corners.
    let radius_px = (mask_diameter_angstrom / set.pixel_size_angstrom / 2.0).min(n as f64 / 2.0);
    let mut contrast = Contrast::new(reference, set, shell_max)?;
    let mut unusable = Vec::new();
    let mut backgrounds = Vec::new();
    let mut agreements = Vec::new();
    let mut open: Option<(usize, MrcFile)> = None;
    let mut pixels = vec![0.0; n * n];
    let step = set.particles.len().div_ceil(SAMPLE).max(1);
    for (index, particle) in set.particles.iter().enumerate().step_by(step) {
        let stack = match open.take() {
            Some((at, stack)) if at == particle.stack_index => stack,
            _ => set.stacks[particle.stack_index].open()?,
        };
        stack.read_section(particle.image_index, &mut pixels)?;
        open = Some((particle.stack_index, stack));
        if let Some(problem) = check_image(&pixels) {
            unusable.push(named(set, index, &problem.to_string()));
            continue;
        }
        backgrounds.push(background(&pixels, n, radius_px));
        agreements.push(contrast.of(set, index, &pixels));
    }
    let looked_at = set.particles.len().div_ceil(step);
    let (mut suspicious, odd) = normalisation(&backgrounds, set);
    suspicious.extend(inversion(&agreements, set));
    Ok(Looked {
        unusable: shortened(unusable, looked_at, set),
        suspicious,
        odd,
    })
}

fn named(set: &ParticleSet, index: usize, problem: &str) -> String {
    let particle = &set.particles[index];
    format!(
        "{}: particle {} (image {} of {}): {problem}; take it out of the file",
        set.path.display(),
        index + 1,
        particle.image_index + 1,
        set.stacks[particle.stack_index].name
    )
}

fn shortened(mut unusable: Vec<String>, looked_at: usize, set: &ParticleSet) -> Vec<String> {
    let count = unusable.len();
    if count > NAMED_MAX {
        unusable.truncate(NAMED_MAX);
        unusable.push(format!(
            "{}: {} more of the {looked_at} images looked at cannot be used",
            set.path.display(),
            count - NAMED_MAX
        ));
    }
    unusable
}

/// Mean and standard deviation of the pixels outside the circle.
fn background(pixels: &[f32], n: usize, radius_px: f64) -> (f64, f64) {
    let offset = |at: usize| at as f64 - (n / 2) as f64;
    let outside = || {
        pixels.iter().enumerate().filter_map(|(at, value)| {
            let is_outside = offset(at % n).hypot(offset(at / n)) > radius_px;
            is_outside.then_some(f64::from(*value))
        })
    };
    let count = outside().count().max(1) as f64;
    let mean = outside().sum::<f64>() / count;
    let variance = outside().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

/// What is suspicious, and what odd, about backgrounds.
fn normalisation(backgrounds: &[(f64, f64)], set: &ParticleSet) -> (Vec<String>, Vec<String>) {
    let mut sds: Vec<f64> = backgrounds.iter().map(|(_, sd)| *sd).collect();
    sds.sort_by(f64::total_cmp);
    let (Some(low), Some(high)) = (sds.get(sds.len() / 10), sds.get(sds.len() * 9 / 10)) else {
        return Default::default();
    };
    let count = backgrounds.len() as f64;
    let off = backgrounds
        .iter()
        .filter(|(mean, sd)| mean.abs() > MEAN_MAX_SD * sd)
        .count() as f64;
    let name = set.path.display();
    const CURE: &str =
        "normalise them (in RELION: relion_preprocess --norm, or tick it when extracting)";
    let mut suspicious = Vec::new();
    if off / count > ODD_PART_MAX {
        suspicious.push(format!(
            "{name}: outside the mask {:.0} % of {count} images have a mean further from 0 than {MEAN_MAX_SD} standard \
             deviations; {CURE}",
            100.0 * off / count
        ));
    }
    if *low <= 0.0 || high / low > SD_RANGE_MAX {
        suspicious.push(format!(
            "{name}: outside the mask the standard deviations of {count} images go from {low:.3} to {high:.3} (a tenth is \
             below, a tenth above); {CURE}"
        ));
    }
    let normal = 1.0 / SD_MAX..=SD_MAX;
    let odd = (suspicious.is_empty() && !(normal.contains(low) && normal.contains(high))).then(|| {
        format!(
            "{name}: outside the mask the standard deviations of images are about {:.3}, not 1; they are alike, so it does \
             no harm",
            sds[sds.len() / 2]
        )
    });
    (suspicious, odd.into_iter().collect())
}

fn inversion(agreements: &[f64], set: &ParticleSet) -> Option<String> {
    let count = agreements.len() as f64;
    let mean = agreements.iter().sum::<f64>() / count;
    let variance = agreements
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / count;
    let errors = mean / (variance / count).sqrt();
    let is_inverted = agreements.len() >= CONTRAST_IMAGES_MIN && errors < -INVERTED_ERRORS;
    is_inverted.then(|| {
        format!(
            "{}: images are dark where the starting map is bright ({count} images, {:.0} standard errors): invert whichever \
             has dark protein (in RELION: relion_image_handler --multiply_constant -1)",
            set.path.display(),
            -errors
        )
    })
}

/// How much images agree with the map averaged over all orientations, wherever in them the particle lies.
struct Contrast {
    blob: Vec<Complex32>,
    shells: std::ops::RangeInclusive<usize>,
    fft: RealFft2,
    image: Vec<Complex32>,
    ctf: Vec<f32>,
}

impl Contrast {
    fn new(reference: &Volume, set: &ParticleSet, shell_max: usize) -> Result<Self, RefineError> {
        let n = set.box_size_px;
        let wrong = |error: &dyn std::error::Error| {
            RefineError::Input(format!("{}: {error}", set.path.display()))
        };
        let ball = spherical_average(reference);
        let projector = Projector::new(&ball, shell_max, 2.0).map_err(|error| wrong(&error))?;
        let mut blob = vec![Complex32::ZERO; half_plane_len(n)];
        projector.slice(&Rotation::identity(), n, shell_max, &mut blob);
        Ok(Self {
            blob,
            shells: CONTRAST_SHELL_MIN..=shell_max,
            fft: RealFft2::new(n).map_err(|error| wrong(&error))?,
            image: vec![Complex32::ZERO; half_plane_len(n)],
            ctf: vec![0.0; half_plane_len(n)],
        })
    }

    fn of(&mut self, set: &ParticleSet, index: usize, pixels: &[f32]) -> f64 {
        let n = set.box_size_px;
        let Ok(ctf) = Ctf::new(&ctf_params(set, &set.particles[index])) else {
            return 0.0;
        };
        ctf.fill_half_plane(n, set.pixel_size_angstrom, &mut self.ctf);
        self.fft.forward(pixels, &mut self.image);
        let last = *self.shells.end() as isize;
        let mut sum = 0.0;
        for ky in -last..=last {
            for kx in 0..=last {
                let shell = ((kx * kx + ky * ky) as f64).sqrt().round() as usize;
                if self.shells.contains(&shell) {
                    let at = frequency_index(ky, n) * (n / 2 + 1) + kx as usize;
                    let product = self.image[at] * self.blob[at].conj();
                    sum += f64::from(self.ctf[at] * product.re);
                }
            }
        }
        sum
    }
}

/// Each voxel's value replaced by the mean over all as far from the origin.
fn spherical_average(map: &Volume) -> Volume {
    let n = map.n();
    let offset = |at: usize| at as f64 - (n / 2) as f64;
    let radius = |at: usize| {
        let [x, y, z] = [at % n, at / n % n, at / n / n].map(offset);
        (x * x + y * y + z * z).sqrt().round() as usize
    };
    let mut sums = vec![(0.0, 0.0); 2 * n];
    for (at, value) in map.data().iter().enumerate() {
        let sum = &mut sums[radius(at)];
        sum.0 += f64::from(*value);
        sum.1 += 1.0;
    }
    let mut average = map.clone();
    for (at, value) in average.data_mut().iter_mut().enumerate() {
        let (sum, count) = sums[radius(at)];
        *value = (sum / count) as f32;
    }
    average
}
