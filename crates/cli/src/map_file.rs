//! Maps from files, checked to be what a comparison can use.

use crate::failure::Failure;
use anyhow::anyhow;
use dewar_compute::volume::Volume;
use dewar_formats::mrc::MrcFile;
use std::path::Path;

/// A cubic map of finite values.
pub struct MapFile {
    /// The densities.
    pub volume: Volume,
    /// What the header says.
    pub pixel_size_angstrom: Option<f64>,
}

/// Reads a map.
///
/// # Errors
/// If the file cannot be read, is no cube, or holds NaN.
pub fn read(path: &Path) -> Result<MapFile, Failure> {
    let name = path.display();
    let file = MrcFile::open(path).map_err(Failure::input)?;
    for warning in file.warnings() {
        eprintln!("warning: {name}: {warning}");
    }
    let [nx, ny, nz] = file.header().size;
    if nx != ny || ny != nz {
        return Err(Failure::input(anyhow!(
            "{name}: the map is {nx} x {ny} x {nz}; expected a cube"
        ))
        .try_next(format!("dewar info {name}")));
    }
    let values = file.read_all().map_err(Failure::input)?;
    if values.iter().any(|value| !value.is_finite()) {
        return Err(Failure::input(anyhow!(
            "{name}: the map has voxels that are NaN or infinite"
        ))
        .try_next(format!("dewar info {name}")));
    }
    let volume =
        Volume::new(nx, values).map_err(|error| Failure::input(anyhow!("{name}: {error}")))?;
    Ok(MapFile {
        volume,
        pixel_size_angstrom: file.header().pixel_size_angstrom.map(f64::from),
    })
}
