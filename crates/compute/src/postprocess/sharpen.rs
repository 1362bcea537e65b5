//! The map to look at.

use super::mtf::Mtf;
use crate::filter::{filtered, low_pass_gain};
use crate::volume::Volume;

/// What each shell of the mean map is multiplied by before sharpening: its correlation with a perfect map, estimated from
/// that of the halves (Rosenthal and Henderson 2003), over the detector's transfer.
pub(super) fn weights(
    fsc: &[f64],
    n: usize,
    pixel_size_angstrom: f64,
    mtf: Option<&Mtf>,
) -> Vec<f64> {
    let box_angstrom = n as f64 * pixel_size_angstrom;
    fsc.iter()
        .enumerate()
        .map(|(shell, fsc)| {
            let fsc = fsc.clamp(0.0, 1.0);
            let transfer = mtf.map_or(1.0, |mtf| mtf.at(shell as f64 / box_angstrom));
            libm::sqrt(2.0 * fsc / (1.0 + fsc)) / transfer
        })
        .collect()
}

/// `map` weighted by shell, sharpened by e^(-B k²/4), and without what is finer than `limit_angstrom`.
pub(super) fn sharpened(
    map: &Volume,
    weights: &[f64],
    pixel_size_angstrom: f64,
    b_factor_angstrom2: f64,
    limit_angstrom: f64,
) -> Volume {
    let box_angstrom = map.n() as f64 * pixel_size_angstrom;
    filtered(map, |shell| {
        let frequency = shell / box_angstrom;
        let pass = low_pass_gain(shell, box_angstrom / limit_angstrom);
        // The corners of the transform belong to no shell.
        let weight = weights.get((shell + 0.5) as usize).copied().unwrap_or(0.0);
        pass * weight * libm::exp(-b_factor_angstrom2 * frequency * frequency / 4.0)
    })
}
