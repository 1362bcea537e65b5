//! `dewar fsc`.

use crate::dewar::{dewar, keys, word};
use dewar_compute::{noise::GaussianNoise, volume::Volume};
use dewar_formats::mrc::write_map;
use std::path::{Path, PathBuf};

const N: usize = 16;

/// A map of noise, with another's share in it.
fn map(folder: &Path, name: &str, seed: u64, common: Option<&Volume>) -> (PathBuf, Volume) {
    let mut noise = GaussianNoise::new(seed, 0);
    let mut volume = Volume::from_fn(N, |_, _, _| noise.next()).unwrap();
    if let Some(common) = common {
        volume
            .data_mut()
            .iter_mut()
            .zip(common.data())
            .for_each(|(own, common)| *own += 2.0 * common);
    }
    let path = folder.join(name);
    write_map(&path, [N; 3], 2.0, volume.data(), "test").unwrap();
    (path, volume)
}

#[test]
fn the_curve_and_its_crossings_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (_, common) = map(folder.path(), "common.mrc", 1, None);
    let (a, _) = map(folder.path(), "a.mrc", 2, Some(&common));
    let (b, _) = map(folder.path(), "b.mrc", 3, Some(&common));
    let (c, _) = map(folder.path(), "c.mrc", 4, None);

    let json = dewar(["fsc", word(&a), word(&b), "--json"]).ok().json();
    let promised = [
        "box_size_px",
        "pixel_size_angstrom",
        "resolution_0_5_angstrom",
        "resolution_0_143_angstrom",
        "fsc",
    ];
    assert_eq!(keys(&json), promised);
    let curve: Vec<f64> = json["fsc"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect();
    assert_eq!(curve.len(), N / 2 + 1);
    // Four parts signal to one of noise: 0.8, within what a few hundred numbers a shell allow.
    assert!(
        curve[4..].iter().all(|value| (value - 0.8).abs() < 0.15),
        "{curve:?}"
    );
    assert!(json["resolution_0_143_angstrom"].is_null(), "{json}");

    let unlike = dewar(["fsc", word(&a), word(&c), "--json"]).ok().json();
    assert!(
        unlike["resolution_0_143_angstrom"].as_f64().unwrap() > 4.0,
        "{unlike}"
    );

    let text = dewar(["fsc", word(&a), word(&b)]).ok().stdout;
    assert!(
        text.contains("\nFSC 0.143  never, down to 4.00 A\n"),
        "{text}"
    );
    assert_eq!(
        text.lines()
            .filter(|line| line.trim().starts_with(char::is_numeric))
            .count(),
        N / 2,
        "{text}"
    );
}

#[test]
fn a_mask_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (_, common) = map(folder.path(), "common.mrc", 1, None);
    let (a, _) = map(folder.path(), "a.mrc", 2, Some(&common));
    let (b, _) = map(folder.path(), "b.mrc", 3, Some(&common));
    let mask = Volume::from_fn(N, |x, y, z| f64::from(x * x + y * y + z * z < 25.0)).unwrap();
    let mask_path = folder.path().join("mask.mrc");
    write_map(&mask_path, [N; 3], 2.0, mask.data(), "test").unwrap();
    let plain = dewar(["fsc", word(&a), word(&b), "--json"]).ok().json();
    let masked = dewar([
        "fsc",
        word(&a),
        word(&b),
        "--mask",
        word(&mask_path),
        "--json",
    ])
    .ok()
    .json();
    assert_ne!(plain["fsc"], masked["fsc"]);
}

#[test]
fn maps_that_do_not_match_are_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let (a, _) = map(folder.path(), "a.mrc", 2, None);
    let other = |name: &str, size: [usize; 3], pixel_size_angstrom: f32| {
        let path = folder.path().join(name);
        let values = vec![1.0; size.iter().product()];
        write_map(&path, size, pixel_size_angstrom, &values, "test").unwrap();
        path
    };
    dewar(["fsc", word(&a), word(&other("small.mrc", [8; 3], 2.0))])
        .fails(2, &["a.mrc", "small.mrc", "16 px", "8 px"]);
    dewar(["fsc", word(&a), word(&other("fine.mrc", [N; 3], 1.0))])
        .fails(2, &["fine.mrc", "2 A", "1 A"]);
    dewar(["fsc", word(&a), word(&other("flat.mrc", [16, 16, 8], 2.0))])
        .fails(2, &["flat.mrc", "16 x 16 x 8", "cube"]);
}
