//! What post-processing finds, and what it thinks of it.

use std::fmt;
use std::ops::RangeInclusive;

use super::{Curves, FIT_FROM_ANGSTROM, FIT_TO_ANGSTROM, Fit};
use crate::fsc::resolution_at;
use crate::volume::Volume;
use thiserror::Error;

/// Above this at the resolution found, the mask's share of the correlation is too large to be taken off with confidence.
const MASK_SHARE_MAX: f64 = 0.1;

/// The shells at which maps of one particle agree, whatever their quality.
pub(super) const COARSEST: RangeInclusive<usize> = 1..=3;

/// Halves whose curve is on average below this there agree nowhere but by chance or by their common mask. These shells have
/// some 20, 60 and 110 independent values: the mean scatters by 0.1 where there is nothing but noise.
const SHARED_MIN: f64 = 0.4;

/// Why two maps cannot be post-processed.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum PostProcessError {
    /// The boxes differ.
    #[error(
        "the half-maps are of {first} px and {second} px{}; expected one box",
        mask.map_or(String::new(), |mask| format!(", the mask of {mask} px"))
    )]
    Boxes {
        /// The edge of the first half-map.
        first: usize,
        /// The edge of the second.
        second: usize,
        /// The edge of the mask, if one is given.
        mask: Option<usize>,
    },
    /// One map twice: its halves would agree perfectly.
    #[error("both half-maps hold the same values; expected two independent maps")]
    SameMap,
    /// Some other map was given as the mask.
    #[error("the mask goes from {min} to {max}; expected values from 0 to 1")]
    MaskRange {
        /// Its lowest value.
        min: f32,
        /// Its highest.
        max: f32,
    },
    /// Nothing is inside.
    #[error("the mask is empty")]
    MaskEmpty,
}

/// What came of two half-maps.
#[derive(Debug, Clone)]
pub struct PostProcessed {
    /// The mask that was used.
    pub mask: Volume,
    /// The FSC.
    pub curves: Curves,
    /// Where the corrected curve ends.
    pub resolution: Resolution,
    /// The mean amplitude of the weighted mean map inside the mask, by shell: what the B-factor is fitted to.
    pub amplitudes: Vec<f64>,
    /// The fit; none if the resolution does not reach into its range.
    pub guinier: Option<Fit>,
    /// What the map was sharpened by.
    pub b_factor_angstrom2: f64,
    /// The mean of the halves, weighted, sharpened and low-passed, not masked; none if they share nothing.
    pub sharpened: Option<Volume>,
    /// What the user should know.
    pub warnings: Vec<Warning>,
}

/// Where the corrected curve first falls below a threshold, in Å; twice the pixel size if it never does; none if the
/// half-maps share nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resolution {
    /// Below 0.143.
    pub at_0_143: Option<f64>,
    /// Below 0.5.
    pub at_0_5: Option<f64>,
}

impl Resolution {
    pub(super) fn of(curves: &Curves, n: usize, pixel_size_angstrom: f64) -> Self {
        let share_something = mean(&curves.unmasked, COARSEST) >= SHARED_MIN;
        let at = |threshold| {
            share_something.then(|| {
                resolution_at(&curves.corrected, threshold, n, pixel_size_angstrom)
                    .unwrap_or(2.0 * pixel_size_angstrom)
            })
        };
        Self {
            at_0_143: at(0.143),
            at_0_5: at(0.5),
        }
    }
}

/// What the user should know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Warning {
    /// The halves do not share even their coarsest detail.
    NothingShared,
    /// The mask itself makes the halves alike.
    MaskTooTight {
        /// The correlation of maps with random phases about the resolution found.
        randomised_fsc: f64,
    },
    /// Finer detail would need smaller pixels.
    AgreesToNyquist,
    /// Too little lies within the fit's range.
    NoBFactor {
        /// The resolution, in Å.
        resolution_angstrom: f64,
    },
    /// What was fitted is not known of any particle.
    OddBFactor {
        /// It.
        b_factor_angstrom2: f64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingShared => f.write_str(
                "the half-maps share nothing, not even at the coarsest shells: no resolution, no sharpened map",
            ),
            Self::MaskTooTight { randomised_fsc } => write!(
                f,
                "the mask is too tight or too sharp: with random phases the FSC about the resolution is still \
                 {randomised_fsc:.2}; expected below {MASK_SHARE_MAX}"
            ),
            Self::AgreesToNyquist => f.write_str(
                "the half-maps agree down to twice the pixel size: the resolution is the pixels', not the maps'",
            ),
            Self::NoBFactor {
                resolution_angstrom,
            } => write!(
                f,
                "the resolution of {resolution_angstrom:.2} A does not let a B-factor be fitted, which needs {FIT_FROM_ANGSTROM} to \
                 {FIT_TO_ANGSTROM:.1} A; the map is not sharpened (give a B-factor to sharpen it by)"
            ),
            Self::OddBFactor { b_factor_angstrom2 } => write!(
                f,
                "the fitted B-factor of {b_factor_angstrom2:.0} A^2 is no usual one (-1000 to 0): look at the Guinier plot, and give \
                 another one if the map looks wrong"
            ),
        }
    }
}

/// What is odd about the curves.
pub(super) fn warnings(
    curves: &Curves,
    resolution: &Resolution,
    n: usize,
    pixel_size_angstrom: f64,
) -> Vec<Warning> {
    let Some(angstrom) = resolution.at_0_143 else {
        return vec![Warning::NothingShared];
    };
    let answer = (n as f64 * pixel_size_angstrom / angstrom + 0.5) as usize;
    // One shell alone scatters as much as the bound is high where shells are small.
    let randomised_fsc = mean(&curves.randomised, answer.saturating_sub(1)..=answer + 1);
    let told = curves.corrected_from().is_some_and(|from| answer >= from);
    if told && randomised_fsc > MASK_SHARE_MAX {
        return vec![Warning::MaskTooTight { randomised_fsc }];
    }
    match resolution_at(&curves.corrected, 0.143, n, pixel_size_angstrom) {
        Some(_) => Vec::new(),
        None => vec![Warning::AgreesToNyquist],
    }
}

/// The mean over those of the shells that there are.
fn mean(curve: &[f64], shells: RangeInclusive<usize>) -> f64 {
    let last = (*shells.end()).min(curve.len() - 1);
    let values = &curve[(*shells.start()).min(last)..=last];
    values.iter().sum::<f64>() / values.len() as f64
}
