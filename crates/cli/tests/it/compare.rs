//! `dewar compare`.

use crate::dewar::{dewar, keys, word};
use dewar_formats::particles::{HalfSet, Particle, ParticleSet, Pose, Refined};
use std::path::{Path, PathBuf};

/// A simulated set's folder.
fn set(folder: &Path) -> PathBuf {
    let out = folder.join("set");
    dewar([
        "simulate",
        "--particles",
        "12",
        "--box",
        "32",
        "--pixel-size",
        "8",
        "--out",
        word(&out),
    ])
    .ok();
    out
}

/// Writes the truth with other poses into a folder of its own.
fn turned(set: &Path, name: &str, change: impl Fn(usize, Pose) -> Pose) -> PathBuf {
    let truth = ParticleSet::read(&set.join("truth.star"), None).unwrap();
    let refined: Vec<Refined> = truth
        .particles
        .iter()
        .enumerate()
        .map(|(at, particle): (usize, &Particle)| Refined {
            pose: change(at, particle.pose.unwrap()),
            half_set: HalfSet::One,
            weight: 1.0,
            angle_sd_deg: 1.5,
            shift_sd_angstrom: 0.5,
            covariance: [0.0; 15],
        })
        .collect();
    let path = set.parent().unwrap().join(name);
    truth.write_refined(&path, &refined).unwrap();
    path
}

#[test]
fn the_truth_is_no_error_wherever_the_file_lies() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path());
    let copy = turned(&set, "copy.star", |_, pose| pose);
    let json = dewar([
        "compare",
        word(&copy),
        word(&set.join("truth.star")),
        "--json",
    ])
    .ok()
    .json();
    let promised = [
        "compared_count",
        "particle_count",
        "symmetry",
        "angle_median_deg",
        "angle_p90_deg",
        "within_3_deg",
        "within_10_deg",
        "shift_median_angstrom",
        "frame_angle_deg",
    ];
    assert_eq!(keys(&json), promised);
    assert_eq!(
        (&json["compared_count"], &json["particle_count"]),
        (&12.into(), &12.into())
    );
    assert!(json["angle_median_deg"].as_f64().unwrap() < 1e-3, "{json}");
    assert!(
        json["shift_median_angstrom"].as_f64().unwrap() < 1e-3,
        "{json}"
    );
    assert_eq!(json["within_3_deg"], 1.0);
}

#[test]
fn errors_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path());
    // In the plane of each image, by 2 degrees to either side: no common frame takes that away.
    let off = turned(&set, "off.star", |at, pose| Pose {
        psi_deg: pose.psi_deg + if at % 2 == 0 { 2.0 } else { -2.0 },
        shift_angstrom: [pose.shift_angstrom[0] + 5.0, pose.shift_angstrom[1]],
        ..pose
    });
    let truth = set.join("truth.star");
    let json = dewar(["compare", word(&off), word(&truth), "--json"])
        .ok()
        .json();
    let angle = json["angle_median_deg"].as_f64().unwrap();
    assert!((1.0..3.0).contains(&angle), "{json}");
    let shift = json["shift_median_angstrom"].as_f64().unwrap();
    assert!((2.0..8.0).contains(&shift), "{json}");
    let text = dewar(["compare", word(&off), word(&truth)]).ok().stdout;
    assert!(
        text.contains("12 of 12 particles") && text.contains(&format!("median {angle:.2} deg")),
        "{text}"
    );
}

#[test]
fn symmetric_poses_are_equal_only_under_the_symmetry() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path());
    // A = A_true S with S about z adds to rot; every particle takes another copy.
    let copies = turned(&set, "copies.star", |at, pose| Pose {
        rot_deg: pose.rot_deg + 90.0 * at as f64,
        ..pose
    });
    let median = |symmetry: &str| {
        let truth = set.join("truth.star");
        let json = dewar([
            "compare",
            word(&copies),
            word(&truth),
            "--symmetry",
            symmetry,
            "--json",
        ])
        .ok()
        .json();
        json["angle_median_deg"].as_f64().unwrap()
    };
    assert!(median("C4") < 1e-3);
    assert!(median("C1") > 10.0);
}

#[test]
fn files_that_cannot_be_compared_are_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path());
    let (particles, truth) = (set.join("particles.star"), set.join("truth.star"));
    dewar(["compare", word(&particles), word(&truth)]).fails(2, &["particles.star", "no poses"]);
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let elsewhere = crate::compare::set(&other).join("truth.star");
    dewar(["compare", word(&truth), word(&elsewhere)]).fails(2, &["no image in common"]);
}
