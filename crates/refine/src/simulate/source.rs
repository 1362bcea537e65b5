//! What is projected: a map, a model drawn as one, or the built-in phantom.

use super::{PHANTOM_PIXEL_SIZE_ANGSTROM, SimulateError, SimulateOptions};
use dewar_compute::{
    density::{self, Atom, Gaussian},
    phantom::{self, Phantom},
    symmetry::PointGroup,
    volume::Volume,
};
use dewar_formats::{mrc::MrcFile, pdb};
use std::path::Path;

/// A map of the wanted box.
pub struct Source {
    /// The map.
    pub map: Volume,
    /// Its voxel.
    pub pixel_size_angstrom: f64,
    /// The extent of the particle, if it is known.
    pub diameter_angstrom: Option<f64>,
    /// What is odd but does no harm.
    pub warnings: Vec<String>,
}

/// Reads or makes the map that the options name.
pub fn read(options: &SimulateOptions) -> Result<Source, SimulateError> {
    match &options.source {
        None => phantom_map(options),
        Some(path) if is_model(path) => model(path, options),
        Some(path) => map(path, options),
    }
}

/// By name: what is packed with gzip does not tell earlier.
fn is_model(path: &Path) -> bool {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.ends_with(".pdb") || name.ends_with(".ent")
}

fn phantom_map(options: &SimulateOptions) -> Result<Source, SimulateError> {
    let pixel_size_angstrom = options
        .pixel_size_angstrom
        .unwrap_or(PHANTOM_PIXEL_SIZE_ANGSTROM);
    let beads = with_symmetry(Phantom::new().gaussians(), &options.symmetry);
    Ok(Source {
        map: density::from_gaussians(&beads, options.box_size_px, pixel_size_angstrom)?,
        pixel_size_angstrom,
        diameter_angstrom: Some(phantom::DIAMETER_ANGSTROM),
        warnings: Vec::new(),
    })
}

/// Every copy the group makes, together of the mass of one.
fn with_symmetry(beads: &[Gaussian], group: &PointGroup) -> Vec<Gaussian> {
    let operators = group.operators();
    let copies = operators.iter().flat_map(|operator| {
        beads.iter().map(move |bead| Gaussian {
            centre_angstrom: std::array::from_fn(|row| {
                (0..3)
                    .map(|column| operator[(row, column)] * bead.centre_angstrom[column])
                    .sum()
            }),
            ..*bead
        })
    });
    let share = 1.0 / operators.len() as f64;
    copies
        .map(|bead| Gaussian {
            mass: share * bead.mass,
            ..bead
        })
        .collect()
}

fn model(path: &Path, options: &SimulateOptions) -> Result<Source, SimulateError> {
    let wrong = |problem: String| SimulateError::Source {
        path: path.to_owned(),
        problem,
    };
    let pixel_size_angstrom = options.pixel_size_angstrom.ok_or_else(|| {
        wrong("a model has no pixel size of its own; give one with --pixel-size".to_owned())
    })?;
    let atoms: Vec<Atom> = pdb::read_atoms(path)?
        .iter()
        .map(|atom| Atom {
            position_angstrom: atom.position_angstrom.map(f64::from),
            weight: f64::from(atom.atomic_number),
            b_factor_angstrom2: f64::from(atom.b_factor),
            occupancy: f64::from(atom.occupancy),
        })
        .collect();
    let map = density::from_atoms(&atoms, options.box_size_px, pixel_size_angstrom)
        .map_err(|error| wrong(error.to_string()))?;
    Ok(Source {
        map,
        pixel_size_angstrom,
        diameter_angstrom: None,
        warnings: Vec::new(),
    })
}

fn map(path: &Path, options: &SimulateOptions) -> Result<Source, SimulateError> {
    let wrong = |problem: String| SimulateError::Source {
        path: path.to_owned(),
        problem,
    };
    let file = MrcFile::open(path)?;
    let [nx, ny, nz] = file.header().size;
    if nx != ny || ny != nz {
        return Err(wrong(format!(
            "the map is {nx} x {ny} x {nz}; expected a cube"
        )));
    }
    let pixel_size_angstrom = options
        .pixel_size_angstrom
        .or_else(|| file.header().pixel_size_angstrom.map(shortest))
        .ok_or_else(|| {
            wrong("the header has no pixel size; give it with --pixel-size".to_owned())
        })?;
    let values = file.read_all()?;
    if values.iter().any(|value| !value.is_finite()) {
        return Err(wrong(
            "the map has voxels that are NaN or infinite".to_owned(),
        ));
    }
    let map = Volume::new(nx, values).and_then(|map| map.resized(options.box_size_px));
    Ok(Source {
        map: map.map_err(|error| wrong(error.to_string()))?,
        pixel_size_angstrom,
        diameter_angstrom: None,
        warnings: file
            .warnings()
            .iter()
            .map(|warning| format!("{}: {warning}", path.display()))
            .collect(),
    })
}

/// The number someone meant who wrote it as an `f32`: 1.6, not 1.60000002.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
