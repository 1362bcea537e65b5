//! Our files read by others and theirs by us: PyPI `mrcfile` and `starfile` are the judges.
//!
//! The environment variable `DEWAR_TEST_PYTHON` names a Python interpreter that has them; without
//! it these tests say so and are skipped.

use std::path::Path;
use std::process::Command;

use dewar_formats::inspect::inspect;
use dewar_formats::mrc::{MrcFile, MrcKind, OutputMode, StackWriter, write_map};
use dewar_formats::particles::ParticleSet;
use dewar_formats::star::Document;

/// Runs a script in the folder and returns what it prints; `None` without an interpreter.
fn python(folder: &Path, script: &str) -> Option<String> {
    let Some(python) = std::env::var_os("DEWAR_TEST_PYTHON") else {
        eprintln!("skipped: DEWAR_TEST_PYTHON names no interpreter with mrcfile and starfile");
        return None;
    };
    let output = Command::new(python)
        .arg("-c")
        .arg(script)
        .current_dir(folder)
        .output();
    let output = output.expect("DEWAR_TEST_PYTHON can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{errors}");
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

fn wave(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| (i as f32 * 0.37).sin() * 3.0 + 0.5)
        .collect()
}

#[test]
fn mrcfile_validates_what_we_write() {
    let folder = tempfile::tempdir().unwrap();
    write_map(
        &folder.path().join("map.mrc"),
        [6, 5, 4],
        1.5,
        &wave(120),
        "Dewar test",
    )
    .unwrap();
    for (name, mode) in [
        ("f32.mrcs", OutputMode::Float32),
        ("f16.mrcs", OutputMode::Float16),
    ] {
        let mut stack =
            StackWriter::create(&folder.path().join(name), [6, 5], 1.5, mode, "").unwrap();
        for image in wave(90).chunks(30) {
            stack.append(image).unwrap();
        }
        stack.finish().unwrap();
    }
    let script = r#"
import mrcfile, sys
for name in ["map.mrc", "f32.mrcs", "f16.mrcs"]:
    if not mrcfile.validate(name, print_file=sys.stderr):
        sys.exit(name + " is not valid")
    with mrcfile.open(name) as f:
        kind = "stack" if f.is_image_stack() else "volume"
        print(kind, f.data.shape, float(f.voxel_size.x), float(f.voxel_size.z), f"{f.data[1][2][3]:.3f}")
"#;
    let Some(printed) = python(folder.path(), script) else {
        return;
    };
    let at = |index: usize| format!("{:.3}", wave(120)[index]);
    assert_eq!(
        printed.replace("\r\n", "\n"),
        format!(
            "volume (4, 5, 6) 1.5 1.5 {0}\nstack (3, 5, 6) 1.5 1.5 {0}\nstack (3, 5, 6) 1.5 1.5 {1}",
            at(30 + 2 * 6 + 3),
            // Half floats keep eleven bits.
            format_args!("{:.3}", half::f16::from_f32(wave(120)[45]).to_f32()),
        )
    );
}

#[test]
fn we_read_every_mode_and_byte_order_of_mrcfile() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
import mrcfile, numpy
values = numpy.arange(2 * 3 * 4).reshape(2, 3, 4) * 3
for name, order in [("little", "<"), ("big", ">")]:
    for kind in ["i1", "i2", "f4", "u2", "f2"]:
        data = (values - (20 if kind[0] != "u" else 0)).astype(order + kind)
        with mrcfile.new(f"{name}-{kind}.mrc", overwrite=True) as f:
            f.set_data(data)
            f.set_extended_header(numpy.frombuffer(b"x" * 100, dtype="V1"))
            f.voxel_size = 2.5
        if order == ">":
            with mrcfile.open(f"{name}-{kind}.mrc") as f:
                assert kind == "i1" or f.header.mode.dtype.byteorder == ">", f.header.mode.dtype
with mrcfile.new("packed.mrc.gz", compression="gzip") as f:
    f.set_data(values.astype("f4"))
with mrcfile.new("stack.mrc") as f:
    f.set_data(values.astype("f4"))
    f.set_image_stack()
"#;
    if python(folder.path(), script).is_none() {
        return;
    }
    let expected = |offset: usize| {
        (0..24)
            .map(|i| (3 * i) as f32 - offset as f32)
            .collect::<Vec<_>>()
    };
    for order in ["little", "big"] {
        for (kind, mode) in [("i1", 0), ("i2", 1), ("f4", 2), ("u2", 6), ("f2", 12)] {
            let name = format!("{order}-{kind}.mrc");
            let file = MrcFile::open(&folder.path().join(&name)).unwrap();
            assert_eq!(file.header().size, [4, 3, 2], "{name}");
            assert_eq!(file.encoding().mode.number(), mode, "{name}");
            assert_eq!(file.header().data_offset, 1124, "{name}");
            assert_eq!(file.header().pixel_size_angstrom, Some(2.5), "{name}");
            assert_eq!(file.warnings(), [] as [&str; 0], "{name}");
            if kind != "i1" {
                assert_eq!(file.encoding().big_endian, order == "big", "{name}");
            }
            assert_eq!(
                file.read_all().unwrap(),
                expected(if kind == "u2" { 0 } else { 20 }),
                "{name}"
            );
        }
    }
    let packed = MrcFile::open(&folder.path().join("packed.mrc.gz")).unwrap();
    assert_eq!(packed.read_all().unwrap(), expected(0));
    let stack = MrcFile::open(&folder.path().join("stack.mrc")).unwrap();
    assert_eq!(stack.header().kind, MrcKind::Stack);
    let statistics = inspect(stack.path(), None, &mut |_| {}).unwrap().statistics;
    assert_eq!(
        (statistics.min(), statistics.max(), statistics.mean()),
        (0.0, 69.0, 34.5)
    );
}

#[test]
fn starfile_and_we_read_one_another() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
import pandas, starfile
optics = pandas.DataFrame({"rlnOpticsGroup": [1], "rlnOpticsGroupName": ["two words"], "rlnVoltage": [300.0]})
particles = pandas.DataFrame({"rlnImageName": ["1@a b.mrcs", "2@c.mrcs"], "rlnOpticsGroup": [1, 1], "rlnNote": ["", "x"]})
starfile.write({"optics": optics, "particles": particles}, "theirs.star")
"#;
    if python(folder.path(), script).is_none() {
        return;
    }
    let theirs = Document::read(&folder.path().join("theirs.star")).unwrap();
    let particles = theirs.block("particles").unwrap().table().unwrap();
    assert_eq!(
        particles.row(0).collect::<Vec<_>>(),
        ["1@a b.mrcs", "1", ""]
    );
    theirs.write(&folder.path().join("ours.star")).unwrap();
    let script = r#"
import starfile
theirs, ours = (starfile.read(name, always_dict=True) for name in ["theirs.star", "ours.star"])
assert list(theirs) == list(ours), (list(theirs), list(ours))
for name in theirs:
    a, b = theirs[name], ours[name]
    assert (a.equals(b) if hasattr(a, "equals") else a == b), (a, b)
print(ours["particles"]["rlnImageName"][0])
"#;
    assert_eq!(python(folder.path(), script).as_deref(), Some("1@a b.mrcs"));
}

#[test]
fn starfile_reads_an_upgraded_particle_file() {
    let shared = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    if !shared.is_dir() {
        eprintln!("skipped: there is no shared/data beside the project");
        return;
    }
    use dewar_formats::particles::{HalfSet, Pose, Refined};
    let folder = tempfile::tempdir().unwrap();
    let set = ParticleSet::read(&shared.join("empiar_10076_7.star"), None).unwrap();
    let pose = Pose {
        rot_deg: 1.0,
        tilt_deg: 2.0,
        psi_deg: 3.0,
        shift_angstrom: [4.0, 5.5],
    };
    let refined = vec![
        Refined {
            pose,
            weight: 1.0,
            angle_sd_deg: 1.5,
            shift_sd_angstrom: 0.5,
            covariance: [0.0; 15],
            half_set: HalfSet::One
        };
        set.particles.len()
    ];
    set.write_refined(&folder.path().join("out.star"), &refined)
        .unwrap();
    let script = r#"
import os, starfile
blocks = starfile.read("out.star", always_dict=True)
particles = blocks["particles"]
assert os.path.isfile(particles["rlnImageName"][6].split("@")[1].removesuffix(":mrcs"))
print(list(blocks), len(particles), particles["rlnOriginYAngst"].sum(), float(particles["rlnDefocusU"][0]))
"#;
    let Some(printed) = python(folder.path(), script) else {
        return;
    };
    assert_eq!(printed, "['optics', 'particles'] 7 38.5 15301.1");
}
