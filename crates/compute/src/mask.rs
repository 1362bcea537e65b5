//! Soft masks.
//!
//! A mask is a map or an image of values from 0 to 1. Edges fall from 1 to 0 as a raised cosine, outside the radius given.

mod specks;

use std::f64::consts::PI;

use crate::filter;
use crate::volume::{Image, SizeError, Volume};

/// How far above 0, in standard deviations of the noise, a voxel must be to be taken for particle: of a million voxels of
/// noise a thousand are, in specks.
const NOISE_SDS: f32 = 3.0;

/// 1 within `radius_px` of the origin, 0 beyond `radius_px + edge_px`.
pub fn spherical(n: usize, radius_px: f64, edge_px: f64) -> Result<Volume, SizeError> {
    Volume::from_fn(n, |x, y, z| {
        edge(libm::sqrt(x * x + y * y + z * z) - radius_px, edge_px)
    })
}

/// 1 within `radius_px` of the origin, 0 beyond `radius_px + edge_px`.
pub fn circular(n: usize, radius_px: f64, edge_px: f64) -> Result<Image, SizeError> {
    Image::from_fn(n, |x, y| {
        edge(libm::sqrt(x * x + y * y) - radius_px, edge_px)
    })
}

/// Multiplies a map by a mask of the same box.
///
/// # Panics
/// If the boxes differ.
pub fn apply(map: &mut Volume, mask: &Volume) {
    assert_eq!(map.n(), mask.n(), "mask");
    for (grey, weight) in map.data_mut().iter_mut().zip(mask.data()) {
        *grey *= weight;
    }
}

/// How a mask is found in a map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AutoMask {
    /// The map is low-passed to this resolution first.
    pub low_pass_angstrom: f64,
    /// Of the low-passed map, what counts as particle; if none, a fifth of the mean of its highest thousandth.
    pub threshold: Option<f32>,
    /// How far the mask reaches beyond, at full weight.
    pub dilation_px: f64,
    /// How far its edge reaches beyond that.
    pub edge_px: f64,
}

impl Default for AutoMask {
    fn default() -> Self {
        Self {
            low_pass_angstrom: 15.0,
            threshold: None,
            dilation_px: 3.0,
            edge_px: 6.0,
        }
    }
}

/// A mask around what stands out in `map`: low-passed, thresholded, dilated, with a soft edge.
pub fn automatic(map: &Volume, pixel_size_angstrom: f64, params: &AutoMask) -> Volume {
    let smooth = filter::low_pass(map, pixel_size_angstrom, params.low_pass_angstrom);
    let threshold = params
        .threshold
        .unwrap_or_else(|| default_threshold(&smooth));
    let inside: Vec<bool> = smooth.data().iter().map(|grey| *grey > threshold).collect();
    around(smooth, &inside, params)
}

/// The mask of particles among noise: [`automatic`] of the mean of two half-maps, with a threshold that noise does not
/// reach and without what is too small to be part of the particle.
///
/// How strong noise is, half their difference tells: the mean has as much of it. Where nothing stands out of it, the mask is
/// the sphere that fits the box.
pub fn automatic_of_halves(
    halves: [&Volume; 2],
    pixel_size_angstrom: f64,
    params: &AutoMask,
) -> Volume {
    let low_passed = |combine: fn(f32, f32) -> f32| {
        let map = halves[0].combined(halves[1], combine);
        filter::low_pass(&map, pixel_size_angstrom, params.low_pass_angstrom)
    };
    let noise_sd = root_mean_square(&low_passed(|a, b| (a - b) / 2.0));
    let smooth = low_passed(|a, b| (a + b) / 2.0);
    let threshold = params
        .threshold
        .unwrap_or_else(|| default_threshold(&smooth).max(NOISE_SDS * noise_sd));
    let mut inside: Vec<bool> = smooth.data().iter().map(|grey| *grey > threshold).collect();
    specks::remove(smooth.n(), &mut inside);
    if !inside.contains(&true) {
        let radius_px = smooth.n() as f64 / 2.0 - params.edge_px;
        return spherical(smooth.n(), radius_px, params.edge_px)
            .expect("the box of a map is a box");
    }
    around(smooth, &inside, params)
}

/// The voxels inside, dilated, with a soft edge; in the memory of `map`.
fn around(mut map: Volume, inside: &[bool], params: &AutoMask) -> Volume {
    let distances2 = squared_distances(map.n(), inside);
    for (value, distance2) in map.data_mut().iter_mut().zip(distances2) {
        *value = edge(libm::sqrt(distance2) - params.dilation_px, params.edge_px) as f32;
    }
    map
}

/// From 1 at and below 0 to 0 at `width` and beyond.
pub(crate) fn edge(distance: f64, width: f64) -> f64 {
    if distance <= 0.0 {
        1.0
    } else if distance < width {
        0.5 + 0.5 * libm::cos(PI * distance / width)
    } else {
        0.0
    }
}

fn root_mean_square(map: &Volume) -> f32 {
    let sum: f64 = map.data().iter().map(|grey| f64::from(grey * grey)).sum();
    libm::sqrt(sum / map.data().len() as f64) as f32
}

fn default_threshold(map: &Volume) -> f32 {
    let mut sorted = map.data().to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let top = &sorted[..sorted.len().div_ceil(1000)];
    0.2 * top.iter().sum::<f32>() / top.len() as f32
}

/// The squared distance of each voxel to the nearest one inside; infinite if there is none. One axis after another, each
/// row by the lower envelope of parabolas (Felzenszwalb and Huttenlocher, 2012).
fn squared_distances(n: usize, inside: &[bool]) -> Vec<f64> {
    let mut distances: Vec<f64> = inside
        .iter()
        .map(|inside| if *inside { 0.0 } else { f64::INFINITY })
        .collect();
    let mut row = vec![0.0; n];
    for stride in [1, n, n * n] {
        for start in 0..n * n {
            // The first voxel of the start-th row along this axis.
            let first = start / stride * stride * n + start % stride;
            for (index, value) in row.iter_mut().enumerate() {
                *value = distances[first + index * stride];
            }
            for (index, value) in nearest_parabola(&row).into_iter().enumerate() {
                distances[first + index * stride] = value;
            }
        }
    }
    distances
}

/// min over j of heights[j] + (i - j)², for each i.
fn nearest_parabola(heights: &[f64]) -> Vec<f64> {
    // The parabolas of the envelope from left to right, each with where it takes over.
    let mut envelope: Vec<(usize, f64)> = Vec::new();
    for (j, height) in heights
        .iter()
        .enumerate()
        .filter(|(_, height)| height.is_finite())
    {
        let crossing = |k: usize| {
            let (a, b) = (k as f64, j as f64);
            ((height + b * b) - (heights[k] + a * a)) / (2.0 * (b - a))
        };
        while envelope
            .last()
            .is_some_and(|&(k, from)| crossing(k) <= from)
        {
            envelope.pop();
        }
        let from = envelope
            .last()
            .map_or(f64::NEG_INFINITY, |&(k, _)| crossing(k));
        envelope.push((j, from));
    }
    let mut at = 0;
    (0..heights.len())
        .map(|i| {
            while at + 1 < envelope.len() && envelope[at + 1].1 <= i as f64 {
                at += 1;
            }
            envelope.get(at).map_or(f64::INFINITY, |&(j, _)| {
                heights[j] + (i as f64 - j as f64).powi(2)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_agree_with_a_search_of_all_voxels() {
        let n = 7;
        let inside: Vec<bool> = (0..n * n * n).map(|i| (i * 7919) % 41 == 3).collect();
        let at = |i: usize| [i % n, i / n % n, i / n / n].map(|c| c as f64);
        let got = squared_distances(n, &inside);
        for (i, got) in got.iter().enumerate() {
            let to = |j: usize| {
                (0..3)
                    .map(|axis| (at(i)[axis] - at(j)[axis]).powi(2))
                    .sum::<f64>()
            };
            let expected = (0..inside.len())
                .filter(|&j| inside[j])
                .map(to)
                .fold(f64::INFINITY, f64::min);
            assert_eq!(*got, expected, "voxel {i}");
        }
        assert!(
            squared_distances(3, &[false; 27])
                .iter()
                .all(|d| d.is_infinite())
        );
    }

    #[test]
    fn a_sphere_has_its_volume_and_a_soft_edge() {
        let mask = spherical(32, 8.0, 4.0).unwrap();
        let at = |x: usize| f64::from(mask.data()[(16 * 32 + 16) * 32 + x]);
        assert_eq!((at(16), at(24), at(28)), (1.0, 1.0, 0.0));
        assert!((at(26) - 0.5).abs() < 1e-6);
        // The volume of the sphere with its edge's middle: 4/3 pi 10³, a little more for the edge's outer half.
        let sum: f32 = mask.data().iter().sum();
        assert!((4189.0..4400.0).contains(&sum), "{sum}");
        let circle = circular(32, 8.0, 4.0).unwrap();
        assert_eq!(circle.data()[16 * 32 + 24], 1.0);
        assert_eq!(circle.data()[16 * 32 + 28], 0.0);
    }

    #[test]
    fn a_mask_of_halves_leaves_out_what_only_noise_raises() {
        let n = 32;
        let half = |seed| {
            let mut noise = crate::noise::GaussianNoise::new(seed, 0);
            Volume::from_fn(n, |x, y, z| {
                libm::exp(-(x * x + y * y + z * z) / 18.0) + 0.8 * noise.next()
            })
            .unwrap()
        };
        let params = AutoMask {
            low_pass_angstrom: 8.0,
            dilation_px: 0.0,
            edge_px: 1.0,
            ..AutoMask::default()
        };
        let mask = automatic_of_halves([&half(1), &half(2)], 2.0, &params);
        let at = |index: usize| [index % n, index / n % n, index / n / n].map(|c| c as f64 - 16.0);
        for (index, weight) in mask.data().iter().enumerate() {
            let radius = libm::sqrt(at(index).iter().map(|c| c * c).sum());
            assert!(radius > 2.0 || *weight == 1.0, "{radius}");
            assert!(radius < 11.0 || *weight == 0.0, "{radius}");
        }
        let nothing = Volume::zeros(n).unwrap();
        let sphere = automatic_of_halves([&nothing, &nothing], 2.0, &AutoMask::default());
        assert_eq!(
            (sphere.data()[0], sphere.data()[(16 * n + 16) * n + 16]),
            (0.0, 1.0)
        );
    }

    #[test]
    fn the_automatic_mask_surrounds_the_particle() {
        let n = 32;
        let blob = |x: f64, y: f64, z: f64| libm::exp(-(x * x + 2.0 * y * y + z * z) / 18.0);
        let map = Volume::from_fn(n, blob).unwrap();
        let mask = automatic(
            &map,
            2.0,
            &AutoMask {
                low_pass_angstrom: 8.0,
                ..AutoMask::default()
            },
        );
        for (grey, weight) in map.data().iter().zip(mask.data()) {
            assert!(*grey < 0.3 || *weight == 1.0);
            assert!((0.0..=1.0).contains(weight));
        }
        assert_eq!(mask.data()[0], 0.0);
        let empty = automatic(&Volume::zeros(8).unwrap(), 2.0, &AutoMask::default());
        assert!(empty.data().iter().all(|weight| *weight == 0.0));
    }
}
