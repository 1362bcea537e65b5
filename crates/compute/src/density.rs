//! Density maps from atomic models.
//!
//! A model is drawn as a sum of Gaussians, band-limited: it is sampled finely enough that its narrowest Gaussian does not
//! alias, and the finer frequencies are then cut off. Grey values are scattering per voxel, so a map's sum is the model's
//! whole mass whatever the voxel.

use thiserror::Error;

use crate::filter;
use crate::volume::{BOX_SIZE_PX_MAX, SizeError, Volume};

/// The narrowest Gaussian that a grid may sample, in voxels. On a grid twice as fine as the map, what then aliases is below
/// a thousandth even at the map's Nyquist frequency.
const SIGMA_VOXELS_MIN: f64 = 0.8;

/// How fine the sampling may become, in voxels an edge; beyond, Gaussians are widened instead.
const FINE_BOX_PX_MAX: usize = 384;

/// Where a Gaussian is cut off, in sigmas: 2e-7 of its peak.
const CUTOFF_SIGMAS: f64 = 5.5;

/// The fall-off of an atom's own scattering, as a B factor in Å²: about that of carbon, nitrogen and oxygen for electrons.
const ATOM_B_FACTOR_ANGSTROM2: f64 = 10.0;

/// An atom of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Atom {
    /// Its position (x, y, z), in Å.
    pub position_angstrom: [f64; 3],
    /// How strongly it scatters: its atomic number, near enough.
    pub weight: f64,
    /// Its B factor, in Å².
    pub b_factor_angstrom2: f64,
    /// The part of all copies that have it, from 0 to 1.
    pub occupancy: f64,
}

/// A spherical Gaussian.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gaussian {
    /// Its centre (x, y, z), in Å from the map's origin.
    pub centre_angstrom: [f64; 3],
    /// Its width, in Å.
    pub sigma_angstrom: f64,
    /// Its integral.
    pub mass: f64,
}

/// Why no map can be drawn.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum DensityError {
    /// The model has no mass.
    #[error("the model has no atoms of positive weight and occupancy")]
    Empty,
    /// An atom's numbers are not usable.
    #[error("atom {index} has a position, weight, B factor or occupancy that is not usable")]
    Atom {
        /// Its place in the model, from 0.
        index: usize,
    },
    /// The voxel has no size.
    #[error("pixel size {0} Å is not positive")]
    PixelSize(f64),
    /// The box is none.
    #[error(transparent)]
    Size(#[from] SizeError),
}

/// The map of a model, its centre of mass at the origin. Each atom is a Gaussian of mass weight times occupancy whose width
/// joins its B factor and the fall-off common to light atoms. What lies outside the box is cut off.
pub fn from_atoms(
    atoms: &[Atom],
    n: usize,
    pixel_size_angstrom: f64,
) -> Result<Volume, DensityError> {
    let mut total = 0.0;
    let mut centre = [0.0; 3];
    for (index, atom) in atoms.iter().enumerate() {
        let mass = atom.mass().ok_or(DensityError::Atom { index })?;
        total += mass;
        for (sum, position) in centre.iter_mut().zip(atom.position_angstrom) {
            *sum += mass * position;
        }
    }
    if total <= 0.0 {
        return Err(DensityError::Empty);
    }
    let gaussians: Vec<Gaussian> = atoms
        .iter()
        .map(|atom| Gaussian {
            centre_angstrom: std::array::from_fn(|axis| {
                atom.position_angstrom[axis] - centre[axis] / total
            }),
            sigma_angstrom: sigma_of_b_factor(atom.b_factor_angstrom2 + ATOM_B_FACTOR_ANGSTROM2),
            mass: atom.weight * atom.occupancy,
        })
        .collect();
    from_gaussians(&gaussians, n, pixel_size_angstrom)
}

/// The map of a sum of Gaussians.
pub fn from_gaussians(
    gaussians: &[Gaussian],
    n: usize,
    pixel_size_angstrom: f64,
) -> Result<Volume, DensityError> {
    if !(pixel_size_angstrom.is_finite() && pixel_size_angstrom > 0.0) {
        return Err(DensityError::PixelSize(pixel_size_angstrom));
    }
    crate::volume::check_box(n)?;
    let narrowest = gaussians
        .iter()
        .map(|gaussian| gaussian.sigma_angstrom)
        .fold(f64::INFINITY, f64::min);
    let wanted = libm::ceil(SIGMA_VOXELS_MIN * pixel_size_angstrom / narrowest);
    let most = (FINE_BOX_PX_MAX / n).max(1);
    let oversampling = if wanted > 1.0 {
        (wanted.min(most as f64) as usize).min(BOX_SIZE_PX_MAX / n)
    } else {
        1
    };
    let voxel = pixel_size_angstrom / oversampling as f64;
    let mut fine = Volume::zeros(n * oversampling)?;
    for gaussian in gaussians {
        let sigma = gaussian.sigma_angstrom.max(SIGMA_VOXELS_MIN * voxel);
        draw(&mut fine, gaussian, sigma, voxel);
    }
    if oversampling == 1 {
        return Ok(fine);
    }
    // From scattering per fine voxel to scattering per voxel.
    let mut map = filter::resampled(&fine, n)?;
    let scale = (oversampling as f32).powi(3);
    map.data_mut().iter_mut().for_each(|grey| *grey *= scale);
    Ok(map)
}

/// The width in Å of the Gaussian whose transform is e^(-B s²/4).
pub fn sigma_of_b_factor(b_factor_angstrom2: f64) -> f64 {
    libm::sqrt(b_factor_angstrom2 / 8.0) / std::f64::consts::PI
}

impl Atom {
    /// Weight times occupancy, if all numbers are usable.
    fn mass(&self) -> Option<f64> {
        let positive = [self.weight, self.occupancy, self.b_factor_angstrom2]
            .iter()
            .all(|v| v.is_finite() && *v >= 0.0);
        let placed = self.position_angstrom.iter().all(|v| v.is_finite());
        (positive && placed).then_some(self.weight * self.occupancy)
    }
}

/// Adds a Gaussian, as the product of its three profiles.
fn draw(map: &mut Volume, gaussian: &Gaussian, sigma: f64, voxel: f64) {
    let n = map.n();
    let profiles = gaussian
        .centre_angstrom
        .map(|centre| profile(n, centre / voxel, sigma / voxel));
    let [(x0, along_x), (y0, along_y), (z0, along_z)] = &profiles;
    for (z, weight_z) in along_z.iter().enumerate() {
        for (y, weight_y) in along_y.iter().enumerate() {
            let weight = gaussian.mass * weight_z * weight_y;
            let start = ((z0 + z) * n + y0 + y) * n + x0;
            for (grey, weight_x) in map.data_mut()[start..].iter_mut().zip(along_x) {
                *grey += (weight * weight_x) as f32;
            }
        }
    }
}

/// The first voxel that a one-dimensional Gaussian touches in a row of `n`, and its values from there. All in voxels.
fn profile(n: usize, centre: f64, sigma: f64) -> (usize, Vec<f64>) {
    let origin = (n / 2) as f64;
    let low = libm::ceil(centre - CUTOFF_SIGMAS * sigma + origin).clamp(0.0, n as f64) as usize;
    let high =
        libm::floor(centre + CUTOFF_SIGMAS * sigma + origin + 1.0).clamp(0.0, n as f64) as usize;
    let norm = 1.0 / (sigma * libm::sqrt(std::f64::consts::TAU));
    let value = |index: usize| {
        let distance = (index as f64 - origin - centre) / sigma;
        norm * libm::exp(-0.5 * distance * distance)
    };
    (low, (low..high).map(value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fft::{RealFft3, half_space_len};
    use num_complex::Complex32;

    #[test]
    fn a_narrow_atom_on_coarse_voxels_has_the_right_transform() {
        // sigma 0.94 Å on voxels of 3 Å: drawn directly it would alias badly.
        let gaussian = Gaussian {
            centre_angstrom: [4.0, -2.5, 7.3],
            sigma_angstrom: sigma_of_b_factor(70.0),
            mass: 6.0,
        };
        let (n, pixel) = (24, 3.0);
        let map = from_gaussians(&[gaussian], n, pixel).unwrap();
        let mut half = vec![Complex32::ZERO; half_space_len(n)];
        RealFft3::new(n).unwrap().forward(map.data(), &mut half);
        for (kx, ky, kz) in [(0, 0, 0), (3, 0, 0), (2, 5, 1), (0, 0, 9), (7, 4, 3)] {
            let s = [kx, ky, kz].map(|k| k as f64 / (n as f64 * pixel));
            let s2: f64 = s.iter().map(|s| s * s).sum();
            let dot: f64 = s
                .iter()
                .zip(gaussian.centre_angstrom)
                .map(|(s, c)| s * c)
                .sum();
            let expected = num_complex::Complex64::from_polar(
                6.0 * libm::exp(-70.0 * s2 / 4.0),
                -std::f64::consts::TAU * dot,
            );
            let got = half[(kz * n + ky) * (n / 2 + 1) + kx];
            let difference =
                (f64::from(got.re) - expected.re).hypot(f64::from(got.im) - expected.im);
            assert!(difference < 0.01, "{kx} {ky} {kz}: {got} for {expected}");
        }
    }

    #[test]
    fn a_model_is_centred_and_keeps_its_mass() {
        let atom = |x: f64, weight: f64| Atom {
            position_angstrom: [100.0 + x, -50.0, 7.0],
            weight,
            // Smooth enough that the cut at Nyquist leaves no ripples to weigh.
            b_factor_angstrom2: 300.0,
            occupancy: 0.5,
        };
        let map = from_atoms(&[atom(0.0, 6.0), atom(9.0, 12.0)], 32, 1.5).unwrap();
        let (mut mass, mut moment) = (0.0, 0.0);
        for (index, grey) in map.data().iter().enumerate() {
            mass += f64::from(*grey);
            moment += f64::from(*grey) * ((index % 32) as f64 - 16.0);
        }
        assert!((mass - 9.0).abs() < 0.01, "{mass}");
        assert!((moment / mass).abs() < 0.01, "{moment}");
        // What is out of the box, however far, is left out without harm.
        let far = Gaussian {
            centre_angstrom: [1e9, 0.0, -1e9],
            sigma_angstrom: 1.0,
            mass: 1.0,
        };
        assert!(
            from_gaussians(&[far], 8, 1.0)
                .unwrap()
                .data()
                .iter()
                .all(|grey| *grey == 0.0)
        );
    }

    #[test]
    fn unusable_models_are_refused() {
        assert_eq!(from_atoms(&[], 8, 1.0), Err(DensityError::Empty));
        let atom = Atom {
            position_angstrom: [0.0; 3],
            weight: 6.0,
            b_factor_angstrom2: -1.0,
            occupancy: 1.0,
        };
        assert_eq!(
            from_atoms(&[atom], 8, 1.0),
            Err(DensityError::Atom { index: 0 })
        );
        let atom = Atom {
            b_factor_angstrom2: 0.0,
            ..atom
        };
        assert!(matches!(
            from_atoms(&[atom], 8, f64::NAN),
            Err(DensityError::PixelSize(_))
        ));
        assert!(from_atoms(&[atom], 0, 1.0).is_err());
    }
}
