//! Refinements come near the truth: on particles this project did not make, and on its own.

use anyhow::{Context, Result, ensure};
use dewar_testkit::{
    Programs,
    refinement::{Case, json},
    shared_data,
};
use serde_json::Value;
use std::{fs, path::Path};

fn record(out: &Path) -> Result<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(
        out.join("refine.json"),
    )?)?)
}

/// Where the FSC of a refined map with the truth falls below 0.5.
fn resolution_to_truth(programs: &Programs, out: &Path, truth: &Path) -> Result<f64> {
    let fsc = json(
        programs
            .dewar()
            .arg("fsc")
            .arg(out.join("map.mrc"))
            .arg(truth)
            .arg("--json"),
    )?;
    fsc["resolution_0_5_angstrom"]
        .as_f64()
        .context("the curve falls below 0.5")
}

fn angle_median_deg(programs: &Programs, out: &Path, truth: &Path, symmetry: &str) -> Result<f64> {
    let error = json(
        programs
            .dewar()
            .arg("compare")
            .arg(out.join("particles.star"))
            .arg(truth)
            .args(["--symmetry", symmetry, "--json"]),
    )?;
    error["angle_median_deg"]
        .as_f64()
        .context("compare gives angle_median_deg")
}

#[test]
fn groel_reaches_its_resolution_from_40_angstrom() -> Result<()> {
    let Some(data) = shared_data("groel_reaches_its_resolution_from_40_angstrom") else {
        return Ok(());
    };
    let data = data.join("groel600");
    let programs = Programs::beside_test()?;
    let out = tempfile::tempdir()?;
    let out = out.path().join("refined");
    let case = Case {
        particles: data.join("particles.star"),
        reference: data.join("reference.mrc"),
        flags: ["--symmetry", "D7", "--diameter", "200"]
            .map(str::to_owned)
            .to_vec(),
    };
    case.refine_in_process(&programs, 2, &out)?;
    let halves = record(&out)?["resolution_angstrom"]
        .as_f64()
        .context("refine.json gives a resolution")?;
    let truth = resolution_to_truth(&programs, &out, &data.join("truth.mrc"))?;
    let angle = angle_median_deg(&programs, &out, &data.join("truth.star"), "D7")?;
    println!(
        "GroEL: half-maps {halves:.2} A, to the truth {truth:.2} A, median angle {angle:.2} deg"
    );
    ensure!(
        halves <= 10.5 && truth <= 10.8 && angle <= 2.5,
        "{halves} A, {truth} A, {angle} deg"
    );
    Ok(())
}

#[test]
fn the_phantom_without_symmetry_is_found_within_3_degrees() -> Result<()> {
    let programs = Programs::beside_test()?;
    let folder = tempfile::tempdir()?;
    let (data, out) = (folder.path().join("data"), folder.path().join("refined"));
    let case = Case::simulate(
        &programs,
        &data,
        &["--particles", "2000", "--box", "64", "--snr", "0.1"],
        // Enough to come within the bound; the rounds after these only polish.
        &["--iterations", "4"],
    )?;
    case.refine_in_process(&programs, 2, &out)?;
    let angle = angle_median_deg(&programs, &out, &data.join("truth.star"), "C1")?;
    println!("phantom: median angle {angle:.2} deg");
    ensure!(angle <= 3.0, "{angle} deg");
    Ok(())
}

#[test]
fn the_ribosome_gets_better_than_the_30_angstrom_it_starts_from() -> Result<()> {
    let Some(data) = shared_data("the_ribosome_gets_better_than_the_30_angstrom_it_starts_from")
    else {
        return Ok(());
    };
    let programs = Programs::beside_test()?;
    let folder = tempfile::tempdir()?;
    let (simulated, out) = (folder.path().join("data"), folder.path().join("refined"));
    let map = data.join("70S_ribosome_65.mrc");
    let map = map.to_str().context("the path is UTF-8")?;
    let flags = [
        map,
        "--pixel-size",
        "5",
        "--particles",
        "1000",
        "--snr",
        "0.3",
        "--box",
        "64",
        "--diameter",
        "270",
    ];
    let case = Case::simulate(
        &programs,
        &simulated,
        &flags,
        &["--low-pass", "30", "--diameter", "270"],
    )?;
    case.refine_in_process(&programs, 2, &out)?;
    let truth = resolution_to_truth(&programs, &out, &simulated.join("truth.mrc"))?;
    println!("ribosome: to the truth {truth:.2} A");
    ensure!(truth < 30.0, "{truth} A");
    Ok(())
}

/// A reference is found in any noise, given enough of it ("Einstein from noise", Henderson 2013): but only as far as it
/// reached itself.
#[test]
fn noise_alone_gives_nothing_beyond_the_filter_of_its_reference() -> Result<()> {
    let programs = Programs::beside_test()?;
    let folder = tempfile::tempdir()?;
    noise_alone(
        &programs,
        folder.path(),
        &["--particles", "400", "--box", "64"],
        &["--iterations", "3"],
    )
}

/// With symmetry each particle counts many times, and so does what its reference made of it. Rounds enough for detail to
/// creep up by a shell in each, if it could.
#[test]
fn noise_alone_with_symmetry_gives_no_more() -> Result<()> {
    let programs = Programs::beside_test()?;
    let folder = tempfile::tempdir()?;
    noise_alone(
        &programs,
        folder.path(),
        &["--particles", "1000", "--box", "64", "--symmetry", "D7"],
        &["--symmetry", "D7", "--diameter", "200", "--iterations", "4"],
    )
}

fn noise_alone(programs: &Programs, folder: &Path, made: &[&str], refined: &[&str]) -> Result<()> {
    let (data, out) = (folder.join("data"), folder.join("refined"));
    let case = Case::simulate(
        programs,
        &data,
        &[made, &["--snr", "0.000001"]].concat(),
        &[refined, &["--low-pass", "40"]].concat(),
    )?;
    case.refine_in_process(programs, 2, &out)?;
    let [half1, half2] = ["half1.mrc", "half2.mrc"].map(|name| out.join(name));
    let fsc = json(
        programs
            .dewar()
            .arg("fsc")
            .args([half1, half2])
            .arg("--json"),
    )?;
    let curve: Vec<f64> = fsc["fsc"]
        .as_array()
        .context("dewar fsc gives the curve")?
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    // 40 A is shell 6.4 of 256 A; the filter's edge and the mask's blur reach three shells further.
    let beyond = &curve[10..];
    let mean = beyond.iter().sum::<f64>() / beyond.len() as f64;
    let most = beyond.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    println!("noise alone: mean {mean:.3}, at most {most:.3}");
    ensure!(
        mean.abs() < 0.05 && most < 0.2,
        "mean {mean}, at most {most}"
    );
    ensure!(
        record(&out)?["has_own_detail"] == false,
        "noise passes for a structure"
    );
    Ok(())
}

/// Images say nothing of the hand: what comes of a mirrored reference is mirrored, and no score may hide it.
#[test]
fn a_mirrored_reference_is_not_scored_as_a_success() -> Result<()> {
    let programs = Programs::beside_test()?;
    let folder = tempfile::tempdir()?;
    let (data, out) = (folder.path().join("data"), folder.path().join("refined"));
    let mut case = Case::simulate(
        &programs,
        &data,
        &["--particles", "300", "--box", "48", "--snr", "0.3"],
        &["--low-pass", "30", "--iterations", "3"],
    )?;
    let truth = data.join("truth.mrc");
    case.reference = data.join("mirrored.mrc");
    fs::write(&case.reference, mirrored(fs::read(&truth)?, 48))?;
    case.refine_in_process(&programs, 2, &out)?;
    let angle = angle_median_deg(&programs, &out, &data.join("truth.star"), "C1")?;
    let resolution = resolution_to_truth(&programs, &out, &truth)?;
    println!("mirrored: median angle {angle:.1} deg, to the truth {resolution:.1} A");
    ensure!(
        angle > 20.0 && resolution > 20.0,
        "{angle} deg, {resolution} A"
    );
    Ok(())
}

/// An MRC map of float32 with x turned about its origin at n/2.
fn mirrored(mut file: Vec<u8>, n: usize) -> Vec<u8> {
    const HEADER: usize = 1024;
    for row in file[HEADER..].chunks_exact_mut(4 * n) {
        let (voxels, _) = row.as_chunks_mut::<4>();
        // Voxel 0 of an even box has no mate.
        voxels[1..].reverse();
    }
    file
}
