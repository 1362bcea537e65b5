//! The particles of chosen classes as a particle file of their own.

use super::{outputs, state::Placed};
use crate::error::RefineError;
use dewar_formats::{
    particles::ParticleSet,
    star::{Document, StarError, Table},
};
use std::path::{Path, PathBuf};

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// The particle file.
    pub particles: PathBuf,
    /// How many are in it.
    pub particle_count: usize,
    /// Of how many.
    pub of: usize,
}

/// Why nothing was chosen.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The classified particles cannot be read.
    #[error(transparent)]
    Star(#[from] StarError),
    /// The classified particles, or the chosen ones, make trouble.
    #[error(transparent)]
    Particles(#[from] RefineError),
    /// The folder holds no classification.
    #[error("{}: it has no {label}; is it the output of `dewar classify2d`?", path.display())]
    NotClassified {
        /// The particle file.
        path: PathBuf,
        /// The column that is missing or wrong.
        label: &'static str,
    },
    /// A class has no particles.
    #[error("{}: no particle is in class {class}; there are classes 1 to {last}", path.display())]
    Empty {
        /// The particle file.
        path: PathBuf,
        /// The class.
        class: usize,
        /// The last class that has any.
        last: usize,
    },
}

/// Writes the particles of `classes` of the classification in `folder` to `out`, with everything known of them.
///
/// # Errors
/// If the folder holds no classification, or a class has no particles.
pub fn select(
    folder: &Path,
    classes: &[usize],
    out: &Path,
    project_dir: Option<&Path>,
) -> Result<Selected, SelectError> {
    let path = folder.join("particles.star");
    let document = Document::read(&path)?;
    let table = document.block("particles").and_then(|block| block.table());
    let not_classified = |label| SelectError::NotClassified {
        path: path.clone(),
        label,
    };
    let table = table.ok_or_else(|| not_classified("block of particles"))?;
    let set = ParticleSet::read(&path, project_dir).map_err(RefineError::from)?;
    let placed = placed(&table, &set).map_err(not_classified)?;
    for &class in classes {
        if !placed.iter().any(|placed| placed.class + 1 == class) {
            let last = placed
                .iter()
                .map(|placed| placed.class + 1)
                .max()
                .unwrap_or(0);
            return Err(SelectError::Empty { path, class, last });
        }
    }
    let rows: Vec<usize> = (0..placed.len())
        .filter(|row| classes.contains(&(placed[*row].class + 1)))
        .collect();
    let chosen = outputs::particles_document(&set, out, &placed, &rows)?;
    chosen.write(out).map_err(RefineError::from)?;
    Ok(Selected {
        particles: out.to_owned(),
        particle_count: rows.len(),
        of: placed.len(),
    })
}

/// Where each particle belongs, by the file; else the label that is missing or makes no sense.
fn placed(table: &Table, set: &ParticleSet) -> Result<Vec<Placed>, &'static str> {
    const CLASS: &str = "rlnClassNumber";
    const WEIGHT: &str = "rlnMaxValueProbDistribution";
    let class_column = table.column(CLASS).ok_or(CLASS)?;
    let weight_column = table.column(WEIGHT).ok_or(WEIGHT)?;
    let particles = set.particles.iter().enumerate();
    particles
        .map(|(row, particle)| {
            let class: usize = table.value(row, class_column).parse().map_err(|_| CLASS)?;
            let pose = particle.pose.ok_or("rlnAnglePsi")?;
            Ok(Placed {
                class: class.checked_sub(1).ok_or(CLASS)?,
                psi_deg: pose.psi_deg,
                shift_angstrom: pose.shift_angstrom,
                weight: table
                    .value(row, weight_column)
                    .parse()
                    .map_err(|_| WEIGHT)?,
            })
        })
        .collect()
}
