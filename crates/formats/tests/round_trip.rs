//! What is written is read back the same, and no bytes whatsoever make a reader panic.

use std::path::Path;

use dewar_formats::mrc::{Encoding, Mode, MrcFile, OutputMode, StackWriter, write_map};
use dewar_formats::particles::{
    Applied, Ctf, HalfSet, NewParticles, OpticsGroup, Particle, ParticleSet, Pose, Refined,
    write_particles,
};
use dewar_formats::star::{Block, Document, Entry, Table};
use proptest::collection::vec;
use proptest::prelude::*;

/// Values that STAR can hold: a text field cannot contain its own end, nor a carriage return.
fn value() -> impl Strategy<Value = String> {
    let awkward = prop_oneof![
        "[ -~]{0,12}",
        "\\PC{0,6}",
        "[ '\"#;_\n\t]{0,8}",
        Just("data_1".to_owned()),
        Just("LOOP_".to_owned()),
    ];
    awkward.prop_filter("no such STAR value", |text| {
        !text.contains("\n;") && !text.contains(['\r', '\0'])
    })
}

fn table() -> impl Strategy<Value = Table> {
    (1_usize..5, 0_usize..6).prop_flat_map(|(columns, rows)| {
        vec(vec(value(), columns), rows).prop_map(move |rows| {
            let mut table = Table::new((0..columns).map(|column| format!("column{column}")));
            for row in rows {
                table.push_row(row);
            }
            table
        })
    })
}

fn block() -> impl Strategy<Value = Block> {
    ("[a-z0-9_]{0,8}", vec(value(), 0..3), vec(table(), 0..3)).prop_map(
        |(name, singles, tables)| {
            let singles = singles
                .into_iter()
                .enumerate()
                .map(|(at, value)| Entry::Single {
                    label: format!("single{at}"),
                    value,
                    line: 0,
                });
            Block {
                name,
                entries: singles.chain(tables.into_iter().map(Entry::Loop)).collect(),
            }
        },
    )
}

/// Line numbers differ between what was made and what was read; values must not.
fn without_lines(mut document: Document) -> Document {
    for entry in document
        .blocks
        .iter_mut()
        .flat_map(|block| &mut block.entries)
    {
        if let Entry::Single { line, .. } = entry {
            *line = 0;
        }
    }
    document
}

/// One change to a good file: a byte replaced, or the end cut off.
fn damage(mut bytes: Vec<u8>, edits: &[(usize, u8)], keep: usize) -> Vec<u8> {
    for (at, byte) in edits {
        let at = at % bytes.len();
        bytes[at] = *byte;
    }
    bytes.truncate(keep);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn star_documents(blocks in vec(block(), 1..4)) {
        let document = Document { blocks };
        let mut text = Vec::new();
        document.write_to(&mut text).unwrap();
        let again = Document::parse(&text, Path::new("a.star"));
        prop_assert!(again.is_ok(), "{:?}\n{}", again, String::from_utf8_lossy(&text));
        prop_assert_eq!(without_lines(again.unwrap()), document);
    }

    #[test]
    fn no_text_makes_the_star_reader_panic(
        text in "(data_[ab]?|loop_|_x|_y|'|\"|;|#| |\n|\r\n|\t|1|é){0,60}",
    ) {
        if let Ok(document) = Document::parse(text.as_bytes(), Path::new("a.star")) {
            for block in &document.blocks {
                block.table();
            }
        }
    }

    #[test]
    fn no_bytes_make_the_star_reader_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Document::parse(&bytes, Path::new("a.star"));
    }

    #[test]
    fn no_atoms_make_the_pdb_reader_panic(lines in vec("(ATOM  |HETATM)[ -~]{0,80}", 0..4)) {
        let _ = dewar_formats::pdb::parse_atoms(lines.join("\n").as_bytes(), Path::new("a.pdb"));
    }

    #[test]
    fn no_damage_makes_the_mrc_reader_panic(
        edits in vec((0_usize..1024, any::<u8>()), 0..8),
        keep in prop_oneof![Just(1280_usize), 0_usize..1280],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mrc");
        write_map(&path, [4, 4, 4], 1.0, &[0.5; 64], "test").unwrap();
        std::fs::write(&path, damage(std::fs::read(&path).unwrap(), &edits, keep)).unwrap();
        if let Ok(file) = MrcFile::open(&path) {
            // The header now promises what the file holds, so that every section is there.
            file.read_all().unwrap();
        }
    }

    #[test]
    fn no_damage_makes_the_particle_reader_panic(
        edits in vec((any::<usize>(), prop_oneof![any::<u8>(), Just(b'\n'), Just(b'0')]), 1..8),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.star");
        write_set(folder.path());
        let bytes = std::fs::read(&path).unwrap();
        let keep = bytes.len();
        std::fs::write(&path, damage(bytes, &edits, keep)).unwrap();
        let _ = dewar_formats::inspect::inspect(&path, None, &mut |_| {});
    }

    #[test]
    fn maps(values in vec(any::<f32>().prop_filter("finite", |v| v.is_finite()), 2 * 3 * 4)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mrc");
        write_map(&path, [2, 3, 4], 1.25, &values, "test").unwrap();
        let map = MrcFile::open(&path).unwrap();
        prop_assert_eq!(map.header().size, [2, 3, 4]);
        prop_assert_eq!(map.header().pixel_size_angstrom, Some(1.25));
        prop_assert_eq!(map.warnings().len(), 0);
        prop_assert_eq!(map.read_all().unwrap(), values);
    }
}

/// Two particles of two stacks, written to `p.star` in the folder, with the stacks.
fn write_set(folder: &Path) -> Vec<Particle> {
    let stack_names = ["a.mrcs".to_owned(), "with blank.mrcs".to_owned()];
    for name in &stack_names {
        let mut stack =
            StackWriter::create(&folder.join(name), [4; 2], 2.0, OutputMode::Float16, "test")
                .unwrap();
        for image in 0..3 {
            stack
                .append(
                    &(0..16)
                        .map(|i| (i * image) as f32 + 0.1)
                        .collect::<Vec<_>>(),
                )
                .unwrap();
        }
        stack.finish().unwrap();
    }
    let particle = |stack_index, image_index, half_set| Particle {
        stack_index,
        image_index,
        optics_index: 0,
        micrograph_index: Some(0),
        ctf: Ctf {
            defocus_u_angstrom: 12345.678901,
            defocus_v_angstrom: 12000.5,
            defocus_angle_deg: -45.25,
            phase_shift_deg: 90.0,
            b_factor: 10.0,
            scale: 0.75,
        },
        pose: Some(Pose {
            rot_deg: -179.999999,
            tilt_deg: 90.5,
            psi_deg: 0.000001,
            shift_angstrom: [-3.25, 7.125],
        }),
        half_set: Some(half_set),
    };
    let particles = vec![particle(1, 2, HalfSet::One), particle(0, 1, HalfSet::Two)];
    let optics = [OpticsGroup {
        name: "opticsGroup1".to_owned(),
        number: 1,
        voltage_kv: 300.0,
        spherical_aberration_mm: 2.7,
        amplitude_contrast: 0.1,
        pixel_size_angstrom: 2.0,
        box_size_px: 4,
        beam_tilt_mrad: [0.25, -0.5],
        magnification: Some([[1.01, 0.002], [-0.003, 0.99]]),
        odd_zernike: [0.5, -1.25, 0.0, 0.0, 0.0, 700.0],
        even_zernike: [0.0, 0.0, 0.125, 0.0, 0.0, 0.0, 0.0, 0.0, -9000.0],
        applied: Applied::Phases,
    }];
    let new = NewParticles {
        optics: &optics,
        stack_names: &stack_names,
        micrographs: &["mic 1.mrc".to_owned()],
        particles: &particles,
    };
    write_particles(&folder.join("p.star"), &new).unwrap();
    particles
}

#[test]
fn particle_sets() {
    let folder = tempfile::tempdir().unwrap();
    let written = write_set(folder.path());
    let set = ParticleSet::read(&folder.path().join("p.star"), None).unwrap();
    assert_eq!(set.micrographs, ["mic 1.mrc"]);
    let optics = &set.optics[0];
    assert_eq!(optics.beam_tilt_mrad, [0.25, -0.5]);
    assert_eq!(optics.magnification, Some([[1.01, 0.002], [-0.003, 0.99]]));
    assert_eq!(optics.odd_zernike, [0.5, -1.25, 0.0, 0.0, 0.0, 700.0]);
    assert_eq!(
        [optics.even_zernike[2], optics.even_zernike[8]],
        [0.125, -9000.0]
    );
    assert_eq!(optics.applied, Applied::Phases);
    for (found, expected) in set.particles.iter().zip(&written) {
        assert_eq!(
            (found.ctf, found.pose, found.half_set),
            (expected.ctf, expected.pose, expected.half_set)
        );
        assert_eq!(found.image_index, expected.image_index);
    }
    let names: Vec<_> = set
        .particles
        .iter()
        .map(|p| set.stacks[p.stack_index].name.as_str())
        .collect();
    assert_eq!(names, ["with blank.mrcs", "a.mrcs"]);
}

#[test]
fn a_byte_range_and_an_encoding_are_all_that_a_distant_reader_needs() {
    let folder = tempfile::tempdir().unwrap();
    write_set(folder.path());
    let set = ParticleSet::read(&folder.path().join("p.star"), None).unwrap();
    let stack = &set.stacks[0];
    let bytes = std::fs::read(&stack.path).unwrap();
    let range = stack.image_byte_range(2);
    let encoding = Encoding::from_code(stack.encoding.code()).unwrap();
    assert_eq!(
        encoding,
        Encoding {
            mode: Mode::Float16,
            big_endian: false
        }
    );
    let (mut there, mut here) = ([0.0; 16], [0.0; 16]);
    encoding
        .decode(&bytes[range.start as usize..range.end as usize], &mut there)
        .unwrap();
    stack.open().unwrap().read_section(2, &mut here).unwrap();
    assert_eq!(there, here);
    assert!((here[15] - 30.1).abs() < 0.01);
}

#[test]
fn an_unfinished_stack_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mrcs");
    let mut stack = StackWriter::create(&path, [2; 2], 1.0, OutputMode::Float32, "test").unwrap();
    stack.append(&[0.0; 4]).unwrap();
    assert!(stack.append(&[0.0; 5]).is_err());
    drop(stack);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn a_stack_of_100_gb_opens_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mrcs");
    let mut stack = StackWriter::create(&path, [512; 2], 1.0, OutputMode::Float32, "test").unwrap();
    stack.append(&vec![1.0; 512 * 512]).unwrap();
    stack.finish().unwrap();
    let image_count = 100_000_u64;
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    // A hole takes no space; file systems that have none cannot run this.
    if file.set_len(1024 + image_count * 512 * 512 * 4).is_err() {
        eprintln!("skipped: the temporary folder cannot hold a sparse file");
        return;
    }
    std::os::unix::fs::FileExt::write_all_at(&file, &(image_count as i32).to_le_bytes(), 8)
        .unwrap();
    let stack = MrcFile::open(&path).unwrap();
    assert_eq!(stack.section_count() as u64, image_count);
    let mut image = vec![1.0; 512 * 512];
    stack.read_section(99_999, &mut image).unwrap();
    assert!(image.iter().all(|pixel| *pixel == 0.0));
}

#[test]
fn stacks_are_found_from_the_project_folder_first() {
    let (folder, project) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_set(folder.path());
    write_set(project.path());
    let star = folder.path().join("p.star");
    let found = |project| {
        ParticleSet::read(&star, project).unwrap().stacks[0]
            .path
            .clone()
    };
    assert!(found(None).starts_with(folder.path().canonicalize().unwrap()));
    assert!(found(Some(project.path())).starts_with(project.path()));
    std::fs::remove_file(folder.path().join("a.mrcs")).unwrap();
    assert!(ParticleSet::read(&star, None).is_err());
    ParticleSet::read(&star, Some(project.path())).unwrap();
}

#[test]
fn the_30_layout_keeps_its_beam_tilt_in_the_optics_table() {
    let folder = tempfile::tempdir().unwrap();
    write_set(folder.path());
    let star = "data_\nloop_\n_rlnImageName\n_rlnDefocusU\n_rlnDefocusV\n_rlnDefocusAngle\n_rlnVoltage\n\
        _rlnSphericalAberration\n_rlnAmplitudeContrast\n_rlnDetectorPixelSize\n_rlnMagnification\n_rlnBeamTiltX\n\
        _rlnBeamTiltY\n_rlnCtfDataArePhaseFlipped\n";
    let row = |number: usize, tilt: f64| {
        format!("{number}@a.mrcs 9000 8000 0 300 2.7 0.1 5 25000 {tilt} 0.5 1\n")
    };
    let path = folder.path().join("old.star");
    std::fs::write(&path, [star, &row(1, 0.1), &row(2, 0.2)].concat()).unwrap();
    let set = ParticleSet::read(&path, None).unwrap();
    let tilts: Vec<_> = set
        .optics
        .iter()
        .map(|group| group.beam_tilt_mrad)
        .collect();
    assert_eq!(tilts, [[0.1, 0.5], [0.2, 0.5]]);
    let refined = Refined {
        pose: Pose {
            rot_deg: 0.0,
            tilt_deg: 0.0,
            psi_deg: 0.0,
            shift_angstrom: [0.0; 2],
        },
        half_set: HalfSet::One,
        weight: 1.0,
        angle_sd_deg: 0.0,
        shift_sd_angstrom: 0.0,
        covariance: [0.0; 15],
    };
    let written = folder.path().join("new.star");
    set.write_refined(&written, &[refined; 2]).unwrap();
    let again = ParticleSet::read(&written, None).unwrap();
    assert_eq!(again.optics, set.optics);
    assert_eq!(again.optics[0].applied, Applied::Phases);
    let particles = again.document().block("particles").unwrap();
    assert_eq!(particles.table().unwrap().column("rlnBeamTiltX"), None);
}
