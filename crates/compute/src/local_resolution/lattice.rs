//! Where local resolution is measured, and what lies between.

use crate::volume::Volume;

/// How far apart points lie: resolution changes more slowly, since balls overlap.
const STEP_ANGSTROM: f64 = 5.0;

/// Points on a cubic lattice that surround every voxel of a mask.
#[derive(Debug, Clone)]
pub struct Lattice {
    n: usize,
    step: usize,
    /// Points an edge of the box.
    side: usize,
    /// Which of the side³ points are measured, x fastest.
    measured: Vec<usize>,
}

impl Lattice {
    /// Around the voxels where `mask` is above 0.
    pub fn around(mask: &Volume, pixel_size_angstrom: f64) -> Self {
        let n = mask.n();
        let step = (STEP_ANGSTROM / pixel_size_angstrom + 0.5).max(1.0) as usize;
        let side = (n - 1) / step + 1;
        let mut needed = vec![false; side * side * side];
        for (index, weight) in mask.data().iter().enumerate() {
            if *weight > 0.0 {
                let at = [index % n, index / n % n, index / n / n];
                corners(at, step, side).for_each(|(point, _)| needed[point] = true);
            }
        }
        let measured = (0..needed.len()).filter(|&point| needed[point]).collect();
        Self {
            n,
            step,
            side,
            measured,
        }
    }

    /// The voxels (x, y, z) to measure at.
    pub fn voxels(&self) -> Vec<[usize; 3]> {
        let side = self.side;
        let of = |&point: &usize| {
            [point % side, point / side % side, point / side / side].map(|at| at * self.step)
        };
        self.measured.iter().map(of).collect()
    }

    /// The map of what was measured at [`voxels`](Self::voxels), linear between them; 0 where `mask` is.
    ///
    /// # Panics
    /// If there is not one value a voxel, or the mask is another.
    pub fn map(&self, values: &[f64], mask: &Volume) -> Volume {
        assert_eq!(values.len(), self.measured.len(), "values");
        assert_eq!(mask.n(), self.n, "mask");
        let (n, side) = (self.n, self.side);
        let mut at_point = vec![0.0; side * side * side];
        for (point, value) in self.measured.iter().zip(values) {
            at_point[*point] = *value;
        }
        let mut out = mask.clone();
        for (index, value) in out.data_mut().iter_mut().enumerate() {
            let at = [index % n, index / n % n, index / n / n];
            *value = if *value > 0.0 {
                let shares =
                    corners(at, self.step, side).map(|(point, share)| share * at_point[point]);
                shares.sum::<f64>() as f32
            } else {
                0.0
            };
        }
        out
    }
}

/// The points about a voxel with their shares of it. Beyond the last point its own value goes on.
fn corners(voxel: [usize; 3], step: usize, side: usize) -> impl Iterator<Item = (usize, f64)> {
    let along = voxel.map(|at| {
        let (before, share) = (at / step, (at % step) as f64 / step as f64);
        [(before, 1.0 - share), ((before + 1).min(side - 1), share)]
    });
    (0..8).map(move |corner| {
        let [x, y, z] = [0, 1, 2].map(|axis| along[axis][corner >> axis & 1]);
        ((z.0 * side + y.0) * side + x.0, x.1 * y.1 * z.1)
    })
}
