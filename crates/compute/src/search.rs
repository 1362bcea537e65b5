//! Projection matching: for one particle, the orientation and shift at which a reference explains it best.
//!
//! Scores are those of the Gaussian noise model over a half-plane of Fourier pixels within the resolution limit:
//! cross = Re Σ (C/σ²) X P*, norm = ½ Σ (C²/σ²) |P|², log-likelihood = cross − norm up to a constant. A global search
//! over a grid of all orientations and shifts runs on polar rings (`polar`), then the best few climb to the tops of
//! their hills on the pixels themselves (`polish`). Every particle is scored by itself, with matrices whose shapes depend
//! on the settings alone: its result is the same bits in whatever company it comes.

mod bank;
mod classes;
mod image;
mod matrix;
mod modes;
mod normal_equations;
mod polar;
mod polish;
mod rings;
#[cfg(test)]
mod tests;

use crate::ctf::{Ctf, CtfError, CtfParams};
use crate::orientation::Rotation;
use crate::projector::Projector;
use crate::sampling;
use crate::volume::SizeError;

pub use bank::ReferenceBank;
pub use classes::{
    ClassAverage, ClassGrid, ClassPlacement, ClassReferences, ClassSettings, ClassSums,
    ClassSumsError, ClassTotals, Classified, Classifier,
};
use image::Preparation;
pub use modes::Mode;
use polar::PolarSearch;
use polish::Polish;

/// What a score means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreMode {
    /// Log-likelihood, cross − norm: the reference is on the images' grey scale.
    Likelihood,
    /// The log-likelihood at the best positive scale of the reference, cross²/(4 norm): for a reference whose grey
    /// scale is unknown.
    ScaleFree,
}

impl ScoreMode {
    fn score(self, cross: f32, norm: f32) -> f32 {
        match self {
            Self::Likelihood => cross - norm,
            // Negative correlation is worse than none, and the more of it the worse.
            Self::ScaleFree => cross * cross.abs() / (4.0 * norm.max(f32::MIN_POSITIVE)),
        }
    }
}

/// What a log-likelihood counts for in the weight and the width of a pose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// As much as the mask leaves of an image: so many of a masked image's Fourier pixels are independent.
    Independent,
    /// As if every Fourier pixel were, which is RELION's convention: weights are sharper, widths 1.7 times too small.
    EveryPixel,
}

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchSettings {
    /// Pixel size of the images and the reference.
    pub pixel_size_angstrom: f64,
    /// Diameter of the circular mask; its 5-pixel cosine edge lies outside.
    pub mask_diameter_angstrom: f64,
    /// The resolution limit, in Fourier pixels.
    pub k_max: usize,
    /// Radius of the disc of shifts about the prior.
    pub max_shift_px: f64,
    /// Step of the global search's shifts.
    pub shift_step_px: f64,
    /// HEALPix order of the global search; 3 has steps of 7.5 degrees.
    pub order: u32,
    /// How many distinct orientations of the global search are followed further.
    pub candidate_count: usize,
    /// What a score means.
    pub mode: ScoreMode,
    /// What a log-likelihood counts for in a pose's weight and width.
    pub trust: Trust,
}

impl SearchSettings {
    /// The limit of the global search: beyond it the grid is too coarse for the detail to match.
    pub fn k_max_global(&self, box_size_px: usize) -> usize {
        let step_angstrom =
            sampling::step_deg(self.order).to_radians() / 2.0 * self.mask_diameter_angstrom;
        let k = box_size_px as f64 * self.pixel_size_angstrom / (step_angstrom / 1.2);
        (k as usize).clamp(3, self.k_max.max(3)).min(self.k_max)
    }

    fn check(&self) -> Result<(), SearchError> {
        let positive = |name, value: f64| {
            if value > 0.0 && value.is_finite() {
                Ok(())
            } else {
                Err(SearchError::Setting { name, value })
            }
        };
        positive("pixel size", self.pixel_size_angstrom)?;
        positive("mask diameter", self.mask_diameter_angstrom)?;
        positive("shift step", self.shift_step_px)?;
        positive("resolution limit", self.k_max as f64)?;
        positive("candidate count", self.candidate_count as f64)?;
        if !(0.0..=SHIFT_STEPS_MAX * self.shift_step_px).contains(&self.max_shift_px) {
            return Err(SearchError::Setting {
                name: "maximum shift",
                value: self.max_shift_px,
            });
        }
        if self.order > GLOBAL_ORDER_MAX {
            return Err(SearchError::Setting {
                name: "order",
                value: f64::from(self.order),
            });
        }
        Ok(())
    }
}

/// More shift steps each way would need gigabytes of scratch, and no extracted particle lies so far off.
const SHIFT_STEPS_MAX: f64 = 16.0;

/// Order 5 (1.9 degrees everywhere) would need a bank of a gigabyte.
const GLOBAL_ORDER_MAX: u32 = 4;

/// An image to place.
#[derive(Debug, Clone, Copy)]
pub struct ParticleImage<'a> {
    /// Its pixels, row by row.
    pub pixels: &'a [f32],
    /// What the microscope did to it.
    pub ctf: CtfParams,
    /// The shift to search about; zero where nothing is known.
    pub prior_shift_px: [f64; 2],
    /// The poses to climb from, instead of the best of a global search. Empty for that.
    pub starts: &'a [Start],
}

/// A pose to climb from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Start {
    /// Its orientation.
    pub orientation: Rotation,
    /// Its shift.
    pub shift_px: [f64; 2],
}

/// Where a particle was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Alignment {
    /// Its orientation, the mate whose view lies in the asymmetric unit.
    pub orientation: Rotation,
    /// The shift to apply to centre it (rlnOriginX/Y).
    pub shift_px: [f64; 2],
    /// Its score, as [`ScoreMode`] says.
    pub score: f64,
    /// The poses it may have, best first, with weights that sum to 1: the hills that were climbed. Empty where the
    /// image says nothing of its pose.
    pub modes: Vec<Mode>,
    /// The best grey scale of the reference for this particle: cross/(2 norm).
    pub scale: f64,
    /// For each shell 0..=(n-1)/2, Σ |X − s C P|² over the half-plane without Hermitian duplicates, X being the masked
    /// image and s 1, or `scale` (at least 0) where scores are scale-free. Beyond the reference's limit P is 0.
    pub residual_power: Vec<f64>,
    /// How many values of noise, as strong as the microscope gave it, each of these sums is worth: fewer than it has where
    /// the image came multiplied by its CTF, and the model is C² P.
    pub residual_count: Vec<f64>,
}

/// Why a search gave no result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SearchError {
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// A setting makes no sense.
    #[error("{name} is {value}")]
    Setting {
        /// Which.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// An image and the reference differ in size.
    #[error("particle {index} has {pixel_count} pixels, expected {expected}")]
    PixelCount {
        /// Position in the block, from 0.
        index: usize,
        /// How many it has.
        pixel_count: usize,
        /// How many it should have.
        expected: usize,
    },
    /// The noise spectrum does not reach the limit.
    #[error("noise power is known for {count} shells, expected {expected}")]
    NoiseShells {
        /// How many shells there are.
        count: usize,
        /// How many are needed.
        expected: usize,
    },
    /// The noise in a shell is not a positive number.
    #[error("noise power in shell {shell} is {value}, expected a positive number")]
    NoisePower {
        /// Which shell.
        shell: usize,
        /// What was given.
        value: f64,
    },
    /// A particle has pixels or a prior that are not numbers.
    #[error("particle {0} has values that are not finite")]
    NotFinite(usize),
    /// A particle's CTF is impossible.
    #[error("particle {index}: {source}")]
    Ctf {
        /// Position in the block, from 0.
        index: usize,
        /// What is wrong with it.
        source: CtfError,
    },
    /// The box has no transform.
    #[error(transparent)]
    Size(#[from] SizeError),
}

/// Searches one particle after another, reusing its scratch.
pub struct Search<'a> {
    preparation: Preparation,
    polar: PolarSearch<'a>,
    polish: Polish<'a>,
}

impl<'a> Search<'a> {
    /// Prepares for images whose noise variance (of real and imaginary part each) in shell s is `sigma2[s]`, on the
    /// scale of an unnormalised transform. Shells 1 to k_max are used.
    pub fn new(
        bank: &'a ReferenceBank,
        projector: &'a Projector,
        sigma2: &[f64],
    ) -> Result<Self, SearchError> {
        let settings = bank.settings();
        check_noise(sigma2, settings.k_max)?;
        if projector.n() != bank.box_size_px() {
            return Err(SearchError::Setting {
                name: "projector box",
                value: projector.n() as f64,
            });
        }
        Ok(Self {
            preparation: Preparation::new(bank.box_size_px(), settings)?,
            polar: PolarSearch::new(bank, sigma2),
            polish: Polish::new(bank, projector, sigma2),
        })
    }

    /// Places a block of particles. `go_on` is asked between the steps of each; false cancels.
    pub fn run(
        &mut self,
        particles: &[ParticleImage<'_>],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Alignment>, SearchError> {
        let one = |(index, particle)| self.place(index, particle, go_on);
        particles.iter().enumerate().map(one).collect()
    }

    /// The best distinct poses of the global search's grid, best first: those that [`run`](Self::run) climbs from.
    pub fn on_grid(&mut self, particle: &ParticleImage<'_>) -> Result<Vec<Start>, SearchError> {
        let (ctf, window_px) = self.load(0, particle)?;
        let candidates = self.polar.candidates(&self.preparation, &ctf);
        let start = |found: Candidate| Start {
            orientation: found.orientation,
            shift_px: add(found.shift_px, window_px),
        };
        Ok(candidates.into_iter().map(start).collect())
    }

    /// Prepares one particle: its CTF, and the window of whole pixels its shifts count from.
    fn load(
        &mut self,
        index: usize,
        particle: &ParticleImage<'_>,
    ) -> Result<(Ctf, [f64; 2]), SearchError> {
        let ctf = Ctf::new(&particle.ctf).map_err(|source| SearchError::Ctf { index, source })?;
        Ok((ctf, self.preparation.load(index, particle)?))
    }

    fn place(
        &mut self,
        index: usize,
        particle: &ParticleImage<'_>,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Alignment, SearchError> {
        let (ctf, window_px) = self.load(index, particle)?;
        proceed(go_on)?;
        let candidates = if particle.starts.is_empty() {
            self.polar.candidates(&self.preparation, &ctf)
        } else {
            let start = |start: &Start| Candidate::within(start, window_px);
            particle.starts.iter().map(start).collect()
        };
        proceed(go_on)?;
        let mut found = self
            .polish
            .refine(&self.preparation, &ctf, &candidates, go_on)?;
        found.shift_px = add(found.shift_px, window_px);
        for mode in &mut found.modes {
            mode.shift_px = add(mode.shift_px, window_px);
        }
        Ok(found)
    }
}

/// Fails unless the noise of shells 1 to `k_max` is known, and positive.
fn check_noise(sigma2: &[f64], k_max: usize) -> Result<(), SearchError> {
    if sigma2.len() <= k_max {
        let (count, expected) = (sigma2.len(), k_max + 1);
        return Err(SearchError::NoiseShells { count, expected });
    }
    let is_bad = |value: &f64| !(*value > 0.0 && value.is_finite());
    match sigma2[..=k_max].iter().skip(1).position(is_bad) {
        Some(at) => Err(SearchError::NoisePower {
            shell: at + 1,
            value: sigma2[at + 1],
        }),
        None => Ok(()),
    }
}

fn proceed(go_on: &mut dyn FnMut() -> bool) -> Result<(), SearchError> {
    if go_on() {
        Ok(())
    } else {
        Err(SearchError::Cancelled)
    }
}

fn add(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    [a[0] + b[0], a[1] + b[1]]
}

/// A pose on the way; its shift counts from the centre of the image's window.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    orientation: Rotation,
    shift_px: [f64; 2],
    score: f32,
}

impl Candidate {
    fn within(start: &Start, window_px: [f64; 2]) -> Self {
        Self {
            orientation: start.orientation,
            shift_px: add(start.shift_px, window_px.map(|shift| -shift)),
            score: f32::NEG_INFINITY,
        }
    }
}
