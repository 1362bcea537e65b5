//! Small data sets, read back.

use super::*;
use dewar_compute::{
    ctf::{Ctf, CtfParams},
    fft::{RealFft2, half_plane_len, shift_half_plane},
    orientation::Rotation,
    projector::Projector,
    volume::Volume,
};
use dewar_formats::{mrc::MrcFile, particles::ParticleSet};
use num_complex::Complex32;
use std::fs;

fn options(out: &Path) -> SimulateOptions {
    SimulateOptions {
        source: None,
        out: out.to_owned(),
        particle_count: 6,
        snr: 0.5,
        box_size_px: 32,
        symmetry: PointGroup::C1,
        seed: 7,
        pixel_size_angstrom: Some(8.0),
        diameter_angstrom: None,
    }
}

/// Makes a set in a folder of its own, and gives the folder.
fn made(change: impl FnOnce(&mut SimulateOptions)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&folder.path().join("set"));
    change(&mut options);
    simulate(&options, &mut |_| ()).unwrap();
    folder
}

fn bytes_of(folder: &tempfile::TempDir) -> Vec<Vec<u8>> {
    let names = [
        "particles.mrcs",
        "particles.star",
        "truth.star",
        "truth.mrc",
    ];
    names
        .iter()
        .map(|name| fs::read(folder.path().join("set").join(name)).unwrap())
        .collect()
}

#[test]
fn equal_seeds_give_equal_bytes_and_others_do_not() {
    let (first, again, other) = (made(|_| ()), made(|_| ()), made(|options| options.seed = 8));
    assert_eq!(bytes_of(&first), bytes_of(&again));
    let images = |folder| bytes_of(folder)[0][1024..].to_owned();
    assert_ne!(images(&first), images(&other));
    assert_eq!(
        bytes_of(&first)[3][1024..],
        bytes_of(&other)[3][1024..],
        "the map has no noise"
    );
}

#[test]
fn only_the_truth_has_poses() {
    let folder = made(|_| ());
    let read = |name| ParticleSet::read(&folder.path().join("set").join(name), None).unwrap();
    let (particles, truth) = (read("particles.star"), read("truth.star"));
    assert!(!particles.has_poses() && truth.has_poses());
    assert_eq!(particles.half_set_counts(), [3, 3]);
    assert_eq!(
        (particles.box_size_px, particles.pixel_size_angstrom),
        (32, 8.0)
    );
    assert_eq!(particles.optics[0].voltage_kv, 300.0);
    for particle in &truth.particles {
        let shift = particle.pose.unwrap().shift_angstrom;
        assert!(shift.iter().all(|shift| shift.abs() <= 24.0), "{shift:?}");
        assert!((9_850.0..25_150.0).contains(&particle.ctf.defocus_u_angstrom));
    }
}

/// Reads the files as anyone would, projects the map at the poses told, and expects the images.
#[test]
fn the_truth_explains_the_images() {
    let folder = made(|options| options.snr = f64::INFINITY);
    let set = ParticleSet::read(&folder.path().join("set/truth.star"), None).unwrap();
    let map = MrcFile::open(&folder.path().join("set/truth.mrc")).unwrap();
    let stack = MrcFile::open(&folder.path().join("set/particles.mrcs")).unwrap();
    let n = 32;
    let projector =
        Projector::new(&Volume::new(n, map.read_all().unwrap()).unwrap(), 15, 2.0).unwrap();
    let mut fft = RealFft2::new(n).unwrap();
    for particle in &set.particles {
        let pose = particle.pose.unwrap();
        let mut half = vec![Complex32::ZERO; half_plane_len(n)];
        let rotation = Rotation::from_euler_deg(pose.rot_deg, pose.tilt_deg, pose.psi_deg);
        projector.slice(&rotation, n, 15, &mut half);
        let ctf = Ctf::new(&CtfParams {
            defocus_u_angstrom: particle.ctf.defocus_u_angstrom,
            defocus_v_angstrom: particle.ctf.defocus_v_angstrom,
            defocus_angle_deg: particle.ctf.defocus_angle_deg,
            ..CtfParams::default()
        })
        .unwrap();
        let mut ctf_values = vec![0.0; half.len()];
        ctf.fill_half_plane(n, set.pixel_size_angstrom, &mut ctf_values);
        half.iter_mut()
            .zip(&ctf_values)
            .for_each(|(value, ctf)| *value *= *ctf);
        // Displaced by the opposite of the shift that centres it.
        shift_half_plane(
            &mut half,
            n,
            pose.shift_angstrom
                .map(|shift| -shift / set.pixel_size_angstrom),
        );
        let mut expected = vec![0.0; n * n];
        fft.inverse(&half, &mut expected);
        let mut image = vec![0.0; n * n];
        stack
            .read_section(particle.image_index, &mut image)
            .unwrap();
        let power: f32 = expected.iter().map(|value| value * value).sum();
        let error: f32 = expected
            .iter()
            .zip(&image)
            .map(|(a, b)| (a - b) * (a - b))
            .sum();
        assert!(
            error < 1e-6 * power && power > 0.0,
            "image {}: {error} of {power}",
            particle.image_index
        );
    }
}

#[test]
fn the_phantom_takes_the_symmetry_asked_for() {
    let folder = made(|options| options.symmetry = "C4".parse().unwrap());
    let map = MrcFile::open(&folder.path().join("set/truth.mrc"))
        .unwrap()
        .read_all()
        .unwrap();
    let n = 32;
    let at = |x: usize, y: usize, z: usize| map[(z * n + y) * n + x];
    let peak = map.iter().copied().fold(0.0, f32::max);
    // A quarter turn about z carries (x, y) from the origin to (-y, x).
    for (x, y, z) in [(20, 17, 16), (12, 21, 14), (16, 11, 19)] {
        let turned = at(32 - y, x, z);
        assert!(
            (at(x, y, z) - turned).abs() < 1e-4 * peak,
            "({x}, {y}, {z})"
        );
    }
}

#[test]
fn a_map_is_cropped_about_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.mrc");
    let blob = Volume::from_fn(33, |x, y, z| {
        (-(x * x + y * y + (z - 1.0) * (z - 1.0)) / 18.0).exp()
    })
    .unwrap();
    mrc::write_map(&path, [33; 3], 1.6, blob.data(), "test").unwrap();
    let mut options = options(&folder.path().join("set"));
    options.source = Some(path);
    options.pixel_size_angstrom = None;
    options.diameter_angstrom = Some(30.0);
    let simulated = simulate(&options, &mut |_| ()).unwrap();
    assert_eq!(simulated.pixel_size_angstrom, 1.6);
    let map = MrcFile::open(&simulated.map).unwrap().read_all().unwrap();
    let highest = (0..map.len())
        .max_by(|a, b| map[*a].total_cmp(&map[*b]))
        .unwrap();
    assert_eq!(highest, (17 * 32 + 16) * 32 + 16, "one above the origin");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    fn check(change: impl FnOnce(&mut SimulateOptions), expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(&folder.path().join("set"));
        change(&mut options);
        let error = simulate(&options, &mut |_| ()).unwrap_err();
        assert!(error.is_input(), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!folder.path().join("set").exists());
    }
    check(|options| options.box_size_px = 33, "the box is 33 px");
    check(|options| options.particle_count = 0, "no particles");
    check(|options| options.particle_count = 1 << 40, "do not fit");
    check(|options| options.snr = -1.0, "SNR is -1");
    check(
        |options| options.diameter_angstrom = Some(300.0),
        "expected a larger box",
    );
    check(
        |options| options.pixel_size_angstrom = Some(0.0),
        "pixel size 0",
    );
    check(
        |options| options.source = Some("nowhere.mrc".into()),
        "cannot read nowhere.mrc",
    );
    check(
        |options| (options.source, options.pixel_size_angstrom) = (Some("a.pdb.gz".into()), None),
        "--pixel-size",
    );
}

#[test]
fn files_that_are_there_are_left_alone() {
    let folder = made(|_| ());
    let before = bytes_of(&folder);
    let error = simulate(
        &SimulateOptions {
            seed: 9,
            ..options(&folder.path().join("set"))
        },
        &mut |_| (),
    )
    .unwrap_err();
    assert!(matches!(error, SimulateError::Exists { .. }), "{error}");
    assert_eq!(bytes_of(&folder), before);
}
