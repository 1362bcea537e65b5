//! Real files that other programs made. Skipped, with a message, where they are not at hand.

use std::path::{Path, PathBuf};

use dewar_formats::inspect::{Contents, inspect};
use dewar_formats::mrc::{MrcFile, MrcKind};
use dewar_formats::particles::{HalfSet, ParticleSet, Pose, Refined};
use dewar_formats::pdb::read_atoms;

fn shared(name: &str) -> Option<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    if !folder.is_dir() {
        eprintln!("skipped: there is no shared/data beside the project");
        return None;
    }
    Some(
        folder
            .join(name)
            .canonicalize()
            .expect("shared/data is complete"),
    )
}

fn close(found: f64, expected: f64) {
    assert!(
        (found / expected - 1.0).abs() < 1e-6,
        "found {found}, expected {expected}"
    );
}

#[test]
fn maps_are_read_plain_and_compressed() {
    for (name, side, pixel_size) in [
        ("70S_ribosome_65.mrc", 65, None),
        ("casx_128.mrc.gz", 128, Some(1.6)),
        ("groel600/truth.mrc", 64, Some(4.0)),
    ] {
        let Some(path) = shared(name) else { return };
        let map = MrcFile::open(&path).unwrap();
        assert_eq!(map.header().size, [side; 3], "{name}");
        assert_eq!(map.header().pixel_size_angstrom, pixel_size, "{name}");
        assert_eq!(map.header().kind, MrcKind::Map, "{name}");
        let values = map.read_all().unwrap();
        assert!(values.iter().any(|value| *value > 0.0), "{name}");
    }
}

#[test]
fn a_stack_without_a_stamp_is_read_with_a_warning() {
    let Some(path) = shared("relion31.mrcs") else {
        return;
    };
    let stack = MrcFile::open(&path).unwrap();
    assert_eq!(stack.header().size, [256, 256, 5]);
    assert_eq!(stack.header().kind, MrcKind::Stack);
    assert_eq!(stack.warnings(), ["the header lacks the MAP stamp"]);
    assert_eq!(
        stack.section_byte_range(4).unwrap(),
        1024 + 4 * 262_144..1024 + 5 * 262_144
    );
}

#[test]
fn the_31_layout() {
    let Some(path) = shared("relion31.star") else {
        return;
    };
    let set = ParticleSet::read(&path, None).unwrap();
    assert_eq!(
        (set.particles.len(), set.box_size_px, set.stacks.len()),
        (5, 256, 1)
    );
    // The images are binned: rlnMicrographOriginalPixelSize, 1.403, is not theirs.
    assert_eq!(set.pixel_size_angstrom, 2.806);
    assert_eq!(set.optics[0].voltage_kv, 300.0);
    assert_eq!(set.micrographs.len(), 1);
    let second = &set.particles[1];
    assert_eq!(
        (second.image_index, second.half_set),
        (1, Some(HalfSet::One))
    );
    assert_eq!(second.ctf.defocus_u_angstrom, 12906.018499);
    assert_eq!(second.pose.unwrap().shift_angstrom, [-0.25248, 0.403454]);
}

#[test]
fn the_30_layout_and_its_upgrade() {
    let Some(path) = shared("empiar_10076_7.star") else {
        return;
    };
    let set = ParticleSet::read(&path, None).unwrap();
    assert_eq!(
        (set.particles.len(), set.box_size_px, set.optics.len()),
        (7, 320, 1)
    );
    close(set.pixel_size_angstrom, 5e4 / 38168.0);
    assert!(!set.has_poses());
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("out.star");
    let pose = Pose {
        rot_deg: 10.0,
        tilt_deg: 20.5,
        psi_deg: -30.0,
        shift_angstrom: [1.5, -2.25],
    };
    set.write_refined(
        &written,
        &[Refined {
            pose,
            half_set: HalfSet::Two,
            weight: 1.0,
            angle_sd_deg: 1.5,
            shift_sd_angstrom: 0.5,
            covariance: [0.0; 15],
        }; 7],
    )
    .unwrap();
    let again = ParticleSet::read(&written, None).unwrap();
    assert_eq!(
        again.stacks[0].path.canonicalize().unwrap(),
        set.stacks[0].path
    );
    close(again.pixel_size_angstrom, set.pixel_size_angstrom);
    assert_eq!(again.optics[0].box_size_px, 320);
    assert_eq!(again.particles[6].pose, Some(pose));
    assert_eq!(again.half_set_counts(), [0, 7]);
    let table = again
        .document()
        .block("particles")
        .unwrap()
        .table()
        .unwrap();
    assert_eq!(table.column("rlnMagnification"), None);
    assert_eq!(
        table.value(6, table.column("rlnMicrographName").unwrap()),
        "7"
    );
}

#[test]
fn unknown_columns_survive_a_refinement() {
    let Some(path) = shared("relion31.star") else {
        return;
    };
    let set = ParticleSet::read(&path, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("out.star");
    let refined: Vec<Refined> = set
        .particles
        .iter()
        .map(|p| Refined {
            pose: p.pose.unwrap(),
            half_set: p.half_set.unwrap(),
            weight: 1.0,
            angle_sd_deg: 1.5,
            shift_sd_angstrom: 0.5,
            covariance: std::array::from_fn(|index| index as f64 / 4.0),
        })
        .collect();
    set.write_refined(&written, &refined).unwrap();
    let again = ParticleSet::read(&written, None).unwrap();
    let tables =
        [&set, &again].map(|set| set.document().block("particles").unwrap().table().unwrap());
    let kept = tables[0].labels().len();
    assert_eq!(tables[0].labels(), &tables[1].labels()[..kept]);
    let added = tables[1].column("dewarAngleSdDeg").unwrap();
    assert_eq!(tables[1].value(4, added), "1.500000");
    let added = tables[1].column("dewarPoseCovariance").unwrap();
    let value = tables[1].value(4, added);
    assert!(
        value.starts_with("[0.0000e0,2.5000e-1,") && value.ends_with(",3.5000e0]"),
        "{value}"
    );
    let column = tables[0].column("rlnLogLikeliContribution").unwrap();
    assert_eq!(tables[0].value(4, column), tables[1].value(4, column));
    assert_eq!(again.particles[3].ctf, set.particles[3].ctf);
    assert_eq!(again.particles[3].pose, set.particles[3].pose);
    assert_eq!(again.optics, set.optics);
}

#[test]
fn inspection_reads_a_particle_set_whole() {
    let Some(path) = shared("groel600/truth.star") else {
        return;
    };
    let mut last = None;
    let report = inspect(&path, None, &mut |progress| last = Some(progress)).unwrap();
    let Contents::Particles(facts) = &report.contents else {
        panic!("{report:?}")
    };
    assert_eq!(
        (facts.count, facts.box_size_px, facts.optics_groups),
        (600, Some(64), 1)
    );
    assert_eq!(facts.half_set_counts.iter().sum::<usize>(), 600);
    assert!(facts.has_poses);
    assert_eq!(report.problems, [] as [&str; 0]);
    assert_eq!(report.statistics.finite_count(), 600 * 64 * 64);
    assert_eq!(last.map(|progress| progress.done_sections), Some(600));
}

#[test]
fn atoms_of_two_models() {
    for (name, count) in [("6NY1.pdb.gz", 9_911), ("1MNF.pdb.gz", 55_552 + 213)] {
        let Some(path) = shared(name) else { return };
        let atoms = read_atoms(&path).unwrap();
        // Alternative locations beyond the first are left out.
        assert!(
            atoms.len() <= count && atoms.len() > count * 99 / 100,
            "{name}: {}",
            atoms.len()
        );
    }
}
