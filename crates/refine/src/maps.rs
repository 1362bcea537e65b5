//! From both halves' sums to maps: what the round found, and what the next one compares with.

use crate::{error::RefineError, schedule::FSC_RESOLUTION};
use bytes::Bytes;
use dewar_compute::{
    fsc,
    mask::{self, AutoMask},
    noise,
    reconstruct::{Accumulator, Prior, Sums, tau2_from_fsc},
    symmetry::PointGroup,
    volume::Volume,
};
use dewar_proto::em::v1;

/// Soft edge of the mask on references.
const MASK_EDGE_PX: f64 = 5.0;

/// Values a shell's residual must rest on before it replaces the earlier estimate.
const RESIDUAL_VALUES_MIN: f64 = 200.0;

/// The maps of one round.
#[derive(Debug, Clone)]
pub struct RoundMaps {
    /// Unfiltered, from one half-set each.
    pub halves: [Volume; 2],
    /// Wiener-filtered and masked: what the next round compares each half with.
    pub references: [Volume; 2],
    /// Wiener-filtered, from all particles.
    pub map: Volume,
    /// Around the particle.
    pub mask: Volume,
    /// Of the unfiltered, unmasked half-maps, by shell.
    pub fsc: Vec<f64>,
    /// First shell, between integers, below 0.143.
    pub resolution_shell: f64,
}

impl RoundMaps {
    /// The maps with their file names.
    pub fn named(&self) -> [(&'static str, &Volume); 6] {
        [
            ("half1.mrc", &self.halves[0]),
            ("half2.mrc", &self.halves[1]),
            ("reference1.mrc", &self.references[0]),
            ("reference2.mrc", &self.references[1]),
            ("map.mrc", &self.map),
            ("mask.mrc", &self.mask),
        ]
    }
}

/// Makes the maps of one round from the halves' totals.
///
/// Only the FSC crosses between the halves: each reference is made from its own sums.
///
/// # Errors
/// If the totals are not sums of one shape.
pub fn from_totals(
    totals: &[Bytes; 2],
    group: &PointGroup,
    pixel_size_angstrom: f64,
    mask_diameter_angstrom: f64,
) -> Result<RoundMaps, RefineError> {
    let parts = [parse(&totals[0])?, parse(&totals[1])?];
    let operators = group.operators();
    let sums_of = |parts: &[&Accumulator]| -> Result<_, RefineError> {
        let mut sums = Sums::new(parts[0].shape());
        for part in parts {
            sums.add(part)
                .map_err(|error| RefineError::Output(error.to_string()))?;
        }
        Ok(sums.merge(&operators))
    };
    let merged = [sums_of(&[&parts[0]])?, sums_of(&[&parts[1]])?];
    let n = merged[0].shape().n();
    let halves = merged.each_ref().map(|sums| sums.reconstruct(Prior::None));
    let curve = fsc::fsc(&halves[0], &halves[1], None)
        .map_err(|error| RefineError::Output(error.to_string()))?;

    let edge_angstrom = mask_diameter_angstrom / 2.0;
    let sphere = mask::spherical(n, edge_angstrom / pixel_size_angstrom, MASK_EDGE_PX)
        .map_err(|error| RefineError::Output(error.to_string()))?;
    let references = merged.each_ref().map(|sums| {
        let mut reference = sums.reconstruct(Prior::Tau2(&tau2_from_fsc(&curve, sums)));
        mask::apply(&mut reference, &sphere);
        reference
    });
    let joined = sums_of(&[&parts[0], &parts[1]])?;
    let of_whole: Vec<f64> = curve
        .iter()
        .map(|half| 2.0 * half.max(0.0) / (1.0 + half.max(0.0)))
        .collect();
    let map = joined.reconstruct(Prior::Tau2(&tau2_from_fsc(&of_whole, &joined)));

    let box_angstrom = n as f64 * pixel_size_angstrom;
    let resolution = fsc::resolution_at(&curve, FSC_RESOLUTION, n, pixel_size_angstrom);
    // A curve that never falls means detail to the edge of the box.
    let resolution_shell = resolution.map_or(n as f64 / 2.0, |angstrom| box_angstrom / angstrom);
    let mask = mask::automatic(&map, pixel_size_angstrom, &AutoMask::default());
    Ok(RoundMaps {
        halves,
        references,
        map,
        mask,
        fsc: curve,
        resolution_shell,
    })
}

fn parse(bytes: &[u8]) -> Result<Accumulator, RefineError> {
    Accumulator::from_bytes(bytes)
        .map_err(|error| RefineError::Output(format!("a half-set's sums: {error}")))
}

/// The noise each optics group's images were found to have: half the mean power of what the references left over
/// (Scheres 2012, doi 10.1016/j.jsb.2012.09.006, eq. 7 with one pose). Shells that rest on too few values keep theirs.
pub fn noise_from_residuals(
    residuals: &[v1::ResidualPower],
    before: &[v1::NoiseSpectrum],
) -> Vec<Vec<f64>> {
    residuals
        .iter()
        .zip(before)
        .map(|(residual, before)| {
            let mut sigma2 = before.sigma2.clone();
            for ((sigma2, power), count) in
                sigma2.iter_mut().zip(&residual.power).zip(&residual.count)
            {
                if *count >= RESIDUAL_VALUES_MIN && *power > 0.0 {
                    *sigma2 = power / (2.0 * count);
                }
            }
            noise::floor_sigma2(&mut sigma2);
            sigma2
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_follows_residuals_where_they_say_enough() {
        let before = [v1::NoiseSpectrum {
            sigma2: vec![1.0, 2.0, 3.0],
        }];
        let residuals = [v1::ResidualPower {
            power: vec![10.0, 2_000.0, 0.0],
            count: vec![1.0, 500.0, 0.0],
        }];
        assert_eq!(noise_from_residuals(&residuals, &before), [[1.0, 2.0, 3.0]]);
        let residuals = [v1::ResidualPower {
            power: vec![10.0, 4_000.0, 0.0],
            count: vec![1.0, 500.0, 0.0],
        }];
        assert_eq!(noise_from_residuals(&residuals, &before), [[1.0, 4.0, 3.0]]);
    }
}
