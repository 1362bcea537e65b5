//! Insertion against a full grid without any symmetry, and maps from exact projections.

use num_complex::{Complex32, Complex64};

use super::*;
use crate::fft::{frequency_index, half_plane_len};
use crate::filter;
use crate::fsc::fsc;
use crate::noise::GaussianNoise;
use crate::orientation::Rotation;
use crate::phantom::Phantom;

fn random_rotation(noise: &mut GaussianNoise) -> Rotation {
    let [w, x, y, z] = std::array::from_fn(|_| noise.next());
    Rotation::from_quaternion(w, x, y, z)
}

/// The phantom's exact projection, displaced by minus `shift_px`, under the constant CTF `ctf`.
fn projection(
    phantom: &Phantom,
    rotation: &Rotation,
    shift_px: [f64; 2],
    ctf: f64,
    n: usize,
    pixel: f64,
) -> Vec<Complex32> {
    let mut half = vec![Complex32::ZERO; half_plane_len(n)];
    let limit = (n as isize - 1) / 2;
    for ky in -limit..=limit {
        for kx in (0..=limit).take_while(|kx| kx * kx + ky * ky <= limit * limit) {
            let s = rotation.0.transpose() * nalgebra::Vector3::new(kx as f64, ky as f64, 0.0)
                / (n as f64 * pixel);
            let angle = std::f64::consts::TAU * (kx as f64 * shift_px[0] + ky as f64 * shift_px[1])
                / n as f64;
            let value = phantom.transform([s.x, s.y, s.z]) * Complex64::from_polar(ctf, angle);
            half[frequency_index(ky, n) * (n / 2 + 1) + kx as usize] =
                Complex32::new(value.re as f32, value.im as f32);
        }
    }
    half
}

/// The whole grid, both mates of every frequency, a plain loop over neighbours.
struct FullGrid {
    reach: isize,
    values: std::collections::BTreeMap<[isize; 3], (Complex64, f64)>,
}

impl FullGrid {
    fn insert(&mut self, shape: &GridShape, particle: &Insertion<'_>) {
        let (n, r_max) = (shape.n(), shape.r_max() as isize);
        for ky in -r_max..=r_max {
            for kx in -r_max..=r_max {
                let k2 = kx * kx + ky * ky;
                if k2 > r_max * r_max {
                    continue;
                }
                // The stored half, or the conjugate of the mate. Of the column kx = 0 the half ky >= 0 counts.
                let mated = kx < 0 || (kx == 0 && ky < 0);
                let (hx, hy) = if mated { (-kx, -ky) } else { (kx, ky) };
                let at = frequency_index(hy, n) * (n / 2 + 1) + hx as usize;
                let image =
                    Complex64::new(particle.image[at].re.into(), particle.image[at].im.into());
                let image = if mated { image.conj() } else { image };
                let turn = -std::f64::consts::TAU
                    * (kx as f64 * particle.shift_px[0] + ky as f64 * particle.shift_px[1])
                    / n as f64;
                let shell = (k2 as f64).sqrt().round() as usize;
                let ctf = f64::from(particle.ctf[at]);
                let weight =
                    f64::from(particle.weight) * ctf * f64::from(particle.inverse_sigma2[shell]);
                let q = particle.rotation.0.transpose()
                    * nalgebra::Vector3::new(kx as f64, ky as f64, 0.0)
                    * shape.padding();
                let value = image * Complex64::from_polar(weight, turn);
                let floor = q.map(|c| c.floor());
                for corner in 0..8 {
                    let offset = [corner & 1, corner >> 1 & 1, corner >> 2];
                    let mut part = 1.0;
                    for axis in 0..3 {
                        let fraction = q[axis] - floor[axis];
                        part *= if offset[axis] == 1 {
                            fraction
                        } else {
                            1.0 - fraction
                        };
                    }
                    let point = [0, 1, 2].map(|axis| floor[axis] as isize + offset[axis] as isize);
                    assert!(part == 0.0 || point.iter().all(|c| c.abs() <= self.reach));
                    let cell = self.values.entry(point).or_default();
                    cell.0 += value * part;
                    cell.1 += weight * ctf * part;
                }
            }
        }
    }
}

#[test]
fn half_a_grid_holds_what_the_whole_grid_would() {
    let shape = GridShape::new(12, 5, 1.5).unwrap();
    let mut noise = GaussianNoise::new(11, 0);
    let mut accumulator = Accumulator::new(shape);
    let mut full = FullGrid {
        reach: shape.reach() as isize,
        values: Default::default(),
    };
    for index in 0..20 {
        // Some views put whole rows onto the plane x = 0.
        let rotation = if index < 4 {
            Rotation::from_euler_deg(90.0 * index as f64, 90.0, 45.0 * index as f64)
        } else {
            random_rotation(&mut noise)
        };
        let image: Vec<Complex32> = (0..half_plane_len(12))
            .map(|at| {
                Complex32::new(
                    noise.next() as f32,
                    if at == 0 { 0.0 } else { noise.next() as f32 },
                )
            })
            .collect();
        let ctf: Vec<f32> = (0..half_plane_len(12))
            .map(|_| noise.next() as f32)
            .collect();
        let particle = Insertion {
            image: &image,
            ctf: &ctf,
            is_multiplied: false,
            inverse_sigma2: &[0.5, 1.0, 2.0, 3.0, 4.0, 5.0],
            rotation: &rotation,
            shift_px: [noise.next(), noise.next()],
            weight: 0.7,
        };
        accumulator.insert(&particle);
        full.insert(&shape, &particle);
    }
    let mut sums = Sums::new(shape);
    sums.add(&accumulator).unwrap();
    let merged = sums.merge(&[]);
    let mut compared = 0;
    for (y, z, count) in shape.rows_within(shape.radius()) {
        for x in 0..count {
            let got = merged.point(x, y, z);
            let want = full
                .values
                .get(&[x as isize, y, z])
                .copied()
                .unwrap_or_default();
            for (got, want) in got.iter().zip([want.0.re, want.0.im, want.1]) {
                assert!((got - want).abs() < 2e-3, "{x} {y} {z}: {got} for {want}");
            }
            compared += 1;
        }
    }
    assert!(compared > 800);
}

#[test]
fn exact_projections_give_back_the_map_on_its_own_scale() {
    let (n, pixel) = (32, 7.0);
    let phantom = Phantom::new();
    let shapes = [2.0, 1.5].map(|padding| GridShape::new(n, 15, padding).unwrap());
    let mut shards = shapes.map(|shape| [Accumulator::new(shape), Accumulator::new(shape)]);
    let mut noise = GaussianNoise::new(3, 0);
    for index in 0..200 {
        let rotation = random_rotation(&mut noise);
        let shift_px = [noise.next(), noise.next()];
        let ctf = if index % 3 == 0 { -0.4 } else { 0.9 };
        let particle = Insertion {
            image: &projection(&phantom, &rotation, shift_px, ctf, n, pixel),
            ctf: &vec![ctf as f32; half_plane_len(n)],
            is_multiplied: false,
            inverse_sigma2: &[2.0; 16],
            rotation: &rotation,
            shift_px,
            weight: 1.0,
        };
        shards
            .iter_mut()
            .for_each(|pair| pair[index % 2].insert(&particle));
    }
    // The truth without the corners of its transform, which no projection shows.
    let truth = filter::filtered(&phantom.volume(n, pixel).unwrap(), |shell| {
        f64::from(u8::from(shell <= 15.0))
    });
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    for ((shape, shards), least) in shapes.iter().zip(&shards).zip([0.995, 0.99]) {
        let mut sums = Sums::new(*shape);
        shards.iter().for_each(|shard| sums.add(shard).unwrap());
        let map = sums.merge(&[]).reconstruct(Prior::None);
        let curve = fsc(&map, &truth, None).unwrap();
        assert!(curve[1..=12].iter().all(|fsc| *fsc > least), "{curve:?}");
        let scale = dot(map.data(), truth.data()) / dot(truth.data(), truth.data());
        assert!((scale - 1.0).abs() < 0.03, "{scale}");
    }
}

#[test]
fn operators_make_the_map_symmetric() {
    let half_turn = nalgebra::Matrix3::from_diagonal(&nalgebra::Vector3::new(-1.0, -1.0, 1.0));
    let (n, pixel) = (16, 12.0);
    let shape = GridShape::new(n, 7, 2.0).unwrap();
    let mut accumulator = Accumulator::new(shape);
    let mut noise = GaussianNoise::new(4, 0);
    for _ in 0..60 {
        let rotation = random_rotation(&mut noise);
        accumulator.insert(&Insertion {
            image: &projection(&Phantom::new(), &rotation, [0.0; 2], 1.0, n, pixel),
            ctf: &vec![1.0; half_plane_len(n)],
            is_multiplied: false,
            inverse_sigma2: &[1.0; 8],
            rotation: &rotation,
            shift_px: [0.0; 2],
            weight: 1.0,
        });
    }
    let mut sums = Sums::new(shape);
    sums.add(&accumulator).unwrap();
    let alone = sums.clone().merge(&[nalgebra::Matrix3::identity()]);
    let merged = sums.merge(&[nalgebra::Matrix3::identity(), half_turn]);
    for shell in 1..7 {
        let ratio = merged.sigma2()[shell] / alone.sigma2()[shell];
        assert!((ratio - 0.5).abs() < 1e-6, "twice the data: {ratio}");
    }
    let (map, alone) = (
        merged.reconstruct(Prior::None),
        alone.reconstruct(Prior::None),
    );
    let at =
        |map: &crate::volume::Volume, x: usize, y: usize, z: usize| map.data()[(z * n + y) * n + x];
    let peak = map
        .data()
        .iter()
        .fold(0.0_f32, |peak, grey| peak.max(*grey));
    let mut asymmetry = 0.0_f32;
    for (x, y, z) in (1..n).flat_map(|x| (1..n).flat_map(move |y| (0..n).map(move |z| (x, y, z)))) {
        assert!((at(&map, x, y, z) - at(&map, n - x, n - y, z)).abs() < 1e-4 * peak);
        asymmetry = asymmetry.max((at(&alone, x, y, z) - at(&alone, n - x, n - y, z)).abs());
    }
    assert!(asymmetry > 0.1 * peak);
}

#[test]
fn the_prior_damps_by_signal_over_signal_and_noise() {
    let n = 32;
    let shape = GridShape::new(n, 15, 2.0).unwrap();
    let mut accumulator = Accumulator::new(shape);
    let mut noise = GaussianNoise::new(9, 0);
    let ones = vec![Complex32::ONE; half_plane_len(n)];
    for _ in 0..3000 {
        let rotation = random_rotation(&mut noise);
        accumulator.insert(&Insertion {
            image: &ones,
            ctf: &vec![1.0; half_plane_len(n)],
            is_multiplied: false,
            inverse_sigma2: &[1.0; 16],
            rotation: &rotation,
            shift_px: [0.0; 2],
            weight: 1.0,
        });
    }
    let mut sums = Sums::new(shape);
    sums.add(&accumulator).unwrap();
    let merged = sums.merge(&[]);
    // FSC 0.5 is as much signal as noise: half of each shell from the fifth on is left.
    let tau2 = tau2_from_fsc(&[0.5; 16], &merged);
    assert!(
        tau2.iter()
            .zip(merged.sigma2())
            .all(|(tau2, sigma2)| (tau2 / sigma2 - 1.0).abs() < 1e-9)
    );
    let power = |map| crate::fsc::shell_power(&map);
    let (free, damped) = (
        power(merged.reconstruct(Prior::None)),
        power(merged.reconstruct(Prior::Tau2(&tau2))),
    );
    // Away from the steps, which ring.
    for shell in [1, 2, 3, 7, 8, 9, 10, 11, 12] {
        let amplitude = (damped[shell] / free[shell]).sqrt();
        let expected = if shell < 5 { 1.0 } else { 0.5 };
        assert!(
            (amplitude - expected).abs() < 0.05,
            "shell {shell}: {amplitude}"
        );
    }
    // tau2 of nothing leaves nothing, and a short curve ends the map.
    let none = power(merged.reconstruct(Prior::Tau2(&[])));
    assert!(none[12] < 1e-3 * free[12]);
}

#[test]
fn nothing_inserted_is_an_empty_map() {
    let merged = Sums::new(GridShape::new(8, 3, 1.5).unwrap()).merge(&[]);
    assert!(
        merged
            .reconstruct(Prior::None)
            .data()
            .iter()
            .all(|grey| *grey == 0.0)
    );
    assert!(merged.sigma2().iter().all(|sigma2| sigma2.is_infinite()));
    assert_eq!(tau2_from_fsc(&[0.9; 4], &merged), vec![0.0; 4]);
}

#[test]
fn partial_sums_survive_their_bytes() {
    let shape = GridShape::new(10, 4, 1.5).unwrap();
    let mut accumulator = Accumulator::new(shape);
    let mut noise = GaussianNoise::new(5, 0);
    let image: Vec<Complex32> = (0..half_plane_len(10))
        .map(|_| Complex32::new(noise.next() as f32, noise.next() as f32))
        .collect();
    for _ in 0..200 {
        accumulator.insert(&Insertion {
            image: &image,
            ctf: &vec![1.0; half_plane_len(10)],
            is_multiplied: false,
            inverse_sigma2: &[1.0; 5],
            rotation: &random_rotation(&mut noise),
            shift_px: [0.3, 0.0],
            weight: 1.0,
        });
    }
    let bytes = accumulator.to_bytes();
    // Equality of the whole grid: insertion touched nothing that is not written.
    assert_eq!(Accumulator::from_bytes(&bytes).unwrap(), accumulator);
    assert_eq!(bytes, accumulator.to_bytes());
    // Added as bytes or as what they hold, and told on: all the same.
    let [mut as_bytes, mut as_sums] = [Sums::new(shape), Sums::new(shape)];
    for _ in 0..2 {
        as_bytes.add_partial(&Partial::of(&bytes).unwrap()).unwrap();
        as_sums.add(&accumulator).unwrap();
    }
    assert_eq!(as_bytes.to_bytes(), as_sums.to_bytes());
    let twice = Accumulator::from_bytes(&as_bytes.to_bytes()).unwrap();
    let doubled = accumulator.values.iter().map(|value| 2.0 * value);
    assert!(twice.values.iter().copied().eq(doubled));
    for length in 0..bytes.len() {
        assert!(Accumulator::from_bytes(&bytes[..length]).is_err());
    }
    let mut longer = bytes.clone();
    longer.push(0);
    let expected = bytes.len();
    assert_eq!(
        Accumulator::from_bytes(&longer).unwrap_err(),
        PartialError::Length {
            expected,
            found: expected + 1
        }
    );
    let mut huge = bytes.clone();
    huge[8..20].fill(0xff);
    assert!(matches!(
        Accumulator::from_bytes(&huge),
        Err(PartialError::Shape(_))
    ));
    let mut other = bytes;
    other[0] = b'X';
    assert_eq!(
        Accumulator::from_bytes(&other).unwrap_err(),
        PartialError::Magic
    );
}

#[test]
fn unlike_shapes_are_refused() {
    assert!(matches!(
        GridShape::new(16, 8, 2.0),
        Err(ShapeError::Limit { r_max: 8, limit: 7 })
    ));
    assert!(matches!(
        GridShape::new(16, 7, f64::NAN),
        Err(ShapeError::Padding(_))
    ));
    assert!(GridShape::new(usize::MAX, 7, 2.0).is_err());
    let mut sums = Sums::new(GridShape::new(16, 7, 2.0).unwrap());
    assert!(
        sums.add(&Accumulator::new(GridShape::new(16, 6, 2.0).unwrap()))
            .is_err()
    );
}
