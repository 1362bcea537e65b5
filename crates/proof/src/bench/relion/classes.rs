//! 2-D classes beside RELION's: particles of a few views with images of noise alone among them, both scored by how well their
//! classes keep those apart.

#[path = "../../../../refine/examples/views.rs"]
mod views;

use super::{
    super::report::{Report, Target},
    SLACK, TIME_SHARE, programs,
};
use crate::lab;
use anyhow::{Context, Result, anyhow, ensure};
use dewar_compute::volume::Volume;
use dewar_formats::{mrc::MrcFile, star::Document};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use views::Views;

/// What `--only` names.
pub(super) const NAME: &str = "classes";

/// Below the folder of maps. Without symmetry, so that no two views are one.
const MAP: &str = "70S_ribosome_65.mrc";
const PIXEL_SIZE_ANGSTROM: f64 = 5.0;
const BOX_SIZE_PX: usize = 64;
const DIAMETER_ANGSTROM: &str = "260";
const SNR: f64 = 0.1;

/// Of all images, those that show nothing.
const JUNK_PART: f64 = 0.1;
const IMAGES: usize = 2000;
const VIEWS: usize = 12;

/// More than there are views, as one asks for who does not know them.
const CLASSES: &str = "20";

/// RELION has no rule to stop by. Its window suggests 25 rounds; after these its classes are as good.
const RELION_ITERATIONS: &str = "15";

/// A sorting, scored.
struct Score {
    seconds: f64,
    purity: f64,
    rand: f64,
}

/// Compares, and adds rows for both.
///
/// # Errors
/// If a program fails.
pub(super) fn run(maps: &Path, dir: &Path, scale: f64, report: &mut Report) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("dewar-").tempdir_in(dir)?;
    let count = ((IMAGES as f64 * scale) as usize).max(200);
    let junk_count = (JUNK_PART * count as f64) as usize;
    let views = Views {
        map: &map(&maps.join(MAP))?,
        pixel_size_angstrom: PIXEL_SIZE_ANGSTROM,
        view_count: VIEWS,
        particle_count: count - junk_count,
        snr: SNR,
        junk_count,
    };
    let data = folder.path().join("data");
    let truth = views.write(&data).map_err(|error| anyhow!("{error}"))?;
    let truth: Vec<usize> = truth
        .iter()
        .map(|view| view.map_or(0, |view| view + 1))
        .collect();
    let score = |(seconds, particles): (f64, PathBuf)| -> Result<Score> {
        Ok(Score::of(
            seconds,
            &classes(&particles, truth.len())?,
            &truth,
        ))
    };
    programs::install_relion()?;
    let relion = score(relion(&data)?)?;
    relion.add(report, "RELION", None);
    score(dewar(&data)?)?.add(report, "Dewar", Some(&relion));
    Ok(())
}

fn map(path: &Path) -> Result<Volume> {
    let file = MrcFile::open(path)?;
    let map = Volume::new(file.header().size[0], file.read_all()?)?;
    Ok(map.resized(BOX_SIZE_PX)?)
}

/// RELION's 2-D classification with the settings its window suggests. Gives its time and its particle file.
fn relion(data: &Path) -> Result<(f64, PathBuf)> {
    let out = data.join("relion");
    fs::create_dir(&out)?;
    let mut command = Command::new("relion_refine");
    command
        .current_dir(data)
        .args(["--i", "particles.star", "--o"])
        .arg(out.join("run"));
    command.args(["--K", CLASSES, "--iter", RELION_ITERATIONS]);
    command.args(["--tau2_fudge", "2", "--ctf", "--norm", "--scale"]);
    command.args(["--particle_diameter", DIAMETER_ANGSTROM]);
    command.args(["--flatten_solvent", "--zero_mask", "--oversampling", "1"]);
    command.args([
        "--psi_step",
        "12",
        "--offset_range",
        "5",
        "--offset_step",
        "2",
    ]);
    command.args(["--dont_combine_weights_via_disc", "--pool", "30"]);
    command.args(["--j", "2", "--random_seed", "1"]);
    let seconds = programs::timed(&mut command)?;
    Ok((
        seconds,
        out.join(format!("run_it{RELION_ITERATIONS:0>3}_data.star")),
    ))
}

/// `dewar classify2d` on two threads, until it stops by itself.
fn dewar(data: &Path) -> Result<(f64, PathBuf)> {
    let out = data.join("classes");
    let mut command = lab::programs()?.dewar();
    command.arg("classify2d").arg(data.join("particles.star"));
    command.args(["--classes", CLASSES, "--diameter", DIAMETER_ANGSTROM]);
    command.args(["--parallel", "thread:2", "--out"]).arg(&out);
    let seconds = programs::timed(&mut command)?;
    Ok((seconds, out.join("particles.star")))
}

/// The class of each image of the one stack, in its order.
fn classes(particles: &Path, count: usize) -> Result<Vec<usize>> {
    let document = Document::read(particles)?;
    let block = document.block("particles").context("no particles")?;
    let table = block.table().context("no table of particles")?;
    let column = |label: &str| {
        let column = table.column(label);
        column.with_context(|| format!("{}: there is no {label}", particles.display()))
    };
    let (name, class) = (column("rlnImageName")?, column("rlnClassNumber")?);
    ensure!(table.row_count() == count, "{} rows", table.row_count());
    let mut classes = vec![0; count];
    for row in 0..count {
        let image = table.value(row, name).split('@').next().unwrap_or_default();
        let place = image.parse::<usize>()?.checked_sub(1);
        let place = place.and_then(|at| classes.get_mut(at));
        *place.context("there is no such image")? = table.value(row, class).parse()?;
    }
    Ok(classes)
}

impl Score {
    fn of(seconds: f64, classes: &[usize], truth: &[usize]) -> Self {
        Self {
            seconds,
            purity: purity(classes, truth),
            rand: adjusted_rand(classes, truth),
        }
    }

    /// Adds its rows; held against another's, if there is one.
    fn add(&self, report: &mut Report, who: &str, against: Option<&Self>) {
        let name = |what: &str| format!("{NAME}, {who}: {what}");
        let target = |target: fn(&Self) -> Target| against.map(target);
        report.add(
            name("time"),
            self.seconds,
            "s",
            target(|other| Target::AtMost(other.seconds * TIME_SHARE)),
        );
        report.add(
            name("purity"),
            100.0 * self.purity,
            "%",
            target(|other| Target::AtLeast(100.0 * other.purity / SLACK)),
        );
        report.add(
            name("adjusted Rand index"),
            self.rand,
            "of 1",
            target(|other| Target::AtLeast(other.rand / SLACK)),
        );
    }
}

/// How many images there are of each class and view.
fn crossed(classes: &[usize], truth: &[usize]) -> BTreeMap<(usize, usize), f64> {
    let mut table = BTreeMap::new();
    for pair in classes.iter().copied().zip(truth.iter().copied()) {
        *table.entry(pair).or_default() += 1.0;
    }
    table
}

/// The part of the images that are of their class's most frequent view.
fn purity(classes: &[usize], truth: &[usize]) -> f64 {
    let mut most: BTreeMap<usize, f64> = BTreeMap::new();
    for ((class, _), count) in crossed(classes, truth) {
        let most = most.entry(class).or_default();
        *most = most.max(count);
    }
    most.values().sum::<f64>() / classes.len() as f64
}

/// Of all pairs of images, how many are together or apart in both, 0 being what chance gives and 1 all (Hubert and Arabie
/// 1985). Unlike purity, it falls where one view is cut into several classes.
fn adjusted_rand(classes: &[usize], truth: &[usize]) -> f64 {
    let pairs = |count: f64| count * (count - 1.0) / 2.0;
    let table = crossed(classes, truth);
    let both: f64 = table.values().copied().map(pairs).sum();
    let alone = |of: fn(&(usize, usize)) -> usize| -> f64 {
        let mut sums: BTreeMap<usize, f64> = BTreeMap::new();
        for (key, count) in &table {
            *sums.entry(of(key)).or_default() += count;
        }
        sums.into_values().map(pairs).sum()
    };
    let (by_class, by_view) = (alone(|key| key.0), alone(|key| key.1));
    let chance = by_class * by_view / pairs(classes.len() as f64);
    let most = (by_class + by_view) / 2.0;
    if most == chance {
        return 1.0;
    }
    (both - chance) / (most - chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sortings_are_scored_as_the_books_have_it() {
        let truth = [0, 0, 0, 1, 1, 1];
        assert_eq!(purity(&[7, 7, 7, 2, 2, 2], &truth), 1.0);
        assert_eq!(adjusted_rand(&[7, 7, 7, 2, 2, 2], &truth), 1.0);
        // The example of scikit-learn's manual: 0.2424...
        let classes = [0, 0, 1, 1, 2, 2];
        assert!((adjusted_rand(&classes, &truth) - 8.0 / 33.0).abs() < 1e-12);
        assert!((purity(&classes, &truth) - 5.0 / 6.0).abs() < 1e-12);
        // One class for all says nothing.
        assert_eq!(adjusted_rand(&[1; 6], &truth), 0.0);
        assert_eq!(purity(&[1; 6], &truth), 0.5);
    }
}
