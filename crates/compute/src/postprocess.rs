//! From two half-maps to one map to look at, and how far it can be believed.
//!
//! The correlation of the halves is measured inside a soft mask, and what the mask itself adds to it is taken off (Chen
//! et al. 2013, doi 10.1016/j.ultramic.2013.06.004). Their mean is then weighted by what the halves share, sharpened by a
//! B-factor and low-passed at the resolution where the corrected curve falls below 0.143 (Rosenthal and Henderson 2003,
//! doi 10.1016/j.jmb.2003.07.013).

mod curves;
mod guinier;
mod mtf;
mod outcome;
mod randomise;
mod sharpen;
#[cfg(test)]
mod tests;

use crate::fft::RealFft3;
use crate::fsc::{for_each_frequency, transform};
use crate::mask::{self, AutoMask};
use crate::volume::Volume;

pub use curves::Curves;
pub(crate) use curves::corrected;
pub use guinier::{FIT_FROM_ANGSTROM, FIT_TO_ANGSTROM, Fit};
pub use mtf::{Mtf, MtfError};
pub use outcome::{PostProcessError, PostProcessed, Resolution, Warning};
pub use randomise::phases_randomised;

/// A mask may overshoot 0 and 1 by this much, as resampling leaves it.
const MASK_TOLERANCE: f32 = 0.01;

/// How many steps [`postprocess`] tells of.
pub const STEP_COUNT: u64 = 6;

/// How to post-process.
#[derive(Debug, Clone, Default)]
pub struct Params {
    /// Of both half-maps and the mask.
    pub pixel_size_angstrom: f64,
    /// Around the particle, from 0 to 1; found in the maps if there is none.
    pub mask: Option<Volume>,
    /// What to sharpen by, negative; fitted if none is given.
    pub b_factor_angstrom2: Option<f64>,
    /// The detector's transfer, divided out.
    pub mtf: Option<Mtf>,
    /// What random phases grow from.
    pub seed: u64,
}

/// Measures two half-maps and makes a map of them. `progress` hears how many of [`STEP_COUNT`] steps are done.
///
/// # Errors
/// If the boxes differ, the half-maps are one and the same, or the mask is none.
pub fn postprocess(
    halves: [&Volume; 2],
    params: Params,
    progress: &mut dyn FnMut(u64),
) -> Result<PostProcessed, PostProcessError> {
    check(halves, &params)?;
    let (n, pixel_size_angstrom) = (halves[0].n(), params.pixel_size_angstrom);
    let mask = params.mask.unwrap_or_else(|| {
        mask::automatic_of_halves(halves, pixel_size_angstrom, &AutoMask::default())
    });
    check_mask(&mask)?;
    progress(1);
    let curves = curves::measure(halves, &mask, params.seed, &mut |step| progress(1 + step));
    let resolution = Resolution::of(&curves, n, pixel_size_angstrom);
    let mut warnings = outcome::warnings(&curves, &resolution, n, pixel_size_angstrom);

    let mean = halves[0].combined(halves[1], |a, b| (a + b) / 2.0);
    let weights = sharpen::weights(
        &curves.corrected,
        n,
        pixel_size_angstrom,
        params.mtf.as_ref(),
    );
    let mut amplitudes = shell_amplitude(&mean, &mask);
    for (amplitude, weight) in amplitudes.iter_mut().zip(&weights) {
        *amplitude *= weight;
    }
    let guinier = resolution
        .at_0_143
        .and_then(|limit| guinier::fit(&amplitudes, n, pixel_size_angstrom, limit));
    if let (None, None, Some(limit)) = (params.b_factor_angstrom2, guinier, resolution.at_0_143) {
        warnings.push(Warning::NoBFactor {
            resolution_angstrom: limit,
        });
    }
    if let (None, Some(fit)) = (params.b_factor_angstrom2, guinier)
        && !guinier::B_FACTORS_ANGSTROM2.contains(&fit.b_factor_angstrom2)
    {
        warnings.push(Warning::OddBFactor {
            b_factor_angstrom2: fit.b_factor_angstrom2,
        });
    }
    progress(5);
    let b_factor_angstrom2 = params
        .b_factor_angstrom2
        .or_else(|| guinier.map(|fit| fit.b_factor_angstrom2))
        .unwrap_or(0.0);
    let sharpened = resolution.at_0_143.map(|limit| {
        sharpen::sharpened(
            &mean,
            &weights,
            pixel_size_angstrom,
            b_factor_angstrom2,
            limit,
        )
    });
    progress(STEP_COUNT);
    Ok(PostProcessed {
        mask,
        curves,
        resolution,
        amplitudes,
        guinier,
        b_factor_angstrom2,
        sharpened,
        warnings,
    })
}

fn check(halves: [&Volume; 2], params: &Params) -> Result<(), PostProcessError> {
    let [first, second] = halves.map(Volume::n);
    let mask = params.mask.as_ref().map(Volume::n);
    if first != second || mask.is_some_and(|mask| mask != first) {
        return Err(PostProcessError::Boxes {
            first,
            second,
            mask,
        });
    }
    if halves[0] == halves[1] {
        return Err(PostProcessError::SameMap);
    }
    Ok(())
}

/// Whether a map can be a mask.
///
/// # Errors
/// If its values are not from 0 to 1, or nothing is inside.
pub fn check_mask(mask: &Volume) -> Result<(), PostProcessError> {
    let (min, max) = mask
        .data()
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), value| {
            (min.min(*value), max.max(*value))
        });
    if min < -MASK_TOLERANCE || max > 1.0 + MASK_TOLERANCE {
        return Err(PostProcessError::MaskRange { min, max });
    }
    if max <= MASK_TOLERANCE {
        return Err(PostProcessError::MaskEmpty);
    }
    Ok(())
}

/// The mean amplitude |F| in each shell from 0 to n/2 of what the mask leaves. Outside of it lies noise, which the weights,
/// measured inside, know nothing of.
fn shell_amplitude(map: &Volume, mask: &Volume) -> Vec<f64> {
    let n = map.n();
    let mut fft = RealFft3::new(n).expect("the box of a map is a box");
    let half = transform(&mut fft, map, Some(mask));
    let mut sums = vec![(0.0, 0.0); n / 2 + 1];
    for_each_frequency(n, |index, shell, multiplicity| {
        sums[shell].0 += multiplicity * f64::from(half[index].norm());
        sums[shell].1 += multiplicity;
    });
    sums.iter().map(|(sum, count)| sum / count).collect()
}
