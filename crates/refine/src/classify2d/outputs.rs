//! What stands in the output folder when a classification has ended. Class 1 is the one with the most particles.

use super::{
    gallery::{self, Tile},
    options::{Options, Settings},
    rounds, schedule,
    state::{Placed, RoundFigures, State},
};
use crate::{
    checkpoint,
    error::RefineError,
    record::{self, FileDigest, FileStamp},
};
use dewar_compute::{
    search::{ClassAverage, ClassGrid},
    volume::Image,
};
use dewar_formats::{
    mrc::{OutputMode, StackWriter},
    particles::{HalfSet, ParticleSet, Pose, Refined},
    star::{Block, Document, Entry, Table},
};
use num_complex::Complex32;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Checked inputs.
pub struct Prepared {
    /// The particle file.
    pub set: ParticleSet,
    /// Its bytes.
    pub digest: FileDigest,
    /// Its stacks.
    pub stamps: Vec<FileStamp>,
    /// Diameter of the mask on images.
    pub mask_diameter_angstrom: f64,
}

/// A finished classification, complete enough to repeat it: `classify2d.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The release that wrote it.
    pub program_version: String,
    /// The class of instructions of the machine that made the averages: on workers of the same class they are the same bytes.
    pub instruction_class: String,
    /// The command that was given.
    pub command: Vec<String>,
    /// Where it was given: relative paths count from there.
    pub working_dir: PathBuf,
    /// Folder from which image names counted, if one was given.
    pub project_dir: Option<PathBuf>,
    /// What the user decided.
    pub settings: Settings,
    /// The mask diameter that was used.
    pub mask_diameter_angstrom: f64,
    /// The particle file: path and BLAKE3.
    pub particles: FileDigest,
    /// The stacks.
    pub stacks: Vec<FileStamp>,
    /// How many particles.
    pub particle_count: usize,
    /// Side of the images.
    pub box_size_px: usize,
    /// Their pixel size.
    pub pixel_size_angstrom: f64,
    /// Rounds done.
    pub iterations: usize,
    /// Whether it stopped because classes no longer changed.
    pub converged: bool,
    /// Each class, the one with the most particles first.
    pub classes: Vec<ClassSummary>,
    /// Each round.
    pub rounds: Vec<RoundFigures>,
    /// How long the last run took.
    pub seconds: f64,
}

/// What is told of a class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassSummary {
    /// From 1, as `rlnClassNumber` and the images of `classes.mrcs` count.
    pub number: usize,
    /// Particles that most likely belong to it.
    pub particle_count: usize,
    /// Its part of the posterior of all particles.
    pub fraction: f64,
    /// The finest detail whose signal is above the noise in the average; none where there is none.
    pub resolution_angstrom: Option<f64>,
}

/// How a classification ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Each class, the one with the most particles first.
    pub classes: Vec<ClassSummary>,
    /// Rounds done.
    pub iterations: usize,
    /// Whether it stopped because classes no longer changed.
    pub converged: bool,
    /// How long this run took.
    pub seconds: f64,
    /// The averages.
    pub averages: PathBuf,
    /// Their picture.
    pub gallery: PathBuf,
    /// The particles with their classes.
    pub particles: PathBuf,
    /// The record of all this.
    pub record: PathBuf,
}

impl Summary {
    /// The summary of what `record` tells of the folder `out`.
    pub fn of(out: &Path, record: Record) -> Self {
        Self {
            classes: record.classes,
            iterations: record.iterations,
            converged: record.converged,
            seconds: record.seconds,
            averages: out.join("classes.mrcs"),
            gallery: out.join("gallery.png"),
            particles: out.join("particles.star"),
            record: out.join(rounds::FILE),
        }
    }
}

/// Writes all of it; the record, which makes the classification count as done, comes last.
///
/// # Errors
/// If the disk refuses.
pub fn write(
    options: &Options,
    prepared: &Prepared,
    grid: &ClassGrid,
    state: &State,
    averages: &[Complex32],
    seconds: f64,
) -> Result<Summary, RefineError> {
    let (out, set) = (&options.out, &prepared.set);
    let ranks = Ranks::of(state);
    let classes = ranks.summaries(state, set);
    let pictures = ranks.old_of_new.iter().map(|class| {
        let samples = &averages[class * grid.sample_count()..][..grid.sample_count()];
        let average = ClassAverage::of_samples(samples.to_vec());
        average
            .picture(grid)
            .map_err(|error| RefineError::Output(error.to_string()))
    });
    let pictures: Vec<Image> = pictures.collect::<Result<_, _>>()?;
    write_stack(&out.join("classes.mrcs"), &pictures, set)?;
    classes_document(&classes).write(&out.join("classes.star"))?;
    let tiles: Vec<Tile<'_>> = pictures.iter().zip(&classes).map(tile).collect();
    gallery::write(&out.join("gallery.png"), &tiles)?;
    let placed: Vec<Placed> = state
        .particles
        .iter()
        .map(|placed| Placed {
            class: ranks.new_of_old[placed.class],
            ..*placed
        })
        .collect();
    let path = out.join("particles.star");
    let rows = (0..placed.len()).collect::<Vec<_>>();
    particles_document(set, &path, &placed, &rows)?.write(&path)?;
    let record = Record {
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        instruction_class: dewar_task::instruction_class().to_owned(),
        command: record::command(),
        working_dir: std::env::current_dir().unwrap_or_default(),
        project_dir: options.project_dir.clone(),
        settings: options.settings.clone(),
        mask_diameter_angstrom: prepared.mask_diameter_angstrom,
        particles: prepared.digest.clone(),
        stacks: prepared.stamps.clone(),
        particle_count: set.particles.len(),
        box_size_px: set.box_size_px,
        pixel_size_angstrom: set.pixel_size_angstrom,
        iterations: state.iteration,
        converged: schedule::has_converged(&state.results()),
        classes,
        rounds: state.rounds.clone(),
        seconds,
    };
    checkpoint::write_json(&out.join(rounds::FILE), &record)?;
    Ok(Summary::of(out, record))
}

/// Classes by their number of particles.
struct Ranks {
    old_of_new: Vec<usize>,
    new_of_old: Vec<usize>,
    counts: Vec<usize>,
}

impl Ranks {
    fn of(state: &State) -> Self {
        let mut counts = vec![0; state.classes.len()];
        state
            .particles
            .iter()
            .for_each(|placed| counts[placed.class] += 1);
        let mut old_of_new: Vec<usize> = (0..counts.len()).collect();
        old_of_new.sort_by_key(|class| std::cmp::Reverse(counts[*class]));
        let mut new_of_old = vec![0; counts.len()];
        for (new, old) in old_of_new.iter().enumerate() {
            new_of_old[*old] = new;
        }
        Self {
            old_of_new,
            new_of_old,
            counts,
        }
    }

    fn summaries(&self, state: &State, set: &ParticleSet) -> Vec<ClassSummary> {
        let total: f64 = state.classes.iter().map(|class| class.weight).sum();
        let summary = |(new, old): (usize, &usize)| {
            let class = &state.classes[*old];
            let is_resolved = class.resolved_rings > 0;
            ClassSummary {
                number: new + 1,
                particle_count: self.counts[*old],
                fraction: class.weight / total,
                resolution_angstrom: is_resolved
                    .then(|| resolution_angstrom(set, class.resolved_rings)),
            }
        };
        self.old_of_new.iter().enumerate().map(summary).collect()
    }
}

/// The detail of a shell.
pub fn resolution_angstrom(set: &ParticleSet, shell: usize) -> f64 {
    set.box_size_px as f64 * set.pixel_size_angstrom / shell.max(1) as f64
}

fn tile<'a>((picture, class): (&'a Image, &ClassSummary)) -> Tile<'a> {
    let (number, count) = (class.number, class.particle_count);
    if count == 0 {
        return Tile {
            image: None,
            lines: [format!("#{number}"), "empty".to_owned()],
        };
    }
    let resolution = class
        .resolution_angstrom
        .map_or(String::new(), |angstrom| format!("  {angstrom:.1} Å"));
    Tile {
        image: Some(picture),
        lines: [
            format!("#{number}  {count}"),
            format!("{:.1} %{resolution}", 100.0 * class.fraction),
        ],
    }
}

fn write_stack(path: &Path, pictures: &[Image], set: &ParticleSet) -> Result<(), RefineError> {
    let n = set.box_size_px;
    let label = format!("Dewar {}", env!("CARGO_PKG_VERSION"));
    let pixel = set.pixel_size_angstrom as f32;
    let mut stack = StackWriter::create(path, [n, n], pixel, OutputMode::Float32, &label)?;
    for picture in pictures {
        stack.append(picture.data())?;
    }
    Ok(stack.finish()?)
}

/// The classes with RELION's labels.
fn classes_document(classes: &[ClassSummary]) -> Document {
    let mut table = Table::new([
        "rlnReferenceImage",
        "rlnClassNumber",
        "rlnClassDistribution",
        "rlnEstimatedResolution",
        "dewarParticleCount",
    ]);
    for class in classes {
        table.push_row([
            format!("{:06}@classes.mrcs", class.number),
            class.number.to_string(),
            format!("{:.6}", class.fraction),
            format!("{:.6}", class.resolution_angstrom.unwrap_or(999.0)),
            class.particle_count.to_string(),
        ]);
    }
    Document {
        blocks: vec![Block::with_table("model_classes", table)],
    }
}

/// The rows of the particle file, as it would stand at `path`, with their classes and in-plane poses.
///
/// # Errors
/// If there is not one place for each particle.
pub fn particles_document(
    set: &ParticleSet,
    path: &Path,
    placed: &[Placed],
    rows: &[usize],
) -> Result<Document, RefineError> {
    let refined: Vec<Refined> = placed.iter().zip(&set.particles).map(refined).collect();
    let mut document = set.with_poses_and_half_sets(path, &refined)?;
    let has_halves = set
        .particles
        .iter()
        .all(|particle| particle.half_set.is_some());
    let block = document
        .blocks
        .iter_mut()
        .find(|block| block.name == "particles");
    let table = block
        .as_ref()
        .and_then(|block| block.table().map(|table| table.into_owned()));
    let (Some(block), Some(table)) = (block, table) else {
        return Err(RefineError::Output(
            "the particle file has no particles".to_owned(),
        ));
    };
    block.entries = vec![Entry::Loop(with_classes(&table, placed, rows, has_halves))];
    Ok(document)
}

fn refined((placed, particle): (&Placed, &dewar_formats::particles::Particle)) -> Refined {
    Refined {
        pose: Pose {
            rot_deg: 0.0,
            tilt_deg: 0.0,
            psi_deg: placed.psi_deg,
            shift_angstrom: placed.shift_angstrom,
        },
        half_set: particle.half_set.unwrap_or(HalfSet::One),
        weight: placed.weight,
        angle_sd_deg: 0.0,
        shift_sd_angstrom: 0.0,
        covariance: [0.0; 15],
    }
}

/// Half-sets that the file had stay; none are made up. How sure poses are is not known of these.
fn with_classes(table: &Table, placed: &[Placed], rows: &[usize], has_halves: bool) -> Table {
    const DROPPED: [&str; 3] = ["rlnClassNumber", "dewarAngleSdDeg", "dewarShiftSdAngst"];
    let is_kept = |label: &&String| {
        !DROPPED.contains(&label.as_str()) && (has_halves || *label != "rlnRandomSubset")
    };
    let kept: Vec<&String> = table.labels().iter().filter(is_kept).collect();
    let columns: Vec<usize> = kept
        .iter()
        .filter_map(|label| table.column(label))
        .collect();
    let labels = kept
        .iter()
        .map(|label| label.as_str())
        .chain(["rlnClassNumber"]);
    let mut classified = Table::new(labels);
    for &row in rows {
        let class = (placed[row].class + 1).to_string();
        let values = columns.iter().map(|column| table.value(row, *column));
        classified.push_row(values.chain([class.as_str()]));
    }
    classified
}
