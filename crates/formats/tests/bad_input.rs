//! Every kind of bad input and the one line it gets.

use std::path::Path;

use dewar_formats::inspect::inspect;
use dewar_formats::mrc::{MrcFile, OutputMode, StackWriter};
use dewar_formats::particles::ParticleSet;
use tempfile::TempDir;

const OPTICS: &str = "data_optics\nloop_\n_rlnOpticsGroup\n_rlnVoltage\n_rlnSphericalAberration\n\
    _rlnAmplitudeContrast\n_rlnImagePixelSize\n_rlnImageSize\n1 300 2.7 0.1 1.5 8\n\n";
const COLUMNS: &str = "data_particles\nloop_\n_rlnImageName\n_rlnOpticsGroup\n_rlnDefocusU\n\
    _rlnDefocusV\n_rlnDefocusAngle\n_rlnRandomSubset\n";
const ROW: &str = "1@a.mrcs 1 10000 9000 45 1\n";

fn write_stack(folder: &Path, name: &str, box_size_px: usize, image_count: usize) {
    let path = folder.join(name);
    let mut stack =
        StackWriter::create(&path, [box_size_px; 2], 1.5, OutputMode::Float32, "test").unwrap();
    for image in 0..image_count {
        let pixels: Vec<f32> = (0..box_size_px * box_size_px)
            .map(|i| ((i * 7 + image) % 5) as f32)
            .collect();
        stack.append(&pixels).unwrap();
    }
    stack.finish().unwrap();
}

/// A folder with a stack of three images of 8 pixels.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_stack(folder.path(), "a.mrcs", 8, 3);
    folder
}

/// What a particle file's refusal says, without the folder's name.
fn refusal(folder: &TempDir, star: &str) -> String {
    let path = folder.path().join("p.star");
    std::fs::write(&path, star).unwrap();
    let error = ParticleSet::read(&path, None).expect_err(star);
    error
        .to_string()
        .replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn the_good_file_that_the_bad_ones_vary_is_good() {
    let folder = folder();
    let path = folder.path().join("p.star");
    std::fs::write(
        &path,
        format!("{OPTICS}{COLUMNS}{ROW}2@a.mrcs 1 10000 9000 45 2\n"),
    )
    .unwrap();
    let set = ParticleSet::read(&path, None).unwrap();
    assert_eq!((set.particles.len(), set.half_set_counts()), (2, [1, 1]));
    assert_eq!(set.warnings, [] as [&str; 0]);
}

#[test]
fn particles_are_not_blamed_for_their_optics_table() {
    let folder = folder();
    for (from, to) in [
        ("_rlnVoltage", "_other"),
        ("_rlnImagePixelSize", "_other"),
        ("1.5 8", "0 8"),
    ] {
        let text = refusal(
            &folder,
            &format!("{}{COLUMNS}{ROW}", OPTICS.replace(from, to)),
        );
        assert!(!text.contains("more)"), "{text}");
    }
}

#[test]
fn particle_files() {
    let folder = folder();
    write_stack(folder.path(), "big.mrcs", 10, 1);
    write_stack(folder.path(), "odd.mrcs", 7, 1);
    let row = |from: &str, to: &str| format!("{OPTICS}{COLUMNS}{}", ROW.replace(from, to));
    let optics = |from: &str, to: &str| format!("{}{COLUMNS}{ROW}", OPTICS.replace(from, to));
    let cases = [
        (
            row("1@a", "4@a"),
            "p.star:19: particle 1 is image 4 of a.mrcs, which has images 1 to 3",
        ),
        (
            row("1@a", "0@a"),
            "p.star:19: particle 1 is image 0 of a.mrcs, which has images 1 to 3",
        ),
        (
            row("1@a.mrcs", "a.mrcs"),
            "p.star:19: particle 1 has the image name \"a.mrcs\"; expected NUMBER@STACK, as 000001@particles.mrcs",
        ),
        (
            row(" 1 10000", " 7 10000"),
            "p.star:19: particle 1 is in optics group 7, which data_optics does not define; expected one of 1",
        ),
        (
            row("10000", "far"),
            "p.star:19: _rlnDefocusU is \"far\"; expected a number",
        ),
        (
            row("10000", "nan"),
            "p.star:19: _rlnDefocusU is \"nan\"; expected a number",
        ),
        (
            row("45 1", "45 3"),
            "p.star:19: _rlnRandomSubset is \"3\"; expected 1 or 2, or 0 in every row",
        ),
        (
            row(ROW, &format!("{ROW}1@a.mrcs 1 10000 9000 45 2\n")),
            "p.star:20: particles 1 and 2 are the same image, 1@a.mrcs, in different half-sets",
        ),
        (
            row(ROW, &format!("{ROW}1@big.mrcs 1 10000 9000 45 1\n")),
            "p.star:20: box sizes differ: images of big.mrcs are 10 pixels wide; expected 8, as a.mrcs",
        ),
        (
            row("a.mrcs", "odd.mrcs"),
            "p.star:19: images of odd.mrcs are 7 x 7 pixels; expected squares of even side",
        ),
        (
            row(ROW, ""),
            "p.star: no particles: the table data_particles has no rows",
        ),
        (
            optics("1.5 8", "1.5 64"),
            "p.star: box sizes differ: images of a.mrcs are 8 pixels wide; expected 64, as _rlnImageSize of optics group 1",
        ),
        (
            optics("1.5 8", "0 8"),
            "p.star:9: _rlnImagePixelSize is \"0\"; expected a positive number",
        ),
        (
            optics("_rlnImagePixelSize", "_other"),
            "p.star: no pixel size: expected _rlnImagePixelSize in data_optics, or _rlnDetectorPixelSize and _rlnMagnification with each particle",
        ),
        (
            optics("_rlnVoltage", "_other"),
            "p.star: data_optics lacks _rlnVoltage",
        ),
        (
            optics(
                "1 300 2.7 0.1 1.5 8",
                "1 300 2.7 0.1 1.5 8\n1 200 2.7 0.1 1.5 8",
            ),
            "p.star:10: optics group 1 is defined twice",
        ),
        (
            optics(
                "1 300 2.7 0.1 1.5 8",
                "1 300 2.7 0.1 1.5 8\n2 300 2.7 0.1 1.8 8",
            ),
            "p.star: pixel sizes differ: optics group 2 has 1.8 A; expected 1.5 A, as group 1",
        ),
        (
            optics("_rlnImageSize", "_rlnOddZernike").replace("1.5 8", "1.5 [0,0,0,0,0,0,0.5]"),
            "p.star:9: _rlnOddZernike has more than 6 numbers: aberrations of that order are not applied; expected 0 for them (take them out to refine as if there were none)",
        ),
        (
            optics("_rlnImageSize", "_rlnEvenZernike").replace("1.5 8", "1.5 [0,much]"),
            "p.star:9: _rlnEvenZernike is \"[0,much]\"; expected numbers in brackets, such as [0.1,-2]",
        ),
        (
            optics(
                "_rlnImageSize\n1 300 2.7 0.1 1.5 8",
                "_rlnCtfDataAreCtfPremultiplied\n_rlnCtfDataArePhaseFlipped\n1 300 2.7 0.1 1.5 1 1",
            ),
            "p.star:10: _rlnCtfDataAreCtfPremultiplied and _rlnCtfDataArePhaseFlipped are both set; expected one of them at most",
        ),
        (
            row(ROW, "").replace("_rlnRandomSubset", "_rlnBeamTiltX") + ROW,
            "p.star:19: _rlnBeamTiltX stands in the table of particles; expected it in data_optics",
        ),
        (
            optics("_rlnImageSize", "_rlnMagMat01").replace("1.5 8", "1.5 inf"),
            "p.star:9: _rlnMagMat01 is \"inf\"; expected a number",
        ),
        (
            format!("{OPTICS}{}{ROW}", COLUMNS.replace("rlnDefocus", "other")),
            "p.star: data_particles lacks _rlnDefocusU, _rlnDefocusV, _rlnDefocusAngle",
        ),
        (
            format!(
                "{OPTICS}{}1@a.mrcs 1 10000 9000 45 -7.5\n",
                COLUMNS.replace("rlnRandomSubset", "rlnCoordinateZ")
            ),
            "p.star: a tomography particle file (_rlnCoordinateZ); expected single particles, which is all Dewar refines",
        ),
        (
            optics("_rlnImageSize", "_rlnImageDimensionality").replace("1.5 8", "1.5 3"),
            "p.star: a tomography particle file (_rlnImageDimensionality); expected single particles, which is all Dewar refines",
        ),
        (
            OPTICS.to_owned(),
            "p.star: no particles: no data block has a column _rlnImageName",
        ),
        (
            format!(
                "{OPTICS}{}{ROW}",
                COLUMNS.replace("rlnRandomSubset", "rlnTomoName")
            ),
            "p.star: a tomography particle file (_rlnTomoName); expected single particles, which is all Dewar refines",
        ),
        (
            String::new(),
            "p.star: the file is empty; expected a STAR file with a data_ block",
        ),
        (
            row(" 45 1", " 45"),
            "p.star:19: the row has 5 values; expected 6, one a column",
        ),
    ];
    for (star, expected) in cases {
        let found = refusal(&folder, &star);
        let found = found.split(" (and ").next().unwrap();
        assert_eq!(found, expected, "{star}");
    }
}

#[test]
fn missing_stacks_are_listed_at_once() {
    let folder = folder();
    let rows = ["x.mrcs", "a.mrcs", "y.mrcs", "x.mrcs"].map(|name| ROW.replace("a.mrcs", name));
    let found = refusal(&folder, &format!("{OPTICS}{COLUMNS}{}", rows.concat()));
    assert!(
        found.starts_with("p.star: stacks not found: x.mrcs, y.mrcs (looked in "),
        "{found}"
    );
}

#[test]
fn unreadable_stacks_are_named_with_the_line() {
    let folder = folder();
    let path = folder.path().join("a.mrcs");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(
        refusal(&folder, &format!("{OPTICS}{COLUMNS}{ROW}")),
        "p.star:19: a.mrcs: truncated: the header promises 3 sections of 8 x 8 (mode 2), \
         1792 bytes in all; the file has 1791, 2 whole sections"
    );
}

#[test]
fn images_without_signal_are_told_by_inspection() {
    let folder = folder();
    let path = folder.path().join("a.mrcs");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1024..1028].copy_from_slice(&f32::NAN.to_le_bytes());
    bytes[1024 + 256..1024 + 512].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let star = folder.path().join("p.star");
    let rows = [1, 2, 3]
        .map(|n| ROW.replace("1@", &format!("{n}@")))
        .concat();
    std::fs::write(&star, format!("{OPTICS}{COLUMNS}{rows}")).unwrap();
    let name = path.display();
    let report = inspect(&star, None, &mut |_| {}).unwrap();
    assert_eq!(
        report.problems,
        [
            format!(
                "{name}: image 1 (particle 1): 1 of its pixels are NaN or infinite (the first: pixel 0)"
            ),
            format!("{name}: image 2 (particle 2): every pixel is 0: the image is constant"),
        ]
    );
    let report = inspect(&path, None, &mut |_| {}).unwrap();
    assert_eq!(
        (report.contents.kind(), report.problems.len()),
        ("stack", 2)
    );
}

#[test]
fn inspection_goes_by_content_not_by_name() {
    let folder = folder();
    std::fs::write(
        folder.path().join("p.mrc"),
        format!("{OPTICS}{COLUMNS}{ROW}"),
    )
    .unwrap();
    std::fs::rename(folder.path().join("a.mrcs"), folder.path().join("a.star")).unwrap();
    let kind = |name| match inspect(&folder.path().join(name), None, &mut |_| {}) {
        Ok(report) => report.contents.kind(),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(kind("a.star"), "stack");
    assert_eq!(kind("p.mrc"), "particles");
}

#[test]
fn mrc_files() {
    let folder = folder();
    let good = std::fs::read(folder.path().join("a.mrcs")).unwrap();
    let with = |at: usize, value: i32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    let mut unstamped = with(208, 0);
    unstamped.push(0);
    let cases = [
        (
            Vec::new(),
            "a.mrc: the file is empty; expected an MRC map or stack",
        ),
        (
            good[..1000].to_vec(),
            "a.mrc: not an MRC file: it has 1000 bytes, an MRC header alone takes 1024",
        ),
        (
            with(12, 4),
            "a.mrc: MRC mode 4 (complex floats) is not supported; expected 0, 1, 2, 6 or 12",
        ),
        (
            with(12, 101),
            "a.mrc: MRC mode 101 (packed 4-bit integers) is not supported; expected 0, 1, 2, 6 or 12",
        ),
        (
            with(0, -5),
            "a.mrc: not an MRC file: its header would mean a size of -5 x 8 x 3 and mode 2",
        ),
        (
            with(92, -1),
            "a.mrc: not an MRC file: its extended header would be -1 bytes long",
        ),
        (
            with(64, 2),
            "a.mrc: the axis order (MAPC, MAPR, MAPS) is 2 2 3; expected 1 2 3",
        ),
        (
            with(8, 4),
            "a.mrc: truncated: the header promises 4 sections of 8 x 8 (mode 2), 2048 bytes in all; the file has 1792, 3 whole sections",
        ),
        (
            unstamped,
            "a.mrc: not an MRC file: it lacks the MAP stamp, and its header would mean 1792 bytes where the file has 1793",
        ),
    ];
    let path = folder.path().join("a.mrc");
    for (bytes, expected) in cases {
        std::fs::write(&path, bytes).unwrap();
        let error = MrcFile::open(&path).unwrap_err().to_string();
        assert_eq!(
            error.replace(&format!("{}/", folder.path().display()), ""),
            expected
        );
    }
    assert!(MrcFile::open(folder.path()).is_err());
    assert!(MrcFile::open(&folder.path().join("none.mrc")).is_err());
}

#[test]
fn a_file_that_shrinks_while_open_is_an_error() {
    let folder = folder();
    let path = folder.path().join("a.mrcs");
    let file = MrcFile::open(&path).unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1100)
        .unwrap();
    let error = file.read_all().unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("a.mrcs: the file shrank while it was being read")
    );
}

#[test]
fn other_files_are_named_with_what_is_wanted() {
    let folder = folder();
    let cases = [
        (
            "data_optimiser_general\n_rlnOutputRootName run\n_rlnModelStarFile run_model.star\n_rlnExperimentalDataStarFile run_data.star\n",
            "an optimiser's state (_rlnModelStarFile); expected the particles beside it, as run_data.star",
        ),
        (
            "data_\nloop_\n_rlnReferenceImage\n_rlnClassDistribution\n000001@run_classes.mrcs 0.25\n",
            "a list of class averages or a model (_rlnReferenceImage); expected the particles beside it, as run_data.star",
        ),
        (
            "data_optics\nloop_\n_rlnOpticsGroup\n1\n\ndata_micrographs\nloop_\n_rlnMicrographName\n_rlnOpticsGroup\nm.mrc 1\n",
            "a list of micrographs (_rlnMicrographName); expected extracted particles, as particles.star of an extraction job",
        ),
        (
            "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n10 20\n",
            "coordinates of particles without their images (_rlnCoordinateX); expected extracted particles, as particles.star of an extraction job",
        ),
        (
            "data_job\n_rlnJobTypeLabel relion.extract\n",
            "a job's description (_rlnJobTypeLabel); expected extracted particles, as particles.star of an extraction job",
        ),
    ];
    for (star, expected) in cases {
        assert_eq!(
            refusal(&folder, star),
            format!("p.star: no particles: this is {expected}"),
        );
    }
    assert_eq!(
        refusal(&folder, "data_\n_rlnTomoParticlesFile particles.star\n"),
        "p.star: a tomography particle file (_rlnTomoParticlesFile); expected single particles, which is all Dewar refines"
    );
}
