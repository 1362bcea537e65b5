//! `dewar postprocess`.

mod halves;
mod relion;

use crate::dewar::{dewar, keys, word};
use dewar_compute::{mask, noise::GaussianNoise, volume::Volume};
use dewar_formats::mrc::{MrcFile, write_map};
use dewar_formats::star::Document;
use halves::{Halves, N, PIXEL_ANGSTROM};
use std::{fs, path::Path};

const OUTPUTS: [&str; 6] = [
    "fsc.star",
    "local_resolution.mrc",
    "map_sharpened.mrc",
    "mask.mrc",
    "pictures",
    "postprocess.json",
];

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A map of noise alone.
fn noise(folder: &Path, name: &str, n: usize, seed: u64) -> std::path::PathBuf {
    let mut source = GaussianNoise::new(seed, 0);
    let map = Volume::from_fn(n, |_, _, _| source.next()).unwrap();
    let path = folder.join(name);
    write_map(&path, [n; 3], 2.0, map.data(), "test").unwrap();
    path
}

#[test]
fn half_maps_become_a_resolution_a_map_and_their_curves() {
    let folder = tempfile::tempdir().unwrap();
    let halves = Halves::reconstruct(folder.path());
    let out = folder.path().join("deep/post");
    let words = [
        "postprocess",
        word(&halves.first),
        word(&halves.second),
        "--out",
        word(&out),
    ];
    let ran = dewar(words.iter().chain(&["--json", "--local-resolution"])).ok();
    let json = ran.json();
    let promised = [
        "box_size_px",
        "pixel_size_angstrom",
        "resolution_0_143_angstrom",
        "resolution_0_5_angstrom",
        "b_factor_angstrom2",
        "guinier",
        "local_resolution",
        "mask",
        "randomised_from_angstrom",
        "seed",
        "warnings",
        "program_version",
        "files",
    ];
    assert_eq!(keys(&json), promised);
    assert_eq!(names(&out), OUTPUTS);
    assert_eq!(names(&out.join("pictures")), ["fsc.svg", "guinier.svg"]);
    let record = fs::read_to_string(out.join("postprocess.json")).unwrap();
    assert_eq!(record, ran.stdout);

    // The phantom's beads are Gaussians of 3 A: B = 8 pi² 3² = 711 A². Beads in a body are no white spectrum, so roughly.
    let b_factor = json["b_factor_angstrom2"].as_f64().unwrap();
    assert!((-1000.0..-500.0).contains(&b_factor), "{json:#}");
    let at = |key: &str| json[key].as_f64().unwrap();
    assert!(at("resolution_0_5_angstrom") > at("resolution_0_143_angstrom"));
    assert_eq!(json["warnings"], serde_json::json!([]));
    // One particle at perfect poses: about as good everywhere as on the whole.
    let median = json["local_resolution"]["median_angstrom"]
        .as_f64()
        .unwrap();
    let ratio = median / at("resolution_0_143_angstrom");
    assert!((0.8..1.3).contains(&ratio), "{json:#}");

    let sharpened = MrcFile::open(&out.join("map_sharpened.mrc")).unwrap();
    assert_eq!(sharpened.header().size, [N; 3]);
    assert_eq!(
        sharpened.header().pixel_size_angstrom,
        Some(PIXEL_ANGSTROM as f32)
    );
    let star = Document::read(&out.join("fsc.star")).unwrap();
    let table = star.block("fsc").unwrap().table().unwrap().into_owned();
    assert_eq!(table.row_count(), N / 2 + 1);

    // The same again, for people; and what is there stays.
    let text = dewar(
        words[..3]
            .iter()
            .chain(&["--out", word(&folder.path().join("again"))]),
    )
    .ok()
    .stdout;
    let line = format!("\nFSC 0.143  {:.2} A\n", at("resolution_0_143_angstrom"));
    assert!(text.contains(&line), "{text}");
    assert_eq!(
        fs::read(out.join("map_sharpened.mrc")).unwrap(),
        fs::read(folder.path().join("again/map_sharpened.mrc")).unwrap()
    );
    dewar(words).fails(2, &["map_sharpened.mrc", "there already"]);
}

#[test]
fn a_detectors_curve_and_a_given_b_factor_count() {
    let folder = tempfile::tempdir().unwrap();
    let halves = Halves::reconstruct(folder.path());
    let mtf = folder.path().join("mtf.star");
    let curve =
        "\ndata_\n\nloop_\n_rlnResolutionInversePixel\n_rlnMtfValue\n0 1.0\n0.25 0.6\n0.5 0.2\n";
    fs::write(&mtf, curve).unwrap();
    let b_factor = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let words = [
            "postprocess",
            word(&halves.first),
            word(&halves.second),
            "--json",
        ];
        let out = ["--out", word(&out)];
        let json = dewar(words.iter().chain(&out).chain(more)).ok().json();
        json["b_factor_angstrom2"].as_f64().unwrap()
    };
    let plain = b_factor("plain", &[]);
    // What the detector took is given back first: less is left to sharpen.
    assert!(b_factor("mtf", &["--mtf", word(&mtf)]) > plain + 10.0);
    assert_eq!(b_factor("given", &["--b-factor", "-80"]), -80.0);
    fs::write(&mtf, curve.replace("0.6", "none")).unwrap();
    let out = folder.path().join("wrong");
    let words = [
        "postprocess",
        word(&halves.first),
        word(&halves.second),
        "--out",
        word(&out),
    ];
    dewar(words.iter().chain(&["--mtf", word(&mtf)])).fails(2, &["mtf.star", "none", "number"]);
    assert!(!out.exists());
}

#[test]
fn noise_alone_gives_no_resolution_and_no_map() {
    let folder = tempfile::tempdir().unwrap();
    let first = noise(folder.path(), "a.mrc", 32, 1);
    let second = noise(folder.path(), "b.mrc", 32, 2);
    let out = folder.path().join("post");
    let words = [
        "postprocess",
        word(&first),
        word(&second),
        "--out",
        word(&out),
        "--json",
    ];
    let ran = dewar(words).ok();
    let json = ran.json();
    assert!(json["resolution_0_143_angstrom"].is_null(), "{json:#}");
    assert!(json["files"]["map_sharpened"].is_null(), "{json:#}");
    assert!(
        ran.stderr.contains("warning: the half-maps share nothing"),
        "{ran:?}"
    );
    assert_eq!(
        names(&out),
        ["fsc.star", "mask.mrc", "pictures", "postprocess.json"]
    );
}

#[test]
fn what_does_not_fit_together_is_code_2_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let first = noise(folder.path(), "a.mrc", 16, 1);
    let second = noise(folder.path(), "b.mrc", 16, 2);
    let small = noise(folder.path(), "small.mrc", 8, 3);
    let coarse = path("coarse.mrc");
    write_map(&coarse, [16; 3], 3.0, &vec![1.0; 16 * 16 * 16], "test").unwrap();
    let mask = mask::spherical(8, 2.0, 1.0).unwrap();
    write_map(&path("mask.mrc"), [8; 3], 2.0, mask.data(), "test").unwrap();
    let refused = |second: &Path, more: &[&str], expected: &[&str]| {
        let out = path("post");
        let words = [
            "postprocess",
            word(&first),
            word(second),
            "--out",
            word(&out),
        ];
        dewar(words.iter().chain(more)).fails(2, expected);
        assert!(!out.exists());
    };
    refused(&small, &[], &["a.mrc", "small.mrc", "16 px", "8 px"]);
    refused(&coarse, &[], &["a.mrc", "coarse.mrc", "2 A", "3 A"]);
    refused(&first, &[], &["a.mrc", "same values"]);
    refused(
        &second,
        &["--mask", word(&path("mask.mrc"))],
        &["mask.mrc", "mask of 8 px"],
    );
    refused(
        &second,
        &["--mask", word(&first)],
        &["a.mrc", "from 0 to 1"],
    );
    let words = ["postprocess", word(&first), word(&second), "--out"];
    let ran = dewar(
        words
            .iter()
            .chain(&[word(&path("post")), "--b-factor", "inf"]),
    );
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("--b-factor") && ran.stderr.contains("number"));
}
