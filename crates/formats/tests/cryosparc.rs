//! cryoSPARC's files, which NumPy wrote (see data/make_cryosparc.py), read as particle sets and written as RELION's.

use std::path::{Path, PathBuf};
use std::process::Command;

use dewar_formats::inspect::inspect;
use dewar_formats::mrc::{MrcFile, OutputMode, StackWriter, write_map};
use dewar_formats::particles::{HalfSet, ParticleSet, ReadError, Refined};
use tempfile::TempDir;

/// What the script printed: the angles it made the rotation vectors of.
const ANGLES: [[f64; 3]; 6] = [
    [109.8011, 74.4404, -23.4189],
    [110.8587, 12.6968, 170.7070],
    [5.5172, 13.2888, 143.1639],
    [-77.1115, 174.8599, 123.9232],
    [-160.5849, 115.9027, -38.7343],
    [-41.9872, 44.8667, -2.5117],
];

fn data(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    std::fs::read(folder.join(name)).unwrap()
}

/// A cryoSPARC project: a job's particles in J9, and the stacks that J7 extracted.
struct Project {
    folder: TempDir,
}

impl Project {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for job in ["J7/extract", "J9"] {
            std::fs::create_dir_all(folder.path().join(job)).unwrap();
        }
        for name in ["one.mrc", "two.mrcs"] {
            let path = folder.path().join("J7/extract").join(name);
            let mut stack =
                StackWriter::create(&path, [8; 2], 1.5, OutputMode::Float32, "test").unwrap();
            for image in 0..3 {
                let pixels: Vec<f32> = (0..64).map(|i| ((i * 7 + image) % 5) as f32).collect();
                stack.append(&pixels).unwrap();
            }
            stack.finish().unwrap();
        }
        let project = Self { folder };
        project.write(
            "passthrough_particles.cs",
            &data("passthrough_particles.cs"),
        );
        project.write("particles.cs", &data("particles.cs"));
        project
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("J9/particles.cs")
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join("J9").join(name), bytes).unwrap();
    }

    /// What reading says, without the folder's name.
    fn refusal(&self) -> String {
        let error = ParticleSet::read(&self.path(), None).unwrap_err();
        assert!(matches!(error, ReadError::Cryosparc(_)), "{error:?}");
        let folder = format!("{}/J9/", self.folder.path().display());
        error.to_string().replace(&folder, "")
    }
}

/// Where the records of particles.cs begin, and their length.
const RECORDS: usize = 640;
const RECORD_BYTES: usize = 129;

/// Those of passthrough_particles.cs.
const PASSED: usize = 320;
const PASSED_BYTES: usize = 142;

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-3, "{found} is not {expected}");
}

#[test]
fn a_set_and_its_passthrough_file_are_joined() {
    let project = Project::new();
    let set = ParticleSet::read(&project.path(), None).unwrap();
    assert_eq!(set.warnings, [] as [&str; 0]);
    assert_eq!((set.box_size_px, set.pixel_size_angstrom), (8, 1.5));
    let images: Vec<_> = set
        .particles
        .iter()
        .map(|p| (set.stacks[p.stack_index].name.as_str(), p.image_index))
        .collect();
    let [one, two] = ["J7/extract/one.mrc", "J7/extract/two.mrcs"];
    assert_eq!(
        images,
        [(one, 0), (one, 1), (one, 2), (two, 0), (two, 1), (two, 2)]
    );
    assert_eq!(set.micrographs, ["J2/m1.mrc", "J2/m2.mrc"]);
    let groups: Vec<_> = set.particles.iter().map(|p| p.optics_index).collect();
    assert_eq!(groups, [0, 0, 1, 0, 1, 1]);
    let [first, second] = &set.optics[..] else {
        panic!("{:?}", set.optics)
    };
    assert_eq!((first.number, first.name.as_str()), (1, "exposureGroup3"));
    assert_eq!((second.number, second.name.as_str()), (2, "exposureGroup7"));
    assert_eq!(
        (first.voltage_kv, first.spherical_aberration_mm),
        (200.0, 2.5)
    );
    assert_eq!(first.amplitude_contrast, 0.125);
    let halves: Vec<_> = set.particles.iter().map(|p| p.half_set).collect();
    let [odd, even] = [Some(HalfSet::One), Some(HalfSet::Two)];
    assert_eq!(halves, [odd, even, odd, even, odd, even]);
}

#[test]
fn poses_and_ctf_are_those_of_relion() {
    let project = Project::new();
    let set = ParticleSet::read(&project.path(), None).unwrap();
    for (i, particle) in set.particles.iter().enumerate() {
        let pose = particle.pose.unwrap();
        let found = [pose.rot_deg, pose.tilt_deg, pose.psi_deg];
        found.iter().zip(ANGLES[i]).for_each(|(a, b)| close(*a, b));
        // Pixels of 3 A, not of the images' 1.5 A.
        close(pose.shift_angstrom[0], 1.5 * i as f64);
        close(pose.shift_angstrom[1], -0.75 * i as f64);
        let ctf = particle.ctf;
        close(ctf.defocus_u_angstrom, 12_000.0 + 100.0 * i as f64);
        close(ctf.defocus_v_angstrom, 11_000.0 + 100.0 * i as f64);
        close(ctf.defocus_angle_deg, 30.0);
        close(ctf.phase_shift_deg, 90.0);
        // Dark particles.
        close(ctf.scale, -1.0);
    }
}

#[test]
fn a_set_is_written_as_relions_and_read_again() {
    let project = Project::new();
    let set = ParticleSet::read(&project.path(), None).unwrap();
    let refined: Vec<_> = set
        .particles
        .iter()
        .map(|p| Refined {
            pose: p.pose.unwrap(),
            half_set: p.half_set.unwrap(),
            weight: 1.0,
            angle_sd_deg: 0.0,
            shift_sd_angstrom: 0.0,
            covariance: [0.0; 15],
        })
        .collect();
    let written = project.folder.path().join("out.star");
    set.write_refined(&written, &refined).unwrap();
    let again = ParticleSet::read(&written, None).unwrap();
    assert_eq!(again.particles, set.particles);
    assert_eq!(again.optics, set.optics);
    // RELION takes a file of another name for a map.
    let names: Vec<_> = again
        .stacks
        .iter()
        .map(|stack| stack.name.as_str())
        .collect();
    assert_eq!(names, ["J7/extract/one.mrc:mrcs", "J7/extract/two.mrcs"]);
    assert_eq!(again.stacks[0].path, set.stacks[0].path);
    let particles = again.document().block("particles").unwrap();
    assert!(particles.table().unwrap().column("ucsfUid").is_some());
}

/// Runs one of RELION's programs in a folder; false, said on stderr, if it is not installed.
fn relion(folder: &Path, program: &str, words: &[&str]) -> bool {
    let output = Command::new(program)
        .args(words)
        .current_dir(folder)
        .output();
    if output
        .as_ref()
        .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    {
        eprintln!("skipped: {program} is not installed");
        return false;
    }
    let output = output.unwrap();
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
    true
}

#[test]
fn relion_reads_the_set_that_is_written_and_we_its_map() {
    let project = Project::new();
    let folder = project.folder.path();
    let set = ParticleSet::read(&project.path(), None).unwrap();
    let refined = set.particles.iter().map(|p| Refined {
        pose: p.pose.unwrap(),
        half_set: p.half_set.unwrap(),
        weight: 1.0,
        angle_sd_deg: 0.0,
        shift_sd_angstrom: 0.0,
        covariance: [0.0; 15],
    });
    set.write_refined(&folder.join("out.star"), &refined.collect::<Vec<_>>())
        .unwrap();
    let words = ["--i", "out.star", "--o", "out.mrc", "--ctf"];
    if !relion(folder, "relion_reconstruct", &words) {
        return;
    }
    let map = MrcFile::open(&folder.join("out.mrc")).unwrap();
    assert_eq!(map.header().size, [8; 3]);
    assert_eq!(map.header().pixel_size_angstrom, Some(1.5));
    // And a map of ours.
    write_map(
        &folder.join("ours.mrc"),
        [8; 3],
        1.5,
        &map.read_all().unwrap(),
        "test",
    )
    .unwrap();
    let words = [
        "--i",
        "ours.mrc",
        "--o",
        "twice.mrc",
        "--multiply_constant",
        "2",
    ];
    relion(folder, "relion_image_handler", &words);
    let twice = MrcFile::open(&folder.join("twice.mrc"))
        .unwrap()
        .read_all()
        .unwrap();
    let ours = map.read_all().unwrap();
    assert!(ours.iter().any(|value| *value != 0.0));
    assert!(
        ours.iter()
            .zip(&twice)
            .all(|(a, b)| (2.0 * a - b).abs() <= 1e-6 * b.abs())
    );
}

#[test]
fn a_set_is_inspected_as_particles() {
    let project = Project::new();
    let report = inspect(&project.path(), None, &mut |_| {}).unwrap();
    assert_eq!(report.contents.kind(), "particles");
    assert_eq!(report.problems, [] as [&str; 0]);
    assert_eq!(report.statistics.finite_count(), 6 * 64);
}

#[test]
fn what_is_missing_is_said_with_where_it_was_looked_for() {
    let project = Project::new();
    let mut passed = data("passthrough_particles.cs");
    for record in 0..7 {
        passed[PASSED + record * PASSED_BYTES] ^= 1;
    }
    project.write("passthrough_particles.cs", &passed);
    let text = project.refusal();
    assert!(
        text.contains("has no usable blob/psize_A, also not in passthrough_particles.cs"),
        "{text}"
    );
    assert!(text.starts_with("particles.cs: particle 1 (uid "), "{text}");

    std::fs::remove_file(project.folder.path().join("J9/passthrough_particles.cs")).unwrap();
    assert_eq!(
        project.refusal(),
        "particles.cs: no blob/path, blob/idx, blob/psize_A, and there is no passthrough file (*passthrough*.cs) beside it"
    );
}

#[test]
fn aberrations_are_refused_and_never_ignored() {
    let project = Project::new();
    for (field, offset) in [
        ("tilt_A", 49),
        ("trefoil_A", 61),
        ("tetra_A", 77),
        ("anisomag", 93),
    ] {
        let mut bytes = data("particles.cs");
        let at = RECORDS + 2 * RECORD_BYTES + offset;
        bytes[at..at + 4].copy_from_slice(&0.5_f32.to_le_bytes());
        project.write("particles.cs", &bytes);
        assert_eq!(
            project.refusal(),
            format!(
                "particles.cs: ctf/{field} is not 0 (particle 3): aberrations from cryoSPARC are not read; expected \
                 particles from before the global CTF refinement, or a STAR file of RELION's with its own"
            )
        );
    }
}

#[test]
fn other_files_of_cryosparc_are_named() {
    let project = Project::new();
    let mut csdat = b"\x94CSDAT".to_vec();
    csdat.extend([0; 100]);
    project.write("particles.cs", &csdat);
    assert!(
        project
            .refusal()
            .starts_with("particles.cs: in cryoSPARC's CSDAT format, which is not read; ")
    );

    let header = "{'descr': [('uid', '<u8'), ('micrograph_blob/path', '|S4')], 'fortran_order': False, 'shape': (1,), }";
    let start = [
        b"\x93NUMPY\x01\x00",
        &(header.len() as u16).to_le_bytes()[..],
        header.as_bytes(),
    ];
    project.write("particles.cs", &[&start.concat()[..], &[7; 12]].concat());
    assert_eq!(
        project.refusal(),
        "particles.cs: a file of micrographs; expected particles, with blob/path and blob/idx"
    );

    project.write("particles.cs", &data("particles.cs")[..1000]);
    assert_eq!(
        project.refusal(),
        "particles.cs: truncated: the header promises 6 records of 129 bytes; the file has 2"
    );
}

#[test]
fn no_change_of_a_header_makes_the_reader_panic() {
    let project = Project::new();
    for at in 6..RECORDS {
        for value in [0, b'0', b'9', b'i', b'(', 0xff] {
            let mut bytes = data("particles.cs");
            bytes[at] = value;
            project.write("particles.cs", &bytes);
            // Whether it can still be read is all the same.
            let _ = ParticleSet::read(&project.path(), None);
        }
    }
}
