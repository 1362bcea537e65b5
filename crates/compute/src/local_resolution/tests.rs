//! Maps that are better on one side than on the other.

use super::*;
use crate::filter::low_pass;
use crate::noise::GaussianNoise;

const N: usize = 48;
const PIXEL_ANGSTROM: f64 = 4.0;

fn white(seed: u64) -> Volume {
    let mut source = GaussianNoise::new(seed, 0);
    Volume::from_fn(N, |_, _, _| source.next()).unwrap()
}

fn mean_at(local: &LocalResolution<'_>, x: usize) -> f64 {
    let mut scratch = local.scratch();
    let places = [14, 20, 26, 32];
    let sum: f64 = places
        .iter()
        .flat_map(|&y| places.map(|z| [x, y, z]))
        .map(|voxel| local.at(voxel, &mut scratch))
        .sum();
    sum / 16.0
}

#[test]
fn each_side_has_its_own_resolution() {
    // To the right, what is finer than 16 A is noise, of each half's own.
    let (common, right) = (
        white(1),
        Volume::from_fn(N, |x, _, _| f64::from(x > 0.0)).unwrap(),
    );
    let coarse = low_pass(&common, PIXEL_ANGSTROM, 16.0);
    let halves = [2, 3].map(|seed| {
        let noise = white(seed);
        let fine = noise.combined(&low_pass(&noise, PIXEL_ANGSTROM, 16.0), |a, b| a - b);
        let poor = coarse.combined(&fine, |signal, noise| signal + 2.0 * noise);
        let rich = common.combined(&noise, |signal, noise| signal + 0.1 * noise);
        let worse = poor.combined(&rich, |poor, rich| poor - rich);
        rich.combined(
            &worse.combined(&right, |worse, right| worse * right),
            |a, b| a + b,
        )
    });
    let local = LocalResolution::new([&halves[0], &halves[1]], PIXEL_ANGSTROM, 1);
    let (left, right) = (mean_at(&local, 8), mean_at(&local, 40));
    assert!((left - 2.0 * PIXEL_ANGSTROM).abs() < 0.5, "{left}");
    assert!((14.0..18.0).contains(&right), "{right}");
}

#[test]
fn noise_is_coarse_everywhere() {
    let halves = [white(1), white(2)];
    let local = LocalResolution::new([&halves[0], &halves[1]], PIXEL_ANGSTROM, 1);
    let mean = mean_at(&local, 24);
    assert!(mean > 30.0, "{mean}");
}

#[test]
fn strong_coarse_detail_does_not_pass_for_fine() {
    let coarse = low_pass(&white(1), PIXEL_ANGSTROM, 30.0);
    let halves =
        [2, 3].map(|seed| coarse.combined(&white(seed), |signal, noise| 30.0 * signal + noise));
    let local = LocalResolution::new([&halves[0], &halves[1]], PIXEL_ANGSTROM, 1);
    let mean = mean_at(&local, 24);
    assert!(mean > 15.0, "{mean}");
}

#[test]
fn the_lattice_surrounds_the_mask_and_is_linear_between_points() {
    let mask = mask::spherical(16, 4.0, 2.0).unwrap();
    // 5 A by 2.5 A: every second voxel.
    let lattice = Lattice::around(&mask, 2.5);
    let voxels = lattice.voxels();
    assert!(voxels.len() > 100 && voxels.len() < 512, "{}", voxels.len());
    let plane = |[x, y, z]: [usize; 3]| 5.0 + x as f64 - 0.25 * y as f64 + 0.5 * z as f64;
    let values: Vec<f64> = voxels.into_iter().map(plane).collect();
    let map = lattice.map(&values, &mask);
    for (index, (value, weight)) in map.data().iter().zip(mask.data()).enumerate() {
        let expected = plane([index % 16, index / 16 % 16, index / 256]);
        let expected = if *weight > 0.0 { expected } else { 0.0 };
        assert!(
            (f64::from(*value) - expected).abs() < 1e-5,
            "{index}: {value} {expected}"
        );
    }
    let whole = Volume::from_fn(15, |_, _, _| 1.0).unwrap();
    let lattice = Lattice::around(&whole, 1.0);
    let threes = vec![3.0; lattice.voxels().len()];
    assert!(
        lattice
            .map(&threes, &whole)
            .data()
            .iter()
            .all(|value| *value == 3.0)
    );
}
