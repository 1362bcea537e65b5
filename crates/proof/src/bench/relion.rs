//! `cargo xtask bench relion`: refinements and 2-D classes beside RELION's, on the same particles, scored by the same code.
//!
//! RELION is installed where it is missing (Debian's package, 3.1.3: double precision, neither AVX nor `--cpu`) and run as a
//! program. Both start from the same low-passed map and the same half-sets; the true poses judge both.

mod classes;
mod programs;
mod score;

use super::{
    How,
    report::{Report, Target},
};
use crate::lab;
use anyhow::Result;
use clap::Args;
use dewar_testkit::Programs;
use programs::Setting;
use score::Score;
use std::path::{Path, PathBuf};

/// What to compare.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Only this data set; may be given several times.
    #[arg(long, value_name = "SET", value_parser = clap::builder::PossibleValuesParser::new(names()))]
    pub only: Vec<String>,
    /// Dewar's figures are means over so many data sets; RELION, which takes ten minutes for each, refines the first.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10))]
    pub seeds: u32,
    /// Folder with the maps to simulate from.
    #[arg(long, value_name = "DIR")]
    pub maps: Option<PathBuf>,
    /// How to measure.
    #[command(flatten)]
    pub how: How,
}

/// What is simulated from one map, and what must come of it.
struct Set {
    name: &'static str,
    /// Below the folder of maps.
    map: &'static str,
    pixel_size_angstrom: &'static str,
    box_size_px: &'static str,
    particle_count: usize,
    snr: &'static str,
    symmetry: &'static str,
    diameter_angstrom: &'static str,
    low_pass_angstrom: &'static str,
    against: Against,
}

/// What Dewar's figures are held against.
enum Against {
    /// A run of RELION: a tenth of its time, and none of its figures missed by more than 2 %.
    Relion,
    /// Limits of its own, where RELION takes hours.
    Limits {
        seconds: f64,
        truth_resolution_angstrom: f64,
    },
}

const SETS: [Set; 3] = [
    Set {
        name: "groel",
        map: "groel600/truth.mrc",
        pixel_size_angstrom: "4",
        box_size_px: "64",
        particle_count: 2000,
        snr: "0.1",
        symmetry: "D7",
        diameter_angstrom: "200",
        low_pass_angstrom: "40",
        against: Against::Relion,
    },
    Set {
        name: "ribosome",
        map: "70S_ribosome_65.mrc",
        pixel_size_angstrom: "5",
        box_size_px: "64",
        particle_count: 1000,
        snr: "0.3",
        symmetry: "C1",
        diameter_angstrom: "260",
        low_pass_angstrom: "30",
        against: Against::Relion,
    },
    Set {
        name: "casx",
        map: "casx_128.mrc.gz",
        pixel_size_angstrom: "1.6",
        box_size_px: "128",
        particle_count: 5000,
        snr: "0.05",
        symmetry: "C1",
        diameter_angstrom: "140",
        low_pass_angstrom: "30",
        against: Against::Limits {
            seconds: 900.0,
            truth_resolution_angstrom: 5.6,
        },
    },
];

/// A figure as good as RELION's may be worse by this: seeds differ by as much.
const SLACK: f64 = 1.02;

/// Of RELION's time.
const TIME_SHARE: f64 = 0.1;

/// What can be asked for.
fn names() -> impl Iterator<Item = &'static str> {
    let sets = SETS.iter().map(|set| set.name);
    sets.chain([classes::NAME])
}

/// Compares, and prints.
///
/// # Errors
/// If a program fails. A missed target is no error.
pub fn run(options: &Options) -> Result<()> {
    let dir = options.how.begin()?;
    let maps = super::maps_folder(options.maps.as_deref(), "relion")?;
    let mut report = Report::new(&dir);
    let names: Vec<&str> = names().collect();
    let wanted: Vec<&str> = super::wanted(&names, &options.only).collect();
    for set in SETS.iter().filter(|set| wanted.contains(&set.name)) {
        let bench = Bench {
            programs: lab::programs()?,
            folder: tempfile::Builder::new().prefix("dewar-").tempdir_in(&dir)?,
            map: maps.join(set.map),
            count: ((set.particle_count as f64 * options.how.scale) as usize).max(20),
            set,
        };
        bench.run(options.seeds, &mut report)?;
    }
    if wanted.contains(&classes::NAME) {
        classes::run(&maps, &dir, options.how.scale, &mut report)?;
    }
    options.how.print(&report)
}

/// One set's comparison.
struct Bench<'a> {
    programs: Programs,
    folder: tempfile::TempDir,
    map: PathBuf,
    count: usize,
    set: &'a Set,
}

impl Bench<'_> {
    fn run(&self, seeds: u32, report: &mut Report) -> Result<()> {
        let name = self.set.name;
        let first = self.simulate(1)?;
        let relion = match self.set.against {
            Against::Relion => {
                programs::install_relion()?;
                let refined = programs::relion(&self.setting(&first))?;
                let score = Score::of(&self.programs, &refined, &first, self.set.symmetry)?;
                score.add(report, &format!("{name}, RELION"), &Score::none());
                Some(score)
            }
            Against::Limits { .. } => None,
        };
        let mut scores = Vec::new();
        for seed in 1..=seeds {
            let data = if seed == 1 {
                first.clone()
            } else {
                self.simulate(seed)?
            };
            let refined = programs::dewar(&self.programs, &self.setting(&data))?;
            scores.push(Score::of(
                &self.programs,
                &refined,
                &data,
                self.set.symmetry,
            )?);
        }
        let mean = Score::mean(&scores);
        let targets = match (&relion, &self.set.against) {
            (Some(relion), _) => relion.targets(SLACK, TIME_SHARE),
            (
                None,
                Against::Limits {
                    seconds,
                    truth_resolution_angstrom,
                },
            ) => score::Targets {
                seconds: Some(Target::AtMost(*seconds)),
                truth_resolution: Some(Target::AtMost(*truth_resolution_angstrom)),
                ..Score::none()
            },
            (None, Against::Relion) => Score::none(),
        };
        mean.add(report, &format!("{name}, Dewar"), &targets);
        Ok(())
    }

    fn simulate(&self, seed: u32) -> Result<PathBuf> {
        let folder = self.folder.path().join(format!("data-{seed}"));
        let set = self.set;
        let mut command = self.programs.dewar();
        command
            .arg("simulate")
            .arg(&self.map)
            .arg("--out")
            .arg(&folder);
        command.args([
            "--pixel-size",
            set.pixel_size_angstrom,
            "--box",
            set.box_size_px,
        ]);
        command.args(["--snr", set.snr, "--symmetry", set.symmetry]);
        command.args(["--diameter", set.diameter_angstrom]);
        command.args([
            "--particles",
            &self.count.to_string(),
            "--seed",
            &seed.to_string(),
        ]);
        dewar_testkit::run(&mut command)?;
        Ok(folder)
    }

    fn setting<'a>(&'a self, data: &'a Path) -> Setting<'a> {
        Setting {
            data,
            symmetry: self.set.symmetry,
            diameter_angstrom: self.set.diameter_angstrom,
            low_pass_angstrom: self.set.low_pass_angstrom,
        }
    }
}
