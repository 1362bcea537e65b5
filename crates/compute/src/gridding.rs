//! The real-space trace of trilinear interpolation in Fourier space, and its removal.
//!
//! Interpolating linearly between samples of a transform multiplies the object by sinc² of the position over the padded
//! box, along each axis. Projection divides by it beforehand, reconstruction afterwards.

use crate::volume::Volume;

/// The edge of the even padded box for box `n`.
pub(crate) fn padded_size(n: usize, padding: f64) -> usize {
    let padded = libm::ceil(n as f64 * padding) as usize;
    padded + padded % 2
}

/// Divides `volume` by the sinc² that trilinear interpolation in a transform of edge `padded_n` leaves.
pub(crate) fn correct(volume: &mut Volume, padded_n: usize) {
    correct_twice(volume, padded_n, 0.0);
}

/// The same where the share `interpolated_again` of what the transform consists of was interpolated a second time.
pub(crate) fn correct_twice(volume: &mut Volume, padded_n: usize, interpolated_again: f64) {
    let n = volume.n();
    let traces: Vec<f64> = (0..n)
        .map(|index| {
            let x = std::f64::consts::PI * (index as f64 - (n / 2) as f64) / padded_n as f64;
            let sinc = if x == 0.0 { 1.0 } else { libm::sin(x) / x };
            sinc * sinc
        })
        .collect();
    for (index, row) in volume.data_mut().chunks_exact_mut(n).enumerate() {
        let outer = traces[index / n] * traces[index % n];
        for (value, trace) in row.iter_mut().zip(&traces) {
            let once = outer * trace;
            let all = once * (1.0 - interpolated_again + interpolated_again * once);
            *value = (f64::from(*value) / all) as f32;
        }
    }
}
