//! `dewar simulate`.

use crate::dewar::{dewar, word};
use std::{fs, path::Path};

fn simulate(out: &Path, more: &[&str]) {
    let words = [
        "simulate",
        "--particles",
        "5",
        "--box",
        "32",
        "--pixel-size",
        "8",
        "--out",
        word(out),
    ];
    dewar(words.iter().chain(more)).ok();
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name);
    simulate(&out("a"), &["--seed", "3"]);
    simulate(&out("b"), &["--seed", "3"]);
    simulate(&out("c"), &["--seed", "4"]);
    for name in [
        "particles.mrcs",
        "particles.star",
        "truth.star",
        "truth.mrc",
    ] {
        assert_eq!(
            fs::read(out("a").join(name)).unwrap(),
            fs::read(out("b").join(name)).unwrap(),
            "{name}"
        );
    }
    for name in ["particles.mrcs", "truth.star"] {
        assert_ne!(
            fs::read(out("a").join(name)).unwrap(),
            fs::read(out("c").join(name)).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn what_is_there_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("particles.mrcs"), "precious").unwrap();
    let words = ["simulate", "--particles", "5", "--out", word(folder.path())];
    dewar(words).fails(2, &["particles.mrcs", "there already"]);
    assert_eq!(
        fs::read_to_string(folder.path().join("particles.mrcs")).unwrap(),
        "precious"
    );
}

#[test]
fn real_maps_and_models_are_projected() {
    let Some(data) = dewar_testkit::shared_data("real_maps_and_models_are_projected") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for (source, more) in [
        (
            "70S_ribosome_65.mrc",
            &["--pixel-size", "5", "--box", "64", "--diameter", "260"][..],
        ),
        ("6NY1.pdb.gz", &["--pixel-size", "4", "--box", "48"]),
        ("casx_128.mrc.gz", &["--box", "100"]),
    ] {
        let (source, out) = (data.join(source), folder.path().join(source));
        let words = [
            "simulate",
            word(&source),
            "--particles",
            "3",
            "--out",
            word(&out),
        ];
        dewar(words.iter().chain(more)).ok();
        let json = dewar(["info", "--json", word(&out.join("truth.mrc"))])
            .ok()
            .json();
        assert!(json["max"].as_f64().unwrap() > 0.0, "{json}");
    }
}
