//! That Dewar's conventions are the rest of the world's: particles that another program simulated, inserted at the poses
//! it wrote down, give back the map it projected.

use std::path::Path;

use dewar_compute::ctf::{Ctf, CtfParams};
use dewar_compute::fft::{RealFft2, half_plane_len};
use dewar_compute::filter::filtered;
use dewar_compute::fsc::{fsc, resolution_at};
use dewar_compute::noise::NoiseEstimate;
use dewar_compute::orientation::Rotation;
use dewar_compute::reconstruct::{Accumulator, GridShape, Insertion, MergedSums, Prior, Sums};
use dewar_compute::volume::Volume;
use nalgebra::Matrix3;
use num_complex::Complex32;

const N: usize = 64;
const PIXEL_ANGSTROM: f64 = 4.0;
const R_MAX: usize = 31;

struct Row {
    index: usize,
    ctf: CtfParams,
    half_set: usize,
    rotation: Rotation,
    shift_px: [f64; 2],
}

/// The rows of `truth.star`, whose columns are known.
fn rows(star: &str) -> Vec<Row> {
    star.lines()
        .filter(|line| line.contains("@particles.mrcs"))
        .map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let number = |column: usize| fields[column].parse::<f64>().unwrap();
            Row {
                index: fields[0]
                    .split('@')
                    .next()
                    .unwrap()
                    .parse::<usize>()
                    .unwrap()
                    - 1,
                ctf: CtfParams {
                    defocus_u_angstrom: number(3),
                    defocus_v_angstrom: number(4),
                    defocus_angle_deg: number(5),
                    ..CtfParams::default()
                },
                half_set: number(6) as usize,
                rotation: Rotation::from_euler_deg(number(7), number(8), number(9)),
                shift_px: [number(10) / PIXEL_ANGSTROM, number(11) / PIXEL_ANGSTROM],
            }
        })
        .collect()
}

/// The grey values of an MRC file of 32-bit floats.
fn grey_values(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let int = |at: usize| i32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(int(12), 2, "mode");
    bytes[1024 + int(92) as usize..]
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

/// The point group D7: sevenfold about z, twofold about x.
fn d7() -> Vec<Matrix3<f64>> {
    let flip = Matrix3::from_diagonal(&nalgebra::Vector3::new(1.0, -1.0, -1.0));
    (0..7)
        .map(|turn| Rotation::from_euler_deg(360.0 / 7.0 * f64::from(turn), 0.0, 0.0).0)
        .flat_map(|turn| [turn, turn * flip])
        .collect()
}

fn insert_all(rows: &[Row], images: &[f32], shape: GridShape) -> [Sums; 2] {
    let mut fft = RealFft2::new(N).unwrap();
    let mut half = vec![Complex32::ZERO; half_plane_len(N)];
    let mut estimate = NoiseEstimate::new(N);
    for image in images.chunks_exact(N * N) {
        fft.forward(image, &mut half);
        estimate.add(&half);
    }
    let inverse_sigma2: Vec<f32> = estimate
        .sigma2()
        .iter()
        .map(|sigma2| (1.0 / sigma2) as f32)
        .collect();
    let mut ctf = vec![0.0; half_plane_len(N)];
    let mut halves = [Accumulator::new(shape), Accumulator::new(shape)];
    for row in rows {
        fft.forward(&images[row.index * N * N..][..N * N], &mut half);
        Ctf::new(&row.ctf)
            .unwrap()
            .fill_half_plane(N, PIXEL_ANGSTROM, &mut ctf);
        halves[row.half_set - 1].insert(&Insertion {
            image: &half,
            ctf: &ctf,
            is_multiplied: false,
            inverse_sigma2: &inverse_sigma2,
            rotation: &row.rotation,
            shift_px: row.shift_px,
            weight: 1.0,
        });
    }
    halves.map(|half| {
        let mut sums = Sums::new(shape);
        sums.add(&Accumulator::from_bytes(&half.to_bytes()).unwrap())
            .unwrap();
        sums
    })
}

#[test]
fn the_true_poses_give_back_the_true_map() {
    let folder = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/groel600"
    ));
    if !folder.is_dir() {
        println!("skipped: shared/data is not beside the project");
        return;
    }
    let rows = rows(&std::fs::read_to_string(folder.join("truth.star")).unwrap());
    assert_eq!(rows.len(), 600);
    let images = grey_values(&folder.join("particles.mrcs"));
    let truth = Volume::new(N, grey_values(&folder.join("truth.mrc"))).unwrap();

    let halves = insert_all(&rows, &images, GridShape::new(N, R_MAX, 2.0).unwrap());
    let symmetric: Vec<MergedSums> = halves.into_iter().map(|sums| sums.merge(&d7())).collect();
    let maps: Vec<Volume> = symmetric
        .iter()
        .map(|sums| sums.reconstruct(Prior::None))
        .collect();
    let mean = maps[0]
        .data()
        .iter()
        .zip(maps[1].data())
        .map(|(a, b)| (a + b) / 2.0)
        .collect();
    let mean = Volume::new(N, mean).unwrap();

    let between = fsc(&maps[0], &maps[1], None).unwrap();
    let to_truth = fsc(&mean, &truth, None).unwrap();
    let gold = resolution_at(&between, 0.143, N, PIXEL_ANGSTROM).unwrap();
    let true_resolution = resolution_at(&to_truth, 0.5, N, PIXEL_ANGSTROM).unwrap();
    let dot = |a: &Volume, b: &Volume| {
        a.data()
            .iter()
            .zip(b.data())
            .map(|(a, b)| f64::from(a * b))
            .sum::<f64>()
    };
    // Grey scale without the corners of the transform, which no projection shows.
    let seen = filtered(&truth, |shell| f64::from(u8::from(shell <= R_MAX as f64)));
    let scale = dot(&mean, &seen) / dot(&seen, &seen);
    println!(
        "half-map FSC 0.143 {gold:.3} Å, FSC-to-truth 0.5 {true_resolution:.3} Å, scale {scale:.4}"
    );

    // Another program's reconstruction from the same poses reaches 8.75 and 8.67 Å. Here it is 8.45
    // and 8.46, of which the rounded corners of the box are 0.1. A wrong convention ends near 30 Å;
    // much better would be too good to be true.
    assert!((8.3..8.75).contains(&gold), "{gold}");
    assert!((8.3..8.67).contains(&true_resolution), "{true_resolution}");
    assert!(
        to_truth[1..10].iter().all(|fsc| *fsc > 0.99),
        "{to_truth:?}"
    );
    assert!((scale - 1.0).abs() < 0.02, "{scale}");
}
