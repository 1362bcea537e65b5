use std::f64::consts::{PI, TAU};

use nalgebra::Vector3;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::symmetry::PointGroup;
use crate::volume::Volume;

const N: usize = 48;
const SIGMA: f64 = 2.0;
const PIXEL: f64 = 3.0;

/// Blobs without symmetry, or their orbit under a group.
fn blobs(group: &PointGroup) -> Vec<Vector3<f64>> {
    let one = [
        [9.0, 2.0, -3.0],
        [-4.0, 8.0, 1.0],
        [1.0, -6.0, 7.0],
        [-7.0, -3.0, -5.0],
        [3.0, 5.0, 9.0],
        [5.0, -8.0, -6.0],
    ];
    group
        .operators()
        .iter()
        .flat_map(|o| one.map(|c| o * Vector3::from(c)))
        .collect()
}

fn volume(centres: &[Vector3<f64>]) -> Volume {
    Volume::from_fn(N, |x, y, z| {
        let at = Vector3::new(x, y, z);
        centres
            .iter()
            .map(|c| libm::exp(-(at - c).norm_squared() / (2.0 * SIGMA * SIGMA)))
            .sum()
    })
    .unwrap()
}

/// The analytic projection, displaced by minus the shift that will centre it.
fn image(centres: &[Vector3<f64>], orientation: &Rotation, shift_px: [f64; 2]) -> Vec<f32> {
    let amplitude = (2.0 * PI).sqrt() * SIGMA;
    let seen: Vec<_> = centres.iter().map(|c| orientation.0 * c).collect();
    (0..N * N)
        .map(|i| {
            let (x, y) = (
                (i % N) as f64 - (N / 2) as f64 + shift_px[0],
                (i / N) as f64 - (N / 2) as f64 + shift_px[1],
            );
            let value = |c: &Vector3<f64>| {
                libm::exp(-((x - c.x).powi(2) + (y - c.y).powi(2)) / (2.0 * SIGMA * SIGMA))
            };
            (amplitude * seen.iter().map(value).sum::<f64>()) as f32
        })
        .collect()
}

fn settings() -> SearchSettings {
    SearchSettings {
        pixel_size_angstrom: PIXEL,
        mask_diameter_angstrom: 34.0 * PIXEL,
        k_max: 16,
        max_shift_px: 4.0,
        shift_step_px: 2.0,
        order: 3,
        candidate_count: 12,
        mode: ScoreMode::Likelihood,
        trust: Trust::Independent,
    }
}

/// A CTF that is 1 everywhere.
fn flat() -> CtfParams {
    CtfParams {
        amplitude_contrast: 1.0,
        spherical_aberration_mm: 0.0,
        ..CtfParams::default()
    }
}

fn astigmatic() -> CtfParams {
    CtfParams {
        defocus_u_angstrom: 16000.0,
        defocus_v_angstrom: 11000.0,
        defocus_angle_deg: 25.0,
        ..CtfParams::default()
    }
}

fn run(
    group: &PointGroup,
    settings: &SearchSettings,
    images: &[Vec<f32>],
    ctf: CtfParams,
) -> Vec<Alignment> {
    let projector = Projector::new(&volume(&blobs(group)), settings.k_max + 2, 2.0).unwrap();
    let bank = ReferenceBank::new(&projector, group, settings).unwrap();
    let mut search = Search::new(&bank, &projector, &vec![5e3; N]).unwrap();
    let particles: Vec<_> = images
        .iter()
        .map(|pixels| ParticleImage {
            pixels,
            ctf,
            prior_shift_px: [0.0; 2],
            starts: &[],
        })
        .collect();
    search.run(&particles, &mut || true).unwrap()
}

fn pose(i: u32) -> (Rotation, [f64; 2]) {
    let i = f64::from(i);
    let orientation = Rotation::from_euler_deg(
        77.0 * i,
        libm::acos(0.93 - 0.19 * i).to_degrees(),
        131.0 * i,
    );
    (orientation, [2.6 * libm::sin(i), 2.6 * libm::cos(2.0 * i)])
}

#[test]
fn polar_scores_agree_with_the_plain_sum_over_pixels() {
    let settings = SearchSettings {
        k_max: 12,
        order: 2,
        ..settings()
    };
    let centres = blobs(&PointGroup::C1);
    let projector = Projector::new(&volume(&centres), 14, 2.0).unwrap();
    let bank = ReferenceBank::new(&projector, &PointGroup::C1, &settings).unwrap();
    let k_max = settings.k_max_global(N) as f64;
    let sigma2: Vec<f64> = (0..N).map(|s| 5e3 + 100.0 * s as f64).collect();
    let (truth, shift) = pose(3);
    let pixels = image(&centres, &truth, shift);
    let ctf = Ctf::new(&astigmatic()).unwrap();
    let mut preparation = Preparation::new(N, &settings).unwrap();
    preparation
        .load(
            0,
            &ParticleImage {
                pixels: &pixels,
                ctf: astigmatic(),
                prior_shift_px: [0.0; 2],
                starts: &[],
            },
        )
        .unwrap();
    let mut polar = PolarSearch::new(&bank, &sigma2);
    polar.score(&preparation, &ctf);
    let step = 1.0 / (N as f64 * PIXEL);
    let (mut cross_error, mut cross_power, mut norm_error, mut norm_power) = (0.0, 0.0, 0.0, 0.0);
    for row in (0..2 * bank.row_count).step_by(7) {
        let Some(view) = polar.view(row) else {
            continue;
        };
        for psi in (0..24).step_by(5) {
            let orientation = view.then(&Rotation::from_euler_deg(0.0, 0.0, 15.0 * psi as f64));
            let (cross, norm, shift) = polar.scored(row, psi);
            // Rings make up the disc to half a pixel beyond the last: so does the sum, with rounded shells.
            let (mut plain_cross, mut plain_norm) = (0.0, 0.0);
            for ky in -20_i32..=20 {
                for kx in 0..=20_i32 {
                    let shell = f64::from(kx * kx + ky * ky).sqrt().round();
                    if !(1.0..=k_max).contains(&shell) || (kx == 0 && ky < 0) {
                        continue;
                    }
                    let row = if ky < 0 { ky + N as i32 } else { ky } as usize;
                    let x = preparation.plain[row * (N / 2 + 1) + kx as usize];
                    let q =
                        orientation.0.transpose() * Vector3::new(f64::from(kx), f64::from(ky), 0.0);
                    let p = projector.sample([q.x as f32, q.y as f32, q.z as f32]);
                    let turn =
                        -TAU * (f64::from(kx) * shift[0] + f64::from(ky) * shift[1]) / N as f64;
                    let phase = num_complex::Complex32::new(turn.cos() as f32, turn.sin() as f32);
                    let c = ctf.value(f64::from(kx) * step, f64::from(ky) * step);
                    let s2 = sigma2[shell as usize];
                    plain_cross += c / s2 * f64::from((x * phase * p.conj()).re);
                    plain_norm += c * c / s2 * f64::from(p.norm_sqr()) / 2.0;
                }
            }
            cross_error += (f64::from(cross) - plain_cross).powi(2);
            cross_power += plain_cross * plain_cross;
            norm_error += (f64::from(norm) - plain_norm).powi(2);
            norm_power += plain_norm * plain_norm;
        }
    }
    // Linear interpolation on a twofold padded grid, and rings in place of pixels: a few percent.
    let (cross, norm) = (
        (cross_error / cross_power).sqrt(),
        (norm_error / norm_power).sqrt(),
    );
    assert!(cross < 0.05 && norm < 0.05, "cross {cross}, norm {norm}");
}

fn check_found(
    found: &Alignment,
    truth: &(Rotation, [f64; 2]),
    group: &PointGroup,
    limit_deg: f64,
    limit_px: f64,
) {
    let mates = group.operators();
    let angle = mates
        .iter()
        .map(|o| truth.0.with_operator(o).angle_to_deg(&found.orientation))
        .fold(360.0, f64::min);
    let off = (found.shift_px[0] - truth.1[0]).hypot(found.shift_px[1] - truth.1[1]);
    assert!(
        angle < limit_deg && off < limit_px,
        "{angle} degrees, {off} px of {truth:?}"
    );
}

#[test]
fn planted_poses_are_found() {
    for mode in [ScoreMode::Likelihood, ScoreMode::ScaleFree] {
        let settings = SearchSettings { mode, ..settings() };
        let centres = blobs(&PointGroup::C1);
        let images: Vec<_> = (0..8)
            .map(|i| image(&centres, &pose(i).0, pose(i).1))
            .collect();
        for (i, found) in run(&PointGroup::C1, &settings, &images, flat())
            .iter()
            .enumerate()
        {
            check_found(found, &pose(i as u32), &PointGroup::C1, 1.5, 0.4);
            assert!((found.scale - 1.0).abs() < 0.05, "{}", found.scale);
        }
    }
}

#[test]
fn planted_poses_are_found_in_noise() {
    let centres = blobs(&PointGroup::C1);
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let images: Vec<Vec<f32>> = (0..8)
        .map(|i| {
            let clean = image(&centres, &pose(i).0, pose(i).1);
            // Uniform noise of standard deviation 1 on peaks of about 5.
            clean
                .into_iter()
                .map(|v| v + random.random_range(-1.73..1.73_f32))
                .collect()
        })
        .collect();
    for (i, found) in run(&PointGroup::C1, &settings(), &images, flat())
        .iter()
        .enumerate()
    {
        check_found(found, &pose(i as u32), &PointGroup::C1, 3.0, 0.5);
    }
}

/// Gaussian noise of standard deviation 1: a sum of twelve uniform numbers is close enough.
fn noise(random: &mut rand_chacha::ChaCha8Rng) -> f32 {
    (0..12).map(|_| random.random::<f32>() - 0.5).sum()
}

/// One of 300 poses spread over all there are.
fn spread_pose(i: u32) -> (Rotation, [f64; 2]) {
    let part = (f64::from(i) + 0.5) / 300.0;
    let tilt_deg = libm::acos(1.0 - 2.0 * part).to_degrees();
    let rotation = Rotation::from_euler_deg(222.5 * f64::from(i), tilt_deg, 137.1 * f64::from(i));
    (
        rotation,
        [
            2.2 * libm::sin(f64::from(i)),
            2.2 * libm::cos(1.7 * f64::from(i)),
        ],
    )
}

#[test]
fn nine_of_ten_poses_lie_in_their_ninety_percent_regions() {
    let share = share_in_ninety_percent_regions(Trust::Independent);
    assert!((0.85..=0.95).contains(&share), "{share}");
}

#[test]
fn weights_of_relions_convention_are_too_sure_of_themselves() {
    let share = share_in_ninety_percent_regions(Trust::EveryPixel);
    assert!(share < 0.8, "{share}");
}

fn share_in_ninety_percent_regions(trust: Trust) -> f64 {
    let centres = blobs(&PointGroup::C1);
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    let deviation = 1.8_f32;
    let images: Vec<Vec<f32>> = (0..300)
        .map(|i| {
            let (orientation, shift_px) = spread_pose(i);
            let clean = image(&centres, &orientation, shift_px);
            clean
                .into_iter()
                .map(|v| v + deviation * noise(&mut random))
                .collect()
        })
        .collect();
    let settings = SearchSettings {
        trust,
        ..settings()
    };
    let projector = Projector::new(&volume(&centres), settings.k_max + 2, 2.0).unwrap();
    let bank = ReferenceBank::new(&projector, &PointGroup::C1, &settings).unwrap();
    let share = Preparation::new(N, &settings).unwrap().noise_share();
    // What the mask leaves of the noise in each part of a transform.
    let variance = f64::from(deviation * deviation) * (N * N) as f64 / 2.0 * share;
    let sigma2 = vec![variance; N];
    let mut search = Search::new(&bank, &projector, &sigma2).unwrap();
    let particles: Vec<_> = images
        .iter()
        .map(|pixels| ParticleImage {
            pixels,
            ctf: flat(),
            prior_shift_px: [0.0; 2],
            starts: &[],
        })
        .collect();
    let found = search.run(&particles, &mut || true).unwrap();
    let is_of_mode = |mode: &Mode, i: u32| {
        let (orientation, shift_px) = spread_pose(i);
        // The truth is the mode turned by this, about axes of the image.
        let turn = Rotation(orientation.0 * mode.orientation.0.transpose());
        let axis_angle = nalgebra::Rotation3::from_matrix_unchecked(turn.0).scaled_axis();
        let off = nalgebra::SVector::<f64, 5>::from_column_slice(&[
            axis_angle.x,
            axis_angle.y,
            axis_angle.z,
            shift_px[0] - mode.shift_px[0],
            shift_px[1] - mode.shift_px[1],
        ]);
        // The 90 % point of chi-squared with five degrees of freedom.
        off.dot(&(mode.covariance.try_inverse().unwrap() * off)) < 9.236
    };
    // Seen from some sides the phantom is nearly its own half-turn: the region has as many modes as make up its weight.
    let is_inside = |(found, i): (&Alignment, u32)| {
        let before = found.modes.iter().scan(0.0, |sum, mode| {
            *sum += mode.weight;
            Some(*sum - mode.weight)
        });
        let mut of_region = found.modes.iter().zip(before).take_while(|(_, b)| *b < 0.9);
        of_region.any(|(mode, _)| is_of_mode(mode, i))
    };
    let inside = found
        .iter()
        .zip(0..)
        .filter(|pair| is_inside(*pair))
        .count();
    inside as f64 / found.len() as f64
}

#[test]
fn slopes_and_curvature_are_those_of_the_score() {
    let settings = settings();
    let centres = blobs(&PointGroup::C1);
    let (truth, shift_px) = pose(4);
    let pixels = image(&centres, &truth, shift_px);
    let projector = Projector::new(&volume(&centres), settings.k_max + 2, 2.0).unwrap();
    let bank = ReferenceBank::new(&projector, &PointGroup::C1, &settings).unwrap();
    let mut polish = Polish::new(&bank, &projector, &vec![5e3; N]);
    let mut preparation = Preparation::new(N, &settings).unwrap();
    let particle = ParticleImage {
        pixels: &pixels,
        ctf: astigmatic(),
        prior_shift_px: [0.0; 2],
        starts: &[],
    };
    preparation.load(0, &particle).unwrap();
    polish.load(&preparation, &Ctf::new(&astigmatic()).unwrap());
    // Two degrees and half a pixel off.
    let start = Candidate {
        orientation: truth.then(&Rotation::from_axis_angle(Vector3::new(0.02, -0.02, 0.015))),
        shift_px: [shift_px[0] + 0.4, shift_px[1] - 0.3],
        score: 0.0,
    };
    let at = |index: usize, way: f64| {
        let mut step = nalgebra::SVector::zeros();
        step[index] = way;
        polish.score_at(&polish.moved(&start, &step))
    };
    let here = polish.score_at(&start);
    for (index, way) in [(0, 4e-3), (1, 4e-3), (2, 4e-3), (3, 0.02), (4, 0.02)] {
        let (ahead, behind) = (at(index, way), at(index, -way));
        let slope = (ahead.cross - ahead.norm - behind.cross + behind.norm) / (2.0 * way);
        // The slope changes by the curvature along the way, and nothing else is left of it at the top.
        let size = libm::sqrt(here.curvature[(index, index)] * (here.cross - here.norm).abs());
        assert!(
            (slope - here.slope[index]).abs() < 0.02 * size,
            "parameter {index}: {slope} against {}",
            here.slope[index]
        );
    }
}

#[test]
fn symmetric_particles_stay_in_the_unit() {
    let group: PointGroup = "D7".parse().unwrap();
    let centres = blobs(&group);
    let images: Vec<_> = (0..6)
        .map(|i| image(&centres, &pose(i).0, pose(i).1))
        .collect();
    let unit = crate::symmetry::AsymmetricUnit::new(&group);
    for (i, found) in run(&group, &settings(), &images, flat()).iter().enumerate() {
        check_found(found, &pose(i as u32), &group, 2.0, 0.4);
        assert!(unit.contains(&found.orientation.0.row(2).transpose(), 0.0));
    }
}

#[test]
fn a_particle_scores_the_same_bits_in_any_company() {
    let centres = blobs(&PointGroup::C1);
    let settings = SearchSettings {
        order: 2,
        ..settings()
    };
    let images: Vec<_> = (0..64)
        .map(|i| image(&centres, &pose(i % 9).0, [f64::from(i) * 0.05, 0.0]))
        .collect();
    let all = run(&PointGroup::C1, &settings, &images, astigmatic());
    assert_eq!(
        run(&PointGroup::C1, &settings, &images[5..12], astigmatic()),
        all[5..12]
    );
    assert_eq!(
        run(&PointGroup::C1, &settings, &images[8..9], astigmatic()),
        all[8..9]
    );
}

#[test]
fn an_image_turned_by_a_quarter_gives_a_psi_further_by_a_quarter() {
    let centres = blobs(&PointGroup::C1);
    let (orientation, _) = pose(2);
    let quarter = orientation.then(&Rotation::from_euler_deg(0.0, 0.0, 90.0));
    let images = [
        image(&centres, &orientation, [0.0; 2]),
        image(&centres, &quarter, [0.0; 2]),
    ];
    let found = run(&PointGroup::C1, &settings(), &images, flat());
    let expected = found[0]
        .orientation
        .then(&Rotation::from_euler_deg(0.0, 0.0, 90.0));
    assert!(expected.angle_to_deg(&found[1].orientation) < 1.0);
}

#[test]
fn a_search_can_be_cancelled_and_refuses_what_makes_no_sense() {
    let settings = SearchSettings {
        order: 1,
        ..settings()
    };
    let projector = Projector::new(&volume(&blobs(&PointGroup::C1)), 16, 1.0).unwrap();
    let bank = ReferenceBank::new(&projector, &PointGroup::C1, &settings).unwrap();
    assert!(matches!(
        Search::new(&bank, &projector, &[1.0; 5]),
        Err(SearchError::NoiseShells { .. })
    ));
    assert!(matches!(
        Search::new(&bank, &projector, &[0.0; N]),
        Err(SearchError::NoisePower { shell: 1, .. })
    ));
    let mut search = Search::new(&bank, &projector, &[1.0; N]).unwrap();
    let mut check = |pixels: &[f32], go_on: bool| {
        search
            .run(
                &[ParticleImage {
                    pixels,
                    ctf: flat(),
                    prior_shift_px: [0.0; 2],
                    starts: &[],
                }],
                &mut || go_on,
            )
            .unwrap_err()
    };
    assert_eq!(check(&[1.0; N * N], false), SearchError::Cancelled);
    assert!(matches!(
        check(&[1.0; 7], true),
        SearchError::PixelCount { .. }
    ));
    assert_eq!(check(&[f32::NAN; N * N], true), SearchError::NotFinite(0));
    let bad = SearchSettings {
        shift_step_px: 0.0,
        ..settings
    };
    assert!(ReferenceBank::new(&projector, &PointGroup::C1, &bad).is_err());
}
