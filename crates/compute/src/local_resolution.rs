//! How far half-maps agree at each place.
//!
//! A soft ball is moved over a lattice; inside of it the halves are correlated, and what the ball itself adds is taken off
//! by random phases, as for the whole map (see [`crate::postprocess`]; Cardone et al. 2013, doi
//! 10.1016/j.jsb.2013.08.002, for local curves). Points are independent: callers share them among threads.

mod lattice;
#[cfg(test)]
mod tests;

use num_complex::Complex32;

use crate::fft::{RealFft3, half_space_len};
use crate::fsc::{fsc_of_transforms, resolution_at};
use crate::mask;
use crate::postprocess::{corrected, phases_randomised};
use crate::volume::Volume;

pub use lattice::Lattice;

/// The ball at full weight. Smaller, and too few independent values are left in a shell; larger, and it is not local.
const RADIUS_ANGSTROM: f64 = 12.5;

/// How far the ball's edge reaches beyond: as wide, so that the ball alone adds little.
const EDGE_ANGSTROM: f64 = 25.0;

/// Phases are random from here on. Coarser detail is the same everywhere.
const RANDOMISE_FROM_ANGSTROM: f64 = 25.0;

/// Nothing coarser is told.
const COARSEST_ANGSTROM: f64 = 50.0;

/// Two half-maps and the ball that is moved over them.
pub struct LocalResolution<'a> {
    halves: [&'a Volume; 2],
    randomised: [Volume; 2],
    ball: Volume,
    pixel_size_angstrom: f64,
}

/// What one thread works in.
pub struct Scratch {
    fft: RealFft3,
    cube: Vec<f32>,
    transforms: [Vec<Complex32>; 2],
}

impl<'a> LocalResolution<'a> {
    /// Prepares half-maps of one box.
    ///
    /// # Panics
    /// If the boxes differ.
    pub fn new(halves: [&'a Volume; 2], pixel_size_angstrom: f64, seed: u64) -> Self {
        let n = halves[0].n();
        assert_eq!(n, halves[1].n(), "half-maps");
        let from = (n as f64 * pixel_size_angstrom / RANDOMISE_FROM_ANGSTROM).max(1.0) as usize;
        Self {
            halves,
            randomised: [0, 1].map(|half| phases_randomised(halves[half], from, seed, half as u64)),
            ball: ball(n, pixel_size_angstrom),
            pixel_size_angstrom,
        }
    }

    /// What a thread needs for [`at`](Self::at).
    pub fn scratch(&self) -> Scratch {
        let n = self.ball.n();
        Scratch {
            fft: RealFft3::new(n).expect("the ball's box is a box"),
            cube: vec![0.0; n * n * n],
            transforms: [0, 1].map(|_| vec![Complex32::ZERO; half_space_len(n)]),
        }
    }

    /// The resolution about a voxel (x, y, z), in Å.
    pub fn at(&self, voxel: [usize; 3], scratch: &mut Scratch) -> f64 {
        let mut curve = self.curve(self.halves, voxel, scratch);
        let [first, second] = &self.randomised;
        let randomised = self.curve([first, second], voxel, scratch);
        let box_angstrom = self.ball.n() as f64 * self.pixel_size_angstrom;
        // The ball smears the step between kept and random phases over a shell.
        let from = (box_angstrom / RANDOMISE_FROM_ANGSTROM + 1.0).ceil() as usize;
        for shell in from..curve.len() {
            curve[shell] = corrected(curve[shell], randomised[shell]);
        }
        resolution_at(&curve, 0.143, self.ball.n(), self.pixel_size_angstrom)
            .unwrap_or(2.0 * self.pixel_size_angstrom)
            .min(COARSEST_ANGSTROM)
    }

    fn curve(&self, maps: [&Volume; 2], voxel: [usize; 3], scratch: &mut Scratch) -> Vec<f64> {
        for (map, transform) in maps.into_iter().zip(&mut scratch.transforms) {
            cut(map, voxel, &self.ball, &mut scratch.cube);
            scratch.fft.forward(&scratch.cube, transform);
        }
        fsc_of_transforms(
            self.ball.n(),
            &scratch.transforms[0],
            &scratch.transforms[1],
        )
    }
}

/// The ball in the smallest box that holds it and transforms fast, no larger than the map's.
fn ball(n: usize, pixel_size_angstrom: f64) -> Volume {
    let (radius_px, edge_px) = (
        RADIUS_ANGSTROM / pixel_size_angstrom,
        EDGE_ANGSTROM / pixel_size_angstrom,
    );
    let side = (2.0 * (radius_px + edge_px)).ceil() as usize;
    let fast = (side.max(4)..).find(|&side| side.is_multiple_of(2) && has_small_factors(side));
    let side = fast.expect("powers of two have no end").min(n);
    mask::spherical(side, radius_px, edge_px).expect("no larger than a map")
}

fn has_small_factors(mut number: usize) -> bool {
    for factor in [2, 3, 5] {
        while number.is_multiple_of(factor) {
            number /= factor;
        }
    }
    number == 1
}

/// What of `map` lies in the ball about `voxel`; beyond the map there is nothing.
fn cut(map: &Volume, voxel: [usize; 3], ball: &Volume, cube: &mut [f32]) {
    let (n, side) = (map.n(), ball.n());
    let from = voxel.map(|at| at as isize - (side / 2) as isize);
    let inside = |at: isize| (0..n as isize).contains(&at);
    for (row, target) in cube.chunks_exact_mut(side).enumerate() {
        let (y, z) = (
            from[1] + (row % side) as isize,
            from[2] + (row / side) as isize,
        );
        if !inside(y) || !inside(z) {
            target.fill(0.0);
            continue;
        }
        let source = (z as usize * n + y as usize) * n;
        let weights = &ball.data()[row * side..][..side];
        for (x, (value, weight)) in target.iter_mut().zip(weights).enumerate() {
            let x = from[0] + x as isize;
            *value = if inside(x) {
                map.data()[source + x as usize] * weight
            } else {
                0.0
            };
        }
    }
}
