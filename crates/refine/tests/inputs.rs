//! What is wrong with inputs is said before anything is computed, all of it at once.

use dewar_compute::symmetry::PointGroup;
use dewar_refine::{
    Options, Settings, check,
    postprocess::PostSettings,
    simulate::{SimulateOptions, Simulated, simulate},
};
use std::{fs, path::Path};

/// Side of the images.
const N: usize = 32;

/// Bytes before the first image.
const HEADER_BYTES: usize = 1024;

struct Set {
    folder: tempfile::TempDir,
    made: Simulated,
}

impl Set {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SimulateOptions {
            source: None,
            out: folder.path().join("data"),
            particle_count: 64,
            snr: 0.3,
            box_size_px: N,
            symmetry: PointGroup::C1,
            seed: 5,
            pixel_size_angstrom: Some(7.0),
            diameter_angstrom: None,
        };
        let made = simulate(&options, &mut |_| {}).unwrap();
        Self { folder, made }
    }

    fn options(&self) -> Options {
        Options {
            particles: self.made.particles.clone(),
            reference: self.made.map.clone(),
            out: self.folder.path().join("refined"),
            project_dir: None,
            settings: Settings::default(),
            accept_images: false,
            postprocess: PostSettings::default(),
        }
    }

    /// Changes each particle's words in the STAR file, by their labels.
    fn edit(&self, mut change: impl FnMut(usize, &str, &mut String)) {
        let text = fs::read_to_string(&self.made.particles).unwrap();
        let table = text.split("data_particles").nth(1).unwrap();
        let labels: Vec<String> = table
            .lines()
            .filter_map(|line| line.strip_prefix('_')?.split_whitespace().next())
            .map(str::to_owned)
            .collect();
        let mut row = 0;
        let lines: Vec<String> = text
            .lines()
            .map(|line| {
                let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
                if words.len() != labels.len() || !words[0].contains('@') {
                    return line.to_owned();
                }
                for (word, label) in words.iter_mut().zip(&labels) {
                    change(row, label, word);
                }
                row += 1;
                words.join(" ")
            })
            .collect();
        assert_eq!(row, 64);
        fs::write(&self.made.particles, lines.join("\n")).unwrap();
    }

    /// Changes the pixels of each image.
    fn paint(&self, mut change: impl FnMut(usize, &mut f32)) {
        let path = self.made.particles.with_file_name("particles.mrcs");
        let mut bytes = fs::read(&path).unwrap();
        for (at, word) in bytes[HEADER_BYTES..].chunks_exact_mut(4).enumerate() {
            let mut pixel = f32::from_le_bytes(word.try_into().unwrap());
            change(at / (N * N), &mut pixel);
            word.copy_from_slice(&pixel.to_le_bytes());
        }
        fs::write(&path, bytes).unwrap();
    }
}

fn problems(options: &Options) -> Vec<String> {
    let refused = check(options);
    assert!(!options.out.exists(), "a look leaves nothing behind");
    match refused {
        Ok(_) => Vec::new(),
        Err(error) => {
            assert!(error.is_input(), "{error}");
            error.problems()
        }
    }
}

/// There are just these problems, each told in these words.
#[track_caller]
fn expect(options: &Options, expected: &[&[&str]]) {
    let found = problems(options);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for words in expected {
        let told = |problem: &&String| words.iter().all(|word| problem.contains(word));
        assert!(
            found.iter().any(|problem| told(&problem)),
            "{words:?} in {found:#?}"
        );
    }
}

#[test]
fn a_good_set_has_no_problem() {
    expect(&Set::new().options(), &[]);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let set = Set::new();
    set.edit(|row, label, word| match label {
        "rlnDefocusU" | "rlnDefocusV" if row < 10 => *word = format!("-{word}"),
        "rlnDefocusU" | "rlnDefocusV" if row < 30 => *word = "1.5".to_owned(),
        _ => {}
    });
    let text = fs::read_to_string(&set.made.particles).unwrap();
    fs::write(
        &set.made.particles,
        text.replace(" 300.000000 ", " 300000.0 "),
    )
    .unwrap();
    set.paint(|image, pixel| {
        if image == 40 {
            *pixel = f32::NAN;
        }
    });
    let mut options = set.options();
    options.settings.mask_diameter_angstrom = Some(500.0);
    options.settings.shift_max_angstrom = 200.0;
    options.postprocess.mask = Some(set.made.particles.with_file_name("particles.mrcs"));
    expect(
        &options,
        &[
            &["rlnVoltage is 300000", "kV"],
            &[
                "10 of 64 particles",
                "particle 1)",
                "negative defocus",
                "turn the sign",
            ],
            &[
                "20 of 64 particles",
                "particle 11)",
                "below 100 A",
                "micrometres",
            ],
            &["mask diameter is 500 A", "% of the box"],
            &["largest shift is 200 A", "half the box"],
            &["particles.mrcs", "the mask is 32 x 32 x 64"],
            &["particle 41", "NaN", "take it out"],
        ],
    );
}

#[test]
fn inverted_images_are_refused_unless_accepted() {
    let set = Set::new();
    set.paint(|_, pixel| *pixel = -*pixel);
    let mut options = set.options();
    expect(
        &options,
        &[&[
            "dark where the starting map is bright",
            "invert",
            "--accept-images",
        ]],
    );
    options.accept_images = true;
    expect(&options, &[]);
}

#[test]
fn backgrounds_that_differ_are_refused() {
    let set = Set::new();
    set.paint(|image, pixel| *pixel *= if image % 2 == 0 { 1.0 } else { 10.0 });
    expect(
        &set.options(),
        &[&["standard deviations of 64 images go from", "normalise"]],
    );
    let set = Set::new();
    set.paint(|_, pixel| *pixel += 5.0);
    expect(
        &set.options(),
        &[&["100 % of 64 images have a mean", "normalise"]],
    );
    // Of one strength, whatever it is, they do no harm.
    let set = Set::new();
    set.paint(|_, pixel| *pixel *= 100.0);
    expect(&set.options(), &[]);
}

#[test]
fn one_image_in_two_places_is_refused() {
    let set = Set::new();
    let stack = set.made.particles.with_file_name("particles.mrcs");
    std::os::unix::fs::symlink(&stack, stack.with_file_name("other.mrcs")).unwrap();
    set.edit(|row, label, word| {
        if label == "rlnImageName" && row >= 32 {
            *word = format!("{:06}@other.mrcs", row - 31);
        }
    });
    expect(
        &set.options(),
        &[&["particles.mrcs and other.mrcs are one and the same file"]],
    );
}

#[test]
fn one_pick_in_both_halves_is_refused() {
    let set = Set::new();
    // In place of columns the set does not need.
    set.edit(|row, label, word| match label {
        "rlnPhaseShift" => *word = format!("{}.5", row / 2),
        "rlnCtfBfactor" => *word = "7.25".to_owned(),
        _ => {}
    });
    let text = fs::read_to_string(&set.made.particles).unwrap();
    let text = text
        .replace("_rlnPhaseShift", "_rlnCoordinateX")
        .replace("_rlnCtfBfactor", "_rlnCoordinateY");
    fs::write(&set.made.particles, text).unwrap();
    expect(
        &set.options(),
        &[&["were picked where another was", "take one of each out"]],
    );
}

#[test]
fn a_reference_that_does_not_fit_is_told_beside_the_rest() {
    let set = Set::new();
    let mut options = set.options();
    options.settings.reference_pixel_size_angstrom = Some(3.5);
    options.postprocess.mtf = Some(Path::new("missing.star").to_owned());
    expect(
        &options,
        &[
            &["truth.mrc", "3.5 A", "expected the same"],
            &["missing.star"],
        ],
    );
}
