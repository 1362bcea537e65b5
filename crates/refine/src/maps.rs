//! From both halves' sums to maps: what the round found, and what the next one compares with.

use crate::{error::RefineError, schedule::FSC_RESOLUTION};
use dewar_compute::{
    fsc,
    mask::{self, AutoMask},
    noise,
    reconstruct::{MergedSums, Partial, Prior, Sums, tau2_from_fsc},
    symmetry::PointGroup,
    volume::Volume,
};
use dewar_proto::em::v1;
use std::{fs, io::Write as _, path::Path};
use tempfile::{NamedTempFile, TempPath};

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

/// The maps a refinement ends with.
#[derive(Debug, Clone)]
pub struct FinalMaps {
    /// Unfiltered, from one half-set each.
    pub halves: [Volume; 2],
    /// Wiener-filtered, from all particles.
    pub map: Volume,
    /// Of the unfiltered, unmasked half-maps, by shell.
    pub fsc: Vec<f64>,
    /// First shell, between integers, below 0.143.
    pub resolution_shell: f64,
}

/// A half's total sums as they came, in a file that goes with this.
#[derive(Debug)]
pub struct Total(TempPath);

impl Total {
    /// Keeps the bytes in a file of this folder.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn keep(folder: &Path, bytes: &[u8]) -> Result<Self, RefineError> {
        let kept = NamedTempFile::new_in(folder).and_then(|mut file| {
            file.write_all(bytes)?;
            Ok(file.into_temp_path())
        });
        kept.map(Self).map_err(|source| RefineError::Write {
            path: folder.to_owned(),
            source,
        })
    }

    fn add_to(&self, sums: &mut Option<Sums>) -> Result<(), RefineError> {
        let bytes = fs::read(&self.0).map_err(wrong)?;
        let partial = Partial::of(&bytes)
            .map_err(|error| RefineError::Output(format!("a half-set's sums: {error}")))?;
        sums.get_or_insert_with(|| Sums::new(partial.shape()))
            .add_partial(&partial)
            .map_err(wrong)
    }
}

/// How maps are made of sums.
#[derive(Debug, Clone, Copy)]
pub struct Making {
    /// The structure's point group.
    pub group: PointGroup,
    /// Of the maps.
    pub pixel_size_angstrom: f64,
    /// Diameter of the mask on references.
    pub mask_diameter_angstrom: f64,
}

/// Makes the maps of one round from the halves' totals.
///
/// Only the FSC crosses between the halves: each reference is made from its own sums.
///
/// # Errors
/// If the totals are not sums of one shape.
pub fn from_totals(totals: &[Total; 2], making: &Making) -> Result<RoundMaps, RefineError> {
    let merged = [making.merged(&totals[..1])?, making.merged(&totals[1..])?];
    let n = merged[0].shape().n();
    let halves = merged.each_ref().map(|sums| sums.reconstruct(Prior::None));
    let (curve, resolution_shell) = making.compared(&halves)?;
    let radius_px = making.mask_diameter_angstrom / 2.0 / making.pixel_size_angstrom;
    let sphere = mask::spherical(n, radius_px, MASK_EDGE_PX).map_err(wrong)?;
    let references = merged.map(|sums| {
        let mut reference = sums.reconstruct(Prior::Tau2(&tau2_from_fsc(&curve, &sums)));
        mask::apply(&mut reference, &sphere);
        reference
    });
    let map = making.joined(totals, &curve)?;
    let mask = mask::automatic(&map, making.pixel_size_angstrom, &AutoMask::default());
    Ok(RoundMaps {
        halves,
        references,
        map,
        mask,
        fsc: curve,
        resolution_shell,
    })
}

/// Makes the maps a refinement ends with. One half's sums are in memory at a time: at this padding they are the largest
/// thing there is.
///
/// # Errors
/// If the totals are not sums of one shape.
pub fn at_the_end(totals: &[Total; 2], making: &Making) -> Result<FinalMaps, RefineError> {
    let half = |total| -> Result<Volume, RefineError> {
        Ok(making.merged(total)?.reconstruct(Prior::None))
    };
    let halves = [half(&totals[..1])?, half(&totals[1..])?];
    let (fsc, resolution_shell) = making.compared(&halves)?;
    let map = making.joined(totals, &fsc)?;
    Ok(FinalMaps {
        halves,
        map,
        fsc,
        resolution_shell,
    })
}

impl Making {
    /// The sums of these totals together, with the point group applied.
    fn merged(&self, totals: &[Total]) -> Result<MergedSums, RefineError> {
        let mut sums: Option<Sums> = None;
        for total in totals {
            total.add_to(&mut sums)?;
        }
        let sums = sums.ok_or_else(|| RefineError::Output("there are no sums".to_owned()))?;
        Ok(sums.merge(&self.group.operators()))
    }

    /// The FSC of half-maps, and the shell where it falls below 0.143. A curve that never falls means detail to the edge
    /// of the box.
    fn compared(&self, halves: &[Volume; 2]) -> Result<(Vec<f64>, f64), RefineError> {
        let n = halves[0].n();
        let curve = fsc::fsc(&halves[0], &halves[1], None).map_err(wrong)?;
        let resolution = fsc::resolution_at(&curve, FSC_RESOLUTION, n, self.pixel_size_angstrom);
        let box_angstrom = n as f64 * self.pixel_size_angstrom;
        let shell = resolution.map_or(n as f64 / 2.0, |angstrom| box_angstrom / angstrom);
        Ok((curve, shell))
    }

    /// The map of all particles, filtered by what its halves' curve says of the whole.
    fn joined(&self, totals: &[Total; 2], curve: &[f64]) -> Result<Volume, RefineError> {
        let sums = self.merged(totals)?;
        let of_whole: Vec<f64> = curve
            .iter()
            .map(|half| 2.0 * half.max(0.0) / (1.0 + half.max(0.0)))
            .collect();
        Ok(sums.reconstruct(Prior::Tau2(&tau2_from_fsc(&of_whole, &sums))))
    }
}

fn wrong(error: impl std::error::Error) -> RefineError {
    RefineError::Output(error.to_string())
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
