use std::f64::consts::TAU;

use num_complex::Complex32;

use super::*;
use crate::ctf::{Applied, Ctf, CtfParams};
use crate::fft::{RealFft2, half_plane_len};
use crate::noise::GaussianNoise;

const N: usize = 32;
const PIXEL: f64 = 4.0;

/// Blobs without symmetry, another arrangement for each class, as seen turned by psi and moved by minus the shift.
fn view(class: usize, psi: f64, shift_px: [f64; 2]) -> Vec<f32> {
    let blobs: [[f64; 2]; 4] = [
        [[7.0, 0.0], [0.0, 4.0], [-5.0, -2.0], [1.0, -6.0]],
        [[4.0, 4.0], [-4.0, 4.0], [6.0, -3.0], [0.0, 0.0]],
        [[8.0, 1.0], [5.0, 0.0], [2.0, 1.0], [-8.0, 0.0]],
    ][class];
    let (sin, cos) = libm::sincos(psi);
    let pixel = |i: usize| {
        let x = (i % N) as f64 - (N / 2) as f64 + shift_px[0];
        let y = (i / N) as f64 - (N / 2) as f64 + shift_px[1];
        let blob = |b: &[f64; 2]| {
            // The axes of the image turn by psi, so that its content turns back.
            let (bx, by) = (cos * b[0] + sin * b[1], cos * b[1] - sin * b[0]);
            libm::exp(-((x - bx).powi(2) + (y - by).powi(2)) / 4.5)
        };
        blobs.iter().map(blob).sum::<f64>() as f32
    };
    (0..N * N).map(pixel).collect()
}

fn ctf(defocus_um: f64) -> CtfParams {
    CtfParams {
        defocus_u_angstrom: defocus_um * 1e4,
        defocus_v_angstrom: defocus_um * 1e4 - 600.0,
        defocus_angle_deg: 20.0,
        ..CtfParams::default()
    }
}

/// What the microscope makes of a view.
fn imaged(pixels: &[f32], ctf: &CtfParams) -> Vec<f32> {
    let mut fft = RealFft2::new(N).unwrap();
    let mut half = vec![Complex32::ZERO; half_plane_len(N)];
    fft.forward(pixels, &mut half);
    let mut transfer = vec![0.0; half.len()];
    Ctf::new(ctf)
        .unwrap()
        .fill_half_plane(N, PIXEL, &mut transfer);
    half.iter_mut()
        .zip(transfer)
        .for_each(|(value, c)| *value *= c);
    let mut image = vec![0.0; N * N];
    fft.inverse(&half, &mut image);
    image
}

fn grid(k_max: usize) -> ClassGrid {
    ClassGrid::new(&ClassSettings {
        box_size_px: N,
        pixel_size_angstrom: PIXEL,
        mask_diameter_angstrom: 88.0,
        max_shift_px: 3.0,
        k_max,
    })
    .unwrap()
}

fn samples(averages: &[ClassAverage]) -> Vec<Complex32> {
    averages
        .iter()
        .flat_map(|average| average.samples.clone())
        .collect()
}

fn correlation(a: &[f32], b: &[f32]) -> f64 {
    let mean = |v: &[f32]| v.iter().map(|x| f64::from(*x)).sum::<f64>() / v.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let dot = |a: &[f32], ma: f64, b: &[f32], mb: f64| -> f64 {
        a.iter()
            .zip(b)
            .map(|(x, y)| (f64::from(*x) - ma) * (f64::from(*y) - mb))
            .sum()
    };
    dot(a, ma, b, mb) / (dot(a, ma, a, ma) * dot(b, mb, b, mb)).sqrt()
}

/// Averages of noise-free views, put where they belong.
fn true_averages(grid: &ClassGrid) -> Vec<ClassAverage> {
    let mut classifier = Classifier::new(grid).unwrap();
    let mut sums = ClassSums::new(grid, 3);
    for class in 0..3 {
        for defocus in [1.0, 1.3, 1.7, 2.2] {
            let image = imaged(&view(class, 0.0, [0.0; 2]), &ctf(defocus));
            classifier
                .put(&image, &ctf(defocus), &[1e-3; N], [class, 0], &mut sums)
                .unwrap();
        }
    }
    let mut totals = ClassTotals::new(grid, 3);
    totals.add(&ClassSums::from_bytes(grid, 3, &sums.to_bytes()).unwrap());
    (0..3)
        .map(|class| totals.average(grid, class, 2.0))
        .collect()
}

#[test]
fn an_average_of_views_is_the_view() {
    let grid = grid(14);
    for (class, average) in true_averages(&grid).iter().enumerate() {
        let picture = average.picture(&grid).unwrap();
        let found = correlation(picture.data(), &view(class, 0.0, [0.0; 2]));
        assert!(found > 0.97, "class {class}: {found}");
        assert!(average.resolved_rings() > 10);
    }
}

#[test]
fn a_view_is_placed_where_it_lies_and_leaves_little_behind() {
    let grid = grid(14);
    let references = ClassReferences::new(&grid, &samples(&true_averages(&grid)));
    let mut classifier = Classifier::new(&grid).unwrap();
    let step = TAU / grid.psi_count as f64;
    for (class, turn, shift) in [
        (0, 5, 7),
        (1, 20, 0),
        (2, 31, 30),
        (1, 50, 3),
        (0, 0, grid.centre()),
    ] {
        let shift = shift % grid.shifts_px.len();
        let (psi, shift_px) = (step * turn as f64, grid.shifts_px[shift]);
        let pixels = imaged(&view(class, psi, shift_px), &ctf(1.5));
        let mut sums = ClassSums::new(&grid, 3);
        let found = classifier
            .classify(&pixels, &ctf(1.5), &[1.0; N], &references, &mut sums)
            .unwrap();
        assert_eq!(found.best.class, class);
        assert!(
            (found.best.psi_deg - psi.to_degrees()).abs() < 1e-6,
            "{found:?}"
        );
        assert_eq!(found.best.shift_px, shift_px);
        assert!(found.class_weights[class] > 0.999 && found.weight > 0.5);
        assert_eq!(found.residual_count, crate::noise::shell_counts(N));
        let left: f64 = found.residual_power[2..12].iter().sum();
        let whole: f64 = classifier.image_power()[2..12].iter().sum();
        assert!(left < 0.15 * whole, "{left} of {whole}");
    }
}

/// Of images that were multiplied by their CTF, noise and all.
#[test]
fn multiplied_noise_counts_for_what_the_ctf_left_of_it() {
    let grid = grid(14);
    let references = ClassReferences::new(&grid, &samples(&true_averages(&grid)));
    let mut classifier = Classifier::new(&grid).unwrap();
    let mut sums = ClassSums::new(&grid, 3);
    let sigma2 = 4.0 * (N * N) as f64 / 2.0;
    let (mut power, mut count) = (vec![0.0; N / 2 + 1], vec![0.0; N / 2 + 1]);
    let mut noise = GaussianNoise::new(3, 0);
    for _ in 0..40 {
        let mut pixels = imaged(&view(1, 0.0, [0.0; 2]), &ctf(1.5));
        for pixel in &mut pixels {
            *pixel += 2.0 * noise.next() as f32;
        }
        let multiplied = CtfParams {
            applied: Applied::Whole,
            ..ctf(1.5)
        };
        let found = classifier
            .classify(
                &imaged(&pixels, &ctf(1.5)),
                &multiplied,
                &[sigma2; N],
                &references,
                &mut sums,
            )
            .unwrap();
        for (sum, value) in power.iter_mut().zip(&found.residual_power) {
            *sum += value;
        }
        for (sum, value) in count.iter_mut().zip(&found.residual_count) {
            *sum += value;
        }
    }
    let (power, count): (f64, f64) = (power[3..14].iter().sum(), count[3..14].iter().sum());
    // The mask leaves this part of white noise.
    let expected = sigma2 * classifier.preparation.noise_share();
    let found = power / (2.0 * count);
    assert!(
        (found / expected - 1.0).abs() < 0.1,
        "{found} of {expected}"
    );
}

#[test]
fn classes_are_found_from_nothing() {
    let (class_count, particle_count) = (5, 300);
    let mut noise = GaussianNoise::new(1, 0);
    let particles: Vec<(usize, Vec<f32>, CtfParams)> = (0..particle_count)
        .map(|at| {
            let ctf = ctf(1.0 + 1.5 * noise.uniform());
            let shift = [0, 1].map(|_| 4.0 * noise.uniform() - 2.0);
            let mut pixels = imaged(&view(at % 3, TAU * noise.uniform(), shift), &ctf);
            for pixel in &mut pixels {
                *pixel += 0.4 * noise.next() as f32;
            }
            (at % 3, pixels, ctf)
        })
        .collect();
    let sigma2 = vec![0.16 * (N * N) as f64 / 2.0; N / 2 + 1];
    let mut references: Vec<Vec<Complex32>> = Vec::new();
    let mut table = vec![[0_usize; 3]; class_count];
    for k_max in [5, 5, 5, 5, 6, 7, 8, 9, 10, 11, 12] {
        let grid = grid(k_max);
        let mut classifier = Classifier::new(&grid).unwrap();
        let mut sums = ClassSums::new(&grid, class_count);
        for samples in &mut references {
            samples.resize(grid.sample_count(), Complex32::ZERO);
        }
        let averages = ClassReferences::new(&grid, &references.concat());
        table.iter_mut().for_each(|counts| *counts = [0; 3]);
        for (at, (truth, pixels, ctf)) in particles.iter().enumerate() {
            if references.is_empty() && at < 3 * class_count {
                let place = [at % class_count, 7 * at];
                classifier
                    .put(pixels, ctf, &sigma2, place, &mut sums)
                    .unwrap();
            } else if !references.is_empty() {
                let found = classifier.classify(pixels, ctf, &sigma2, &averages, &mut sums);
                table[found.unwrap().best.class][*truth] += 1;
            }
        }
        let mut totals = ClassTotals::new(&grid, class_count);
        totals.add(&sums);
        let average = |class| totals.average(&grid, class, 2.0).samples;
        references = (0..class_count).map(average).collect();
    }
    let pure: usize = table.iter().filter_map(|counts| counts.iter().max()).sum();
    assert!(pure as f64 > 0.9 * particle_count as f64, "{table:?}");
}

#[test]
fn what_no_grid_can_hold_is_refused() {
    for wrong in [0, 16] {
        let settings = ClassSettings {
            k_max: wrong,
            ..*grid(5).settings()
        };
        assert!(ClassGrid::new(&settings).is_err());
    }
    let grid = grid(5);
    assert!(ClassSums::from_bytes(&grid, 2, &[0; 12]).is_err());
    let mut bytes = ClassSums::new(&grid, 2).to_bytes();
    bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    assert_eq!(
        ClassSums::from_bytes(&grid, 2, &bytes),
        Err(ClassSumsError::NotFinite)
    );
}
