//! When to compare finer detail, and when to stop.

/// Correlation of the half-maps below which detail counts as noise (Rosenthal & Henderson 2003).
pub const FSC_RESOLUTION: f64 = 0.143;

/// Fewest shells that are ever compared.
const SHELLS_MIN: usize = 5;

/// Smallest side of images in which that many shells have their ring inside the transform.
pub const BOX_SIZE_PX_MIN: usize = 2 * (SHELLS_MIN + 1);

/// Rounds without a better resolution after which the refinement has converged.
const ROUNDS_WITHOUT_GAIN: usize = 2;

/// A better resolution is one by this many shells.
const GAIN_SHELLS: f64 = 0.5;

/// Once the median orientation turned by less than this between two rounds, most particles have found their hill: a
/// quarter of the global search's step.
const SETTLED_DEG: f64 = 2.0;

/// What a finished round says about its resolution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundResult {
    /// First shell, between integers, at which the FSC of the half-maps falls below 0.143.
    pub resolution_shell: f64,
}

/// The last shell of the first round: the reference holds nothing beyond its low-pass.
pub fn first_shell_max(
    box_size_px: usize,
    pixel_size_angstrom: f64,
    low_pass_angstrom: f64,
) -> usize {
    let shell = (box_size_px as f64 * pixel_size_angstrom / low_pass_angstrom).ceil() as usize;
    shell.clamp(SHELLS_MIN, last_shell(box_size_px))
}

/// The last shell of the next round: some way past the resolution, so that detail which the half-maps just begin to
/// share can grow. The references are Wiener-filtered, so shells that are still noise weigh next to nothing.
pub fn next_shell_max(box_size_px: usize, result: RoundResult) -> usize {
    let margin = (box_size_px / 16).max(3);
    (result.resolution_shell.floor() as usize + margin).clamp(SHELLS_MIN, last_shell(box_size_px))
}

/// Whether the next round need look only near the poses of the last, which turned orientations by this much.
pub fn is_settled(last_change_deg: Option<f64>) -> bool {
    last_change_deg.is_some_and(|change| change < SETTLED_DEG)
}

/// Whether the rounds so far have stopped gaining: neither of the last two bettered the best before them by half a
/// shell, which is less than particles chosen anew would make of it.
pub fn has_converged(rounds: &[RoundResult]) -> bool {
    let Some(split) = rounds
        .len()
        .checked_sub(ROUNDS_WITHOUT_GAIN)
        .filter(|split| *split > 0)
    else {
        return false;
    };
    let best = |rounds: &[RoundResult]| {
        rounds
            .iter()
            .map(|round| round.resolution_shell)
            .fold(0.0, f64::max)
    };
    best(&rounds[split..]) < best(&rounds[..split]) + GAIN_SHELLS
}

/// The last shell whose ring lies inside the transform on every side.
fn last_shell(box_size_px: usize) -> usize {
    box_size_px / 2 - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(shells: &[f64]) -> Vec<RoundResult> {
        shells
            .iter()
            .map(|&resolution_shell| RoundResult { resolution_shell })
            .collect()
    }

    #[test]
    fn limits_stay_inside_the_box() {
        assert_eq!(first_shell_max(64, 4.0, 40.0), 7);
        assert_eq!(first_shell_max(64, 4.0, 1000.0), 5);
        assert_eq!(first_shell_max(64, 4.0, 1.0), 31);
        assert_eq!(first_shell_max(BOX_SIZE_PX_MIN, 4.0, 1.0), 5);
        assert_eq!(
            next_shell_max(
                64,
                RoundResult {
                    resolution_shell: 10.4
                }
            ),
            14
        );
        assert_eq!(
            next_shell_max(
                64,
                RoundResult {
                    resolution_shell: 0.0
                }
            ),
            5
        );
        assert_eq!(
            next_shell_max(
                64,
                RoundResult {
                    resolution_shell: 31.9
                }
            ),
            31
        );
    }

    #[test]
    fn converges_after_two_rounds_without_gain() {
        assert!(!has_converged(&rounds(&[])));
        assert!(!has_converged(&rounds(&[10.0, 10.0])));
        assert!(has_converged(&rounds(&[10.0, 10.0, 10.4])));
        assert!(!has_converged(&rounds(&[10.0, 9.0, 10.6])));
        assert!(!has_converged(&rounds(&[5.0, 9.0, 12.0, 12.3])));
        assert!(has_converged(&rounds(&[5.0, 9.0, 12.3, 12.3, 12.1])));
    }
}
