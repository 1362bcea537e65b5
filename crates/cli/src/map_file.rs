//! Maps from files, checked to be what a comparison can use.

use crate::failure::Failure;
use anyhow::anyhow;
use dewar_compute::volume::Volume;
use dewar_formats::mrc::MrcFile;
use std::path::Path;

/// Largest difference, as a fraction, between two headers' pixel sizes that is still rounding.
const PIXEL_SIZE_TOLERANCE: f64 = 0.005;

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

/// The pixel size all of the maps have: the one given, else the headers', as far as they have one.
///
/// # Errors
/// If headers disagree or none has one.
pub fn common_pixel_size<'a>(
    given: Option<f64>,
    maps: impl IntoIterator<Item = &'a MapFile>,
) -> Result<f64, Failure> {
    if let Some(size) = given {
        return Ok(size);
    }
    let mut sizes = maps.into_iter().filter_map(|map| map.pixel_size_angstrom);
    let first = sizes.next().ok_or_else(|| {
        Failure::input(anyhow!("no header has a pixel size")).try_next("--pixel-size ANGSTROM")
    })?;
    match sizes.find(|size| (first / size - 1.0).abs() > PIXEL_SIZE_TOLERANCE) {
        None => Ok(first),
        Some(other) => Err(Failure::input(anyhow!(
            "the pixel sizes are {first} A and {other} A; expected the same"
        ))),
    }
}
