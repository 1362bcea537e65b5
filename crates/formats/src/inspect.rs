//! What a file is and what is wrong with it: every byte read, every problem told.
//!
//! The kind is decided by content; a name's extension only settles what the header of an MRC file
//! leaves open.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::mrc::{Compression, MrcError, MrcFile, MrcKind};
use crate::particles::{
    Findings, PROBLEMS_MAX, Particle, ParticleSet, ReadError, examine, is_cryosparc,
};
use crate::{Statistics, check_image};

/// How far a long reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Sections read.
    pub done_sections: usize,
    /// Sections to read.
    pub total_sections: usize,
}

/// What a file was found to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub contents: Contents,
    /// The statistics of all values read.
    pub statistics: Statistics,
    /// What keeps it from being used, each a line that names file and place.
    pub problems: Vec<String>,
    /// Further problems, beyond the [`PROBLEMS_MAX`] told.
    pub untold_problem_count: usize,
    /// What is odd but does no harm.
    pub warnings: Vec<String>,
}

/// The kinds of file, and what there is to say of each.
#[derive(Debug, Clone, PartialEq)]
pub enum Contents {
    /// A volume.
    Map(MrcFacts),
    /// A stack of images.
    Stack(MrcFacts),
    /// A particle file with its stacks.
    Particles(ParticleFacts),
}

impl Contents {
    /// `map`, `stack` or `particles`.
    pub fn kind(&self) -> &'static str {
        match self {
            Contents::Map(_) => "map",
            Contents::Stack(_) => "stack",
            Contents::Particles(_) => "particles",
        }
    }
}

/// What there is to say of an MRC file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MrcFacts {
    /// nx, ny, nz.
    pub size: [usize; 3],
    /// The MRC mode's number.
    pub mode: i32,
    /// Whether values are stored most significant byte first.
    pub big_endian: bool,
    /// The pixel size, if the header has it.
    pub pixel_size_angstrom: Option<f32>,
}

/// What there is to say of a particle file.
#[derive(Debug, Clone, PartialEq)]
pub struct ParticleFacts {
    /// The number of particles that could be understood.
    pub count: usize,
    /// The side of the images; none if no stack could be read.
    pub box_size_px: Option<usize>,
    /// The pixel size; none if the file has no usable one.
    pub pixel_size_angstrom: Option<f64>,
    /// The number of optics groups.
    pub optics_groups: usize,
    /// The stacks, by their names in the file.
    pub stacks: Vec<String>,
    /// The number of micrographs named.
    pub micrographs: usize,
    /// Whether every particle has a pose.
    pub has_poses: bool,
    /// How many particles are in the first and the second half.
    pub half_set_counts: [usize; 2],
}

/// A file could not even be told apart.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The operating system refused.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file has no bytes.
    #[error("{}: the file is empty; expected an MRC, STAR or .cs file", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Taken for an MRC file, it is none.
    #[error(transparent)]
    Mrc(#[from] MrcError),
    /// Taken for a particle file, it is none.
    #[error(transparent)]
    Particles(#[from] ReadError),
}

/// Reads a file whole, and with a particle file all its images. Stacks are looked up as by
/// [`ParticleSet::read`]. `progress` is called after each section.
pub fn inspect(
    path: &Path,
    project_dir: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, InspectError> {
    if looks_like_text(path)? || is_cryosparc(path) {
        let findings = examine(path, project_dir)?;
        Ok(inspect_particles(path, findings, progress))
    } else {
        let file = MrcFile::open(path)?;
        Ok(inspect_mrc(&file, progress)?)
    }
}

/// MRC headers are full of zero bytes and compressed files tell by their first; STAR has neither.
fn looks_like_text(path: &Path) -> Result<bool, InspectError> {
    let read = |source| InspectError::Read {
        path: path.to_owned(),
        source,
    };
    let mut start = Vec::new();
    let file = File::open(path).map_err(read)?;
    file.take(1024).read_to_end(&mut start).map_err(read)?;
    if start.is_empty() {
        return Err(InspectError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(!start.contains(&0) && Compression::of(&start).is_none())
}

/// Gathers problems up to a bound.
struct Problems {
    told: Vec<String>,
    untold_count: usize,
}

impl Problems {
    fn add(&mut self, problem: impl FnOnce() -> String) {
        if self.told.len() < PROBLEMS_MAX {
            self.told.push(problem());
        } else {
            self.untold_count += 1;
        }
    }
}

fn inspect_mrc(file: &MrcFile, progress: &mut dyn FnMut(Progress)) -> Result<Report, MrcError> {
    let path = file.path();
    let header = file.header();
    let mut statistics = Statistics::new();
    let mut problems = Problems {
        told: Vec::new(),
        untold_count: 0,
    };
    let mut values = vec![0.0; file.section_len()];
    for z in 0..file.section_count() {
        file.read_section(z, &mut values)?;
        statistics.add(&values);
        if header.kind == MrcKind::Stack
            && let Some(problem) = check_image(&values)
        {
            problems.add(|| format!("{}: image {}: {problem}", path.display(), z + 1));
        }
        progress(Progress {
            done_sections: z + 1,
            total_sections: file.section_count(),
        });
    }
    if header.kind == MrcKind::Map {
        // An empty plane at a map's edge is nothing odd; an empty map is.
        if statistics.non_finite_count() > 0 {
            let count = statistics.non_finite_count();
            problems.add(|| format!("{}: {count} voxels are NaN or infinite", path.display()));
        } else if statistics.min() == statistics.max() {
            problems.add(|| format!("{}: every voxel is {}", path.display(), statistics.min()));
        }
    }
    let facts = MrcFacts {
        size: header.size,
        mode: header.encoding.mode.number(),
        big_endian: header.encoding.big_endian,
        pixel_size_angstrom: header.pixel_size_angstrom,
    };
    let mut warnings: Vec<String> = file
        .warnings()
        .iter()
        .map(|text| format!("{}: {text}", path.display()))
        .collect();
    if header.pixel_size_angstrom.is_none() {
        warnings.push(format!("{}: the header has no pixel size", path.display()));
    }
    Ok(Report {
        path: path.to_owned(),
        contents: match header.kind {
            MrcKind::Map => Contents::Map(facts),
            MrcKind::Stack => Contents::Stack(facts),
        },
        statistics,
        problems: problems.told,
        untold_problem_count: problems.untold_count,
        warnings,
    })
}

fn inspect_particles(
    path: &Path,
    Findings { set, problems }: Findings,
    progress: &mut dyn FnMut(Progress),
) -> Report {
    let told = problems.iter().map(ToString::to_string).collect();
    let mut problems = Problems {
        told,
        untold_count: 0,
    };
    let statistics = scan_images(&set, &mut problems, progress);
    let facts = ParticleFacts {
        count: set.particles.len(),
        box_size_px: set.stacks.first().map(|stack| stack.size_px[0]),
        pixel_size_angstrom: set.optics.first().map(|group| group.pixel_size_angstrom),
        optics_groups: set.optics.len(),
        stacks: set.stacks.iter().map(|stack| stack.name.clone()).collect(),
        micrographs: set.micrographs.len(),
        has_poses: set.has_poses(),
        half_set_counts: set.half_set_counts(),
    };
    Report {
        path: path.to_owned(),
        contents: Contents::Particles(facts),
        statistics,
        problems: problems.told,
        untold_problem_count: problems.untold_count,
        warnings: set.warnings,
    }
}

/// Reads every particle's image, stack by stack and in the order on disk.
fn scan_images(
    set: &ParticleSet,
    problems: &mut Problems,
    progress: &mut dyn FnMut(Progress),
) -> Statistics {
    let mut order: Vec<(usize, &Particle)> = (1..).zip(&set.particles).collect();
    order.sort_by_key(|(_, particle)| (particle.stack_index, particle.image_index));
    let mut statistics = Statistics::new();
    let mut done_sections = 0;
    for of_stack in order.chunk_by(|(_, a), (_, b)| a.stack_index == b.stack_index) {
        let stack = &set.stacks[of_stack[0].1.stack_index];
        if let Err(error) = scan_stack(stack, of_stack, &mut statistics, problems, |done| {
            let total_sections = order.len();
            progress(Progress {
                done_sections: done_sections + done,
                total_sections,
            });
        }) {
            problems.add(|| crate::chain::one_line(&error));
        }
        done_sections += of_stack.len();
    }
    statistics
}

fn scan_stack(
    stack: &crate::particles::StackFile,
    particles: &[(usize, &Particle)],
    statistics: &mut Statistics,
    problems: &mut Problems,
    mut progress: impl FnMut(usize),
) -> Result<(), MrcError> {
    let file = stack.open()?;
    let mut pixels = vec![0.0; file.section_len()];
    for (done, (number, particle)) in (1..).zip(particles) {
        file.read_section(particle.image_index, &mut pixels)?;
        statistics.add(&pixels);
        if let Some(problem) = check_image(&pixels) {
            let image = particle.image_index + 1;
            problems.add(|| {
                format!(
                    "{}: image {image} (particle {number}): {problem}",
                    stack.path.display()
                )
            });
        }
        progress(done);
    }
    Ok(())
}
