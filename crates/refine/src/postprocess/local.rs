//! Local resolution, on all cores.

use dewar_compute::{
    local_resolution::{Lattice, LocalResolution},
    volume::Volume,
};
use std::{
    num::NonZero,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

/// The map of local resolution, and what it comes to.
#[derive(Debug, Clone)]
pub struct Local {
    /// In Å; 0 outside of the mask.
    pub map: Volume,
    /// Of voxels well inside the mask: what a tenth of them are better than, half, and nine tenths.
    pub p10_p50_p90_angstrom: [f64; 3],
}

/// Measures it inside the mask. `progress` hears how many of how many points are done.
pub fn measure(
    halves: [&Volume; 2],
    mask: &Volume,
    pixel_size_angstrom: f64,
    seed: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Local {
    let local = LocalResolution::new(halves, pixel_size_angstrom, seed);
    let lattice = Lattice::around(mask, pixel_size_angstrom);
    let map = lattice.map(&at_all(&local, &lattice.voxels(), progress), mask);
    let mut inside: Vec<f32> = map
        .data()
        .iter()
        .zip(mask.data())
        .filter_map(|(angstrom, weight)| (*weight >= 0.5).then_some(*angstrom))
        .collect();
    inside.sort_by(f32::total_cmp);
    // A mask that is nowhere so high is still above 0 somewhere.
    let at = |tenths: usize| {
        inside
            .get(inside.len().saturating_sub(1) * tenths / 10)
            .map_or(0.0, |angstrom| f64::from(*angstrom))
    };
    Local {
        p10_p50_p90_angstrom: [at(1), at(5), at(9)],
        map,
    }
}

/// Each voxel's value, in order. Threads take the next voxel as they come; the values do not depend on who computes them.
fn at_all(
    local: &LocalResolution<'_>,
    voxels: &[[usize; 3]],
    progress: &mut dyn FnMut(u64, u64),
) -> Vec<f64> {
    let mut values = vec![0.0; voxels.len()];
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                let mut scratch = local.scratch();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(voxel) = voxels.get(index) else {
                        break;
                    };
                    let value = local.at(*voxel, &mut scratch);
                    sender
                        .send((index, value))
                        .expect("the receiver outlives the threads");
                }
            });
        }
        drop(sender);
        for (done, (index, value)) in receiver.iter().enumerate() {
            values[index] = value;
            progress(done as u64 + 1, voxels.len() as u64);
        }
    });
    values
}
