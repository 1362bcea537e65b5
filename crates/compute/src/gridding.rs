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
    let n = volume.n();
    let factors: Vec<f32> = (0..n)
        .map(|index| {
            let x = std::f64::consts::PI * (index as f64 - (n / 2) as f64) / padded_n as f64;
            let sinc = if x == 0.0 { 1.0 } else { libm::sin(x) / x };
            (1.0 / (sinc * sinc)) as f32
        })
        .collect();
    for (index, row) in volume.data_mut().chunks_exact_mut(n).enumerate() {
        let outer = factors[index / n] * factors[index % n];
        for (value, factor) in row.iter_mut().zip(&factors) {
            *value *= outer * factor;
        }
    }
}
