//! When to compare finer detail, and when to stop.
//!
//! After RELION's rules (Scheres 2012, doi 10.1016/j.jsb.2012.09.006), with one difference that noise alone asks for: finer
//! detail is compared only once the half-maps agree beyond what their references could have given them
//! (`docs/decisions/resolution-limit.md`).

/// Correlation of the half-maps below which detail counts as noise (Rosenthal & Henderson 2003).
pub const FSC_RESOLUTION: f64 = 0.143;

/// Fewest shells that are ever compared.
const SHELLS_MIN: usize = 5;

/// Smallest side of images in which that many shells have their ring inside the transform.
pub const BOX_SIZE_PX_MIN: usize = 2 * (SHELLS_MIN + 1);

/// Rounds without a better resolution after which the refinement may have converged.
const ROUNDS_WITHOUT_GAIN: usize = 1;

/// A better resolution is one by this many shells.
const GAIN_SHELLS: f64 = 0.5;

/// The starting map is in both halves, and what its mask makes of noise is the same in both: detail must come from twice as
/// far beyond it before it counts as the particles' own. Later references were made by each half for itself.
const FIRST_REACH: usize = 2;

/// Poses that move by more than this part of their least move so far no longer settle.
const STILL_SETTLING: f64 = 0.97;

/// Once the median orientation turned by less than this between two rounds, most particles have found their hill: a
/// quarter of the global search's step.
const SETTLED_DEG: f64 = 2.0;

/// An angle and a shift, both medians over all particles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Poses {
    /// Of orientations.
    pub deg: f64,
    /// Of shifts.
    pub angstrom: f64,
}

impl Poses {
    /// From the two in this order.
    pub fn of((deg, angstrom): (f64, f64)) -> Self {
        Self { deg, angstrom }
    }
}

/// What a finished round says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundResult {
    /// Last shell that was compared.
    pub shell_max: usize,
    /// Whether poses were looked for near the last ones only.
    pub local: bool,
    /// First shell, between integers, at which the FSC of the half-maps falls below 0.143.
    pub resolution_shell: f64,
    /// How far poses moved since the round before; none in the first.
    pub change: Option<Poses>,
    /// How far they may move and still explain their images as well: their standard deviations.
    pub spread: Poses,
}

impl RoundResult {
    /// The last whole shell on which the half-maps agree.
    fn agree_to(&self) -> usize {
        self.resolution_shell.floor() as usize
    }
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

/// How many shells a mask carries detail beyond where it ended: it blurs a transform by the inverse of its diameter.
pub fn mask_reach(box_angstrom: f64, mask_diameter_angstrom: f64) -> usize {
    (box_angstrom / mask_diameter_angstrom).ceil().max(1.0) as usize
}

/// The last shell of the next round: as far as the half-maps agree, once they agree farther than their masked references
/// could have made noise agree; until then no farther than before. A closing round goes all the way: detail that creeps up
/// needs rounds to do so, and there is one. `None` before the first round.
pub fn next_shell_max(
    box_size_px: usize,
    mask_reach: usize,
    rounds: &[RoundResult],
) -> Option<usize> {
    let last = rounds.last()?;
    let reach = if has_own_detail(rounds, mask_reach) {
        mask_reach
    } else {
        FIRST_REACH * mask_reach
    };
    let agree_to = last.agree_to();
    let reach = if is_closing(mask_reach, rounds) {
        0
    } else {
        reach
    };
    Some(if agree_to > last.shell_max + reach {
        agree_to.clamp(SHELLS_MIN, last_shell(box_size_px))
    } else {
        last.shell_max
    })
}

/// Whether the half-maps ever agreed beyond what the starting map could have given them.
pub fn has_own_detail(rounds: &[RoundResult], mask_reach: usize) -> bool {
    rounds.first().is_some_and(|first| {
        let given = first.shell_max + FIRST_REACH * mask_reach;
        rounds.iter().any(|round| round.agree_to() > given)
    })
}

/// Whether the next round need look only near the poses of the last: it turned them little, and more rounds are to come.
pub fn is_local(mask_reach: usize, rounds: &[RoundResult]) -> bool {
    let turned = rounds.last().and_then(|last| last.change);
    turned.is_some_and(|change| change.deg < SETTLED_DEG) && !is_closing(mask_reach, rounds)
}

/// Whether the next round is the last: nothing improves any more, but the few particles that lie elsewhere would be found by
/// looking everywhere once more, or the half-maps agree on detail that was not compared yet.
fn is_closing(mask_reach: usize, rounds: &[RoundResult]) -> bool {
    let has_more = |last: &RoundResult| last.local || last.agree_to() > last.shell_max;
    has_converged(rounds)
        && has_own_detail(rounds, mask_reach)
        && rounds.last().is_some_and(has_more)
}

/// Whether there is nothing more to do: it has converged, and was closed if that was of use.
pub fn is_over(mask_reach: usize, rounds: &[RoundResult]) -> bool {
    let before = &rounds[..rounds.len().saturating_sub(1)];
    is_closing(mask_reach, before) || (has_converged(rounds) && !is_closing(mask_reach, rounds))
}

/// Whether nothing improves any more: the last round did not better the best resolution before it by half a shell, which
/// is less than particles chosen anew would make of it, and left poses where they were.
fn has_converged(rounds: &[RoundResult]) -> bool {
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
        && stay(rounds, |poses| poses.deg)
        && stay(rounds, |poses| poses.angstrom)
}

/// Whether poses moved less in the last round than they are certain to, or no less than in one before.
fn stay(rounds: &[RoundResult], of: fn(Poses) -> f64) -> bool {
    let changes: Vec<f64> = rounds
        .iter()
        .filter_map(|round| round.change.map(of))
        .collect();
    let Some(((last, before), spread)) = changes.split_last().zip(rounds.last()) else {
        return false;
    };
    let least = before.iter().copied().fold(f64::INFINITY, f64::min);
    *last <= of(spread.spread) || *last >= STILL_SETTLING * least
}

/// The last shell whose ring lies inside the transform on every side.
fn last_shell(box_size_px: usize) -> usize {
    box_size_px / 2 - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(shell_max: usize, resolution_shell: f64, change: Option<(f64, f64)>) -> RoundResult {
        RoundResult {
            shell_max,
            local: false,
            resolution_shell,
            change: change.map(Poses::of),
            spread: Poses::of((0.5, 0.5)),
        }
    }

    /// Rounds that agree to these shells and move poses so.
    fn rounds(of: &[(f64, f64)]) -> Vec<RoundResult> {
        let change = |index: usize, deg| (index > 0).then_some((deg, deg));
        of.iter()
            .enumerate()
            .map(|(index, (shell, deg))| round(9, *shell, change(index, *deg)))
            .collect()
    }

    #[test]
    fn limits_stay_inside_the_box() {
        assert_eq!(first_shell_max(64, 4.0, 40.0), 7);
        assert_eq!(first_shell_max(64, 4.0, 1000.0), 5);
        assert_eq!(first_shell_max(64, 4.0, 1.0), 31);
        assert_eq!(first_shell_max(BOX_SIZE_PX_MIN, 4.0, 1.0), 5);
        assert_eq!(next_shell_max(64, 2, &[round(7, 32.0, None)]), Some(31));
        assert_eq!(next_shell_max(64, 2, &[]), None);
    }

    #[test]
    fn finer_detail_is_compared_only_where_the_references_cannot_have_given_it() {
        // What was compared ended at shell 7, and its mask blurs it over two more; the starting map's over four.
        for (agree_to, next) in [(3.0, 7), (7.9, 7), (11.9, 7), (12.0, 12), (27.3, 27)] {
            let rounds = [round(7, agree_to, None)];
            assert_eq!(next_shell_max(64, 2, &rounds), Some(next), "to {agree_to}");
        }
        let first = round(7, 20.2, None);
        for (agree_to, next) in [(5.0, 20), (22.9, 20), (23.0, 23)] {
            let rounds = [first, round(20, agree_to, None)];
            assert_eq!(next_shell_max(64, 2, &rounds), Some(next), "to {agree_to}");
        }
        assert_eq!(mask_reach(256.0, 200.0), 2);
        assert_eq!(mask_reach(256.0, 256.0), 1);
        assert_eq!(mask_reach(256.0, 64.0), 4);
    }

    #[test]
    fn noise_alone_has_no_detail_of_its_own_however_long_it_goes_on() {
        let mut rounds: Vec<RoundResult> = Vec::new();
        for _ in 0..20 {
            let limit = next_shell_max(64, 2, &rounds).unwrap_or(7);
            assert_eq!(limit, 7);
            // Whatever the references hold comes back, and their masks carry it on.
            rounds.push(round(limit, (limit + 2) as f64 + 0.9, None));
        }
        assert!(!has_own_detail(&rounds, 2));
        rounds.push(round(7, 12.0, None));
        assert!(has_own_detail(&rounds, 2));
    }

    #[test]
    fn converges_after_a_round_without_gain_that_left_poses_where_they_were() {
        let converged = |of: &[(f64, f64)]| has_converged(&rounds(of));
        assert!(!converged(&[]));
        assert!(!converged(&[(10.0, 0.0)]));
        assert!(converged(&[(10.0, 0.0), (10.4, 0.3)]));
        // Finer by half a shell.
        assert!(!converged(&[(10.0, 0.0), (10.6, 0.3)]));
        // The best counts, not the last.
        assert!(converged(&[(10.0, 0.0), (9.0, 5.0), (10.4, 0.3)]));
        // No finer, but poses still settle.
        assert!(!converged(&[(10.0, 0.0), (12.0, 5.0), (12.0, 2.0)]));
        // They move, but no longer less: as far as they get.
        assert!(converged(&[(10.0, 0.0), (12.0, 2.0), (12.0, 1.98)]));
        assert!(converged(&[
            (5.0, 0.0),
            (12.0, 5.0),
            (12.3, 1.5),
            (12.4, 0.4)
        ]));
    }

    #[test]
    fn shifts_that_still_settle_keep_it_going() {
        let mut of = rounds(&[(10.0, 0.0), (10.0, 4.0), (10.0, 0.3)]);
        assert!(has_converged(&of));
        of[2].change = Some(Poses {
            deg: 0.3,
            angstrom: 2.0,
        });
        assert!(!has_converged(&of));
    }

    #[test]
    fn only_near_the_last_poses_is_looked_once_they_turned_by_less_than_two_degrees() {
        for (change, expected) in [(None, false), (Some(2.0), false), (Some(1.9), true)] {
            let change = change.map(|deg| (deg, 5.0));
            assert_eq!(is_local(2, &[round(7, 20.0, change)]), expected);
        }
    }

    #[test]
    fn what_has_converged_is_closed_by_one_round_everywhere_and_as_far_as_the_maps_agree() {
        let last = RoundResult {
            local: true,
            ..round(20, 21.3, Some((0.3, 0.3)))
        };
        let rounds = [round(7, 21.0, None), last];
        assert!(!is_over(2, &rounds));
        assert!(!is_local(2, &rounds));
        // Less than the mask's reach beyond, which only the last round may go.
        assert_eq!(next_shell_max(64, 2, &rounds), Some(21));
        // Whatever comes of it.
        for (resolution, moved) in [(21.4, 0.2), (25.0, 3.0)] {
            let closing = round(21, resolution, Some((moved, moved)));
            assert!(is_over(2, &[rounds[0], last, closing]));
        }
    }

    #[test]
    fn nothing_is_closed_that_a_last_round_could_not_change() {
        // It looked everywhere, and as far as the maps agree.
        let last = round(21, 21.3, Some((0.3, 0.3)));
        assert!(is_over(2, &[round(7, 21.5, None), last]));
        // Noise.
        let last = RoundResult {
            local: true,
            ..round(7, 9.9, Some((0.3, 0.3)))
        };
        let noise = [round(7, 9.9, None), last];
        assert!(is_over(2, &noise));
        assert_eq!(next_shell_max(64, 2, &noise), Some(7));
    }
}
