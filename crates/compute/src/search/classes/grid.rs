//! The grid of a classification: rings, angular frequencies, shifts and in-plane angles.

use std::f64::consts::TAU;

use crate::search::rings::Rings;
use crate::search::{ParticleImage, ScoreMode, SearchError, SearchSettings, Trust};

/// Angular frequencies 0, 2, ... of squared CTFs: astigmatism is smooth.
pub(super) const POWER_FREQUENCY_COUNT: usize = 7;

/// A shift between two of the grid is off by at most a sixth of the finest wave along each axis.
const STEPS_PER_WAVE: f64 = 3.0;

/// Steps from the centre to the largest shift: finer detail gets no finer steps, rather than a search without end.
const SHIFT_STEPS_MAX: f64 = 8.0;

/// Shifts are no finer than a pixel, and angles than 2.5 degrees: classes are told apart by coarser detail, and the time of
/// a round grows with the square of the one and with the other.
const SHIFT_STEP_PX_MIN: f64 = 1.0;
const PSI_COUNT_MAX: usize = 144;

/// Largest side of images.
const BOX_SIZE_PX_MAX: usize = 1024;

/// How to sort.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassSettings {
    /// Side of the images.
    pub box_size_px: usize,
    /// Their pixel size.
    pub pixel_size_angstrom: f64,
    /// Diameter of the circular mask; its 5-pixel cosine edge lies outside.
    pub mask_diameter_angstrom: f64,
    /// How far particles may lie off the centre.
    pub max_shift_px: f64,
    /// The resolution limit, in Fourier pixels.
    pub k_max: usize,
}

/// The grid that settings ask for.
pub struct ClassGrid {
    pub(super) settings: ClassSettings,
    pub(super) rings: Rings,
    /// For each angular frequency, the first ring that has it.
    first_rings: Vec<usize>,
    /// Where the coefficients of each angular frequency begin in those of a class; at the end, how many there are.
    offsets: Vec<usize>,
    pub(super) shifts_px: Vec<[f64; 2]>,
    pub(super) psi_count: usize,
}

impl ClassGrid {
    /// Plans the grid.
    ///
    /// # Errors
    /// If a setting makes no sense.
    pub fn new(settings: &ClassSettings) -> Result<Self, SearchError> {
        check(settings)?;
        let n = settings.box_size_px as f64;
        let radius_px = settings.mask_diameter_angstrom / 2.0 / settings.pixel_size_angstrom;
        let reach_px = radius_px + settings.max_shift_px;
        let rings = Rings::new(settings.k_max, reach_px, settings.box_size_px);
        let m_max = rings.rings.iter().map(|ring| ring.m_max).max().unwrap_or(0);
        let first_rings: Vec<usize> = (0..=m_max)
            .map(|m| rings.rings.partition_point(|ring| ring.m_max < m))
            .collect();
        let mut offsets = vec![0];
        for first in &first_rings {
            offsets.push(offsets[offsets.len() - 1] + 2 * (settings.k_max - first));
        }
        // The mask's edge moves by half the finest wave from one angle to the next.
        let waves = TAU * radius_px * settings.k_max as f64 / n;
        let psi_count = ((2.0 * waves) as usize).next_multiple_of(8);
        Ok(Self {
            settings: *settings,
            rings,
            first_rings,
            offsets,
            shifts_px: shifts(settings),
            psi_count: psi_count.clamp(24, PSI_COUNT_MAX),
        })
    }

    /// The settings it was planned for.
    pub fn settings(&self) -> &ClassSettings {
        &self.settings
    }

    /// From one in-plane angle to the next.
    pub fn psi_step_deg(&self) -> f64 {
        360.0 / self.psi_count as f64
    }

    /// From one shift to the next along each axis.
    pub fn shift_step_px(&self) -> f64 {
        shift_step_px(&self.settings)
    }

    /// How many complex values an average has: samples on the half-circles of all rings, from the innermost. A grid with a
    /// lower limit has the first of them.
    pub fn sample_count(&self) -> usize {
        self.rings.points.len()
    }

    pub(super) fn frequency_count(&self) -> usize {
        self.first_rings.len()
    }

    pub(super) fn first_ring(&self, m: usize) -> usize {
        self.first_rings[m]
    }

    /// Where coefficients of angular frequency m begin, and how many there are: real parts of its rings, then imaginary.
    pub(super) fn span(&self, m: usize) -> (usize, usize) {
        (self.offsets[m], self.offsets[m + 1] - self.offsets[m])
    }

    pub(super) fn coefficient_count(&self) -> usize {
        self.offsets[self.first_rings.len()]
    }

    /// How many values the squared CTFs of a class have.
    pub(super) fn power_count(&self) -> usize {
        2 * POWER_FREQUENCY_COUNT * self.settings.k_max
    }

    pub(super) fn psi(&self, index: usize) -> f64 {
        TAU * index as f64 / self.psi_count as f64
    }

    pub(super) fn centre(&self) -> usize {
        let is_centre = |shift: &[f64; 2]| *shift == [0.0; 2];
        self.shifts_px
            .iter()
            .position(is_centre)
            .expect("the disc of shifts has a centre")
    }

    /// What the preparation of images asks for.
    pub(super) fn search_settings(&self) -> SearchSettings {
        SearchSettings {
            pixel_size_angstrom: self.settings.pixel_size_angstrom,
            mask_diameter_angstrom: self.settings.mask_diameter_angstrom,
            k_max: self.settings.k_max,
            max_shift_px: self.settings.max_shift_px,
            shift_step_px: 1.0,
            order: 0,
            candidate_count: 1,
            mode: ScoreMode::Likelihood,
            trust: Trust::Independent,
        }
    }
}

/// An image as the preparation takes it.
pub(super) fn unplaced<'a>(pixels: &'a [f32], ctf: &crate::ctf::CtfParams) -> ParticleImage<'a> {
    ParticleImage {
        pixels,
        ctf: *ctf,
        prior_shift_px: [0.0; 2],
        starts: &[],
    }
}

fn check(settings: &ClassSettings) -> Result<(), SearchError> {
    let n = settings.box_size_px as f64;
    let bounds = [
        ("box size", n, 8.0, BOX_SIZE_PX_MAX as f64),
        ("pixel size", settings.pixel_size_angstrom, 1e-3, 1e3),
        (
            "mask diameter",
            settings.mask_diameter_angstrom / settings.pixel_size_angstrom,
            1.0,
            n,
        ),
        ("maximum shift", settings.max_shift_px, 0.0, n / 2.0),
        (
            "resolution limit",
            settings.k_max as f64,
            1.0,
            n / 2.0 - 1.0,
        ),
    ];
    match bounds
        .into_iter()
        .find(|(_, value, low, high)| !(low..=high).contains(&value))
    {
        Some((name, value, ..)) => Err(SearchError::Setting { name, value }),
        None => Ok(()),
    }
}

fn shift_step_px(settings: &ClassSettings) -> f64 {
    let wave_px = settings.box_size_px as f64 / settings.k_max as f64;
    (wave_px / STEPS_PER_WAVE)
        .max(settings.max_shift_px / SHIFT_STEPS_MAX)
        .max(SHIFT_STEP_PX_MIN)
}

/// A disc of shifts.
fn shifts(settings: &ClassSettings) -> Vec<[f64; 2]> {
    let step_px = shift_step_px(settings);
    let steps = (settings.max_shift_px / step_px) as isize;
    let mut shifts = Vec::new();
    for y in -steps..=steps {
        for x in -steps..=steps {
            let shift = [x as f64 * step_px, y as f64 * step_px];
            if shift[0] * shift[0] + shift[1] * shift[1] <= settings.max_shift_px.powi(2) {
                shifts.push(shift);
            }
        }
    }
    shifts
}
