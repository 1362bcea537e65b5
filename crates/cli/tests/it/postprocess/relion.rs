//! The same half-maps through RELION's own program, where it is installed.

use super::halves::{Halves, N, PIXEL_ANGSTROM};
use crate::dewar::{dewar, word};
use dewar_formats::star::{Document, Table};
use std::{path::Path, process::Command};

/// RELION's result for the half-maps and the mask; none, said on stderr, if the program is not there.
fn relion(test: &str, halves: &Halves, mask: &Path, out: &Path) -> Option<Document> {
    let mut command = Command::new("relion_postprocess");
    command.args(["--i", word(&halves.first), "--i2", word(&halves.second)]);
    command.args(["--mask", word(mask), "--o", word(out)]);
    command.args([
        "--angpix",
        &PIXEL_ANGSTROM.to_string(),
        "--random_seed",
        "1",
    ]);
    let output = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("{test}: skipped, since relion_postprocess is not installed");
            return None;
        }
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{output:?}");
    Some(Document::read(&out.with_extension("star")).unwrap())
}

fn curve(document: &Document, label: &str) -> Vec<f64> {
    let table: Table = document.block("fsc").unwrap().table().unwrap().into_owned();
    let column = table.column(label).unwrap();
    (0..table.row_count())
        .map(|row| table.value(row, column).parse().unwrap())
        .collect()
}

fn general(document: &Document, label: &str) -> f64 {
    document
        .block("general")
        .unwrap()
        .value(label)
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn relion_finds_the_same_resolution_and_curves() {
    let folder = tempfile::tempdir().unwrap();
    let halves = Halves::reconstruct(folder.path());
    let out = folder.path().join("post");
    dewar([
        "postprocess",
        word(&halves.first),
        word(&halves.second),
        "--out",
        word(&out),
    ])
    .ok();
    let test = "relion_finds_the_same_resolution_and_curves";
    let mask = out.join("mask.mrc");
    let Some(theirs) = relion(test, &halves, &mask, &folder.path().join("relion")) else {
        return;
    };
    let ours = Document::read(&out.join("fsc.star")).unwrap();
    let box_angstrom = N as f64 * PIXEL_ANGSTROM;
    let shells = [&ours, &theirs].map(|of| box_angstrom / general(of, "rlnFinalResolution"));
    eprintln!("resolution at shells {shells:?}");
    assert!((shells[0] - shells[1]).abs() <= 1.0, "{shells:?}");
    for label in [
        "rlnFourierShellCorrelationUnmaskedMaps",
        "rlnFourierShellCorrelationMaskedMaps",
    ] {
        let [ours, theirs] = [&ours, &theirs].map(|of| curve(of, label));
        for (shell, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert!(
                (ours - theirs).abs() < 0.01,
                "{label}, shell {shell}: {ours} {theirs}"
            );
        }
    }
    // Random phases are random: shell by shell they differ, on average they do not.
    let label = "rlnFourierShellCorrelationCorrected";
    let [ours, theirs] = [&ours, &theirs].map(|of| curve(of, label));
    let mean = ours
        .iter()
        .zip(&theirs)
        .map(|(a, b)| (a - b).abs())
        .sum::<f64>()
        / ours.len() as f64;
    assert!(mean < 0.05, "{mean}: {ours:?} {theirs:?}");
}
