//! How fast amplitudes fall with resolution.

/// Coarser than this the shape of the particle, not the sharpness of the map, decides how amplitudes fall (Rosenthal and
/// Henderson 2003).
pub const FIT_FROM_ANGSTROM: f64 = 10.0;

/// A line through fewer shells says nothing.
const SHELL_COUNT_MIN: usize = 5;

/// The line ln|F| = intercept + slope / d².
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// In Å².
    pub slope: f64,
    /// Of ln|F|.
    pub intercept: f64,
    /// How well the line describes the shells: 1 means exactly, -1 is its sign for a falling line.
    pub correlation: f64,
    /// What levels the line: negative where amplitudes fall.
    pub b_factor_angstrom2: f64,
}

/// Fits the shells between [`FIT_FROM_ANGSTROM`] and `limit_angstrom`; none if they are too few.
pub(super) fn fit(
    amplitudes: &[f64],
    n: usize,
    pixel_size_angstrom: f64,
    limit_angstrom: f64,
) -> Option<Fit> {
    let box_angstrom = n as f64 * pixel_size_angstrom;
    let points: Vec<(f64, f64)> = (1..amplitudes.len())
        .map(|shell| (shell as f64 / box_angstrom, amplitudes[shell]))
        .filter(|&(frequency, amplitude)| {
            frequency * FIT_FROM_ANGSTROM >= 1.0
                && frequency * limit_angstrom <= 1.0
                && amplitude > 0.0
        })
        .map(|(frequency, amplitude)| (frequency * frequency, libm::log(amplitude)))
        .collect();
    (points.len() >= SHELL_COUNT_MIN).then(|| line(&points))
}

fn line(points: &[(f64, f64)]) -> Fit {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in points.iter().map(|(x, y)| (x - mean_x, y - mean_y)) {
        xx += x * x;
        xy += x * y;
        yy += y * y;
    }
    let slope = xy / xx;
    Fit {
        slope,
        intercept: mean_y - slope * mean_x,
        correlation: if yy > 0.0 {
            xy / libm::sqrt(xx * yy)
        } else {
            0.0
        },
        b_factor_angstrom2: 4.0 * slope,
    }
}
