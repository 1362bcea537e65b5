//! How fast amplitudes fall with resolution.

/// Coarser than this the shape of the particle, not the sharpness of the map, decides how amplitudes fall (Rosenthal and
/// Henderson 2003).
pub const FIT_FROM_ANGSTROM: f64 = 10.0;

/// A line through fewer shells says nothing.
const SHELL_COUNT_MIN: usize = 5;

/// How far the fit must reach: to twice the 1/d² it begins at. Over less, the slope is that of helices and of whatever else
/// repeats at 10 A, not that of sharpness: fitted to 8.5 A, the maps that test particles are made of have B-factors of -333 and
/// -1021 A² themselves, to 7.07 A the first has -188 A², to 4 A -68 A².
pub const FIT_TO_ANGSTROM: f64 = FIT_FROM_ANGSTROM / std::f64::consts::SQRT_2;

/// The B-factors that maps of particles are known to have (Rosenthal and Henderson 2003): others say that the fit or the map is
/// odd.
pub const B_FACTORS_ANGSTROM2: std::ops::RangeInclusive<f64> = -1000.0..=0.0;

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

/// Fits the shells between [`FIT_FROM_ANGSTROM`] and `limit_angstrom`; none if they are too few or reach not far enough.
pub(super) fn fit(
    amplitudes: &[f64],
    n: usize,
    pixel_size_angstrom: f64,
    limit_angstrom: f64,
) -> Option<Fit> {
    if limit_angstrom > FIT_TO_ANGSTROM {
        return None;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_fitted_only_where_it_is_long_enough() {
        const N: usize = 256;
        const PIXEL_ANGSTROM: f64 = 2.0;
        let amplitude = |shell: usize| {
            let frequency = shell as f64 / (N as f64 * PIXEL_ANGSTROM);
            libm::exp(-150.0 / 4.0 * frequency * frequency)
        };
        let amplitudes: Vec<f64> = (0..=N / 2).map(amplitude).collect();
        let to = |limit_angstrom| fit(&amplitudes, N, PIXEL_ANGSTROM, limit_angstrom);
        assert_eq!(to(7.2), None);
        let found = to(6.9).unwrap();
        assert!((found.b_factor_angstrom2 + 150.0).abs() < 1e-6, "{found:?}");
        assert!(B_FACTORS_ANGSTROM2.contains(&found.b_factor_angstrom2));
    }
}
