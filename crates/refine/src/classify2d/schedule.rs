//! When classes are no longer split, and when they no longer change.
//!
//! Junk, and views that two classes share, go to and fro for ever, so that no fixed part of the particles must stay: classes
//! have settled once no more particles come to rest from round to round, and no finer detail comes.

/// So many rounds in a row must bring nothing.
const ROUNDS_WITHOUT_GAIN: usize = 3;

/// Fewer changes are a gain if they are below this part of the fewest before.
const STILL_SETTLING: f64 = 0.9;

/// Changes of fewer particles than this part count as none.
const CHANGED_MIN: f64 = 0.005;

/// In so many last rounds no class is split: what it became must settle.
const ROUNDS_UNSPLIT: usize = 6;

/// What a finished round says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundResult {
    /// The last ring that the best class resolves.
    pub resolved_rings: usize,
    /// Part of the particles that are in another class or lie otherwise than before; none in the first round.
    pub changed: Option<f64>,
    /// Classes that were split after it.
    pub split_count: usize,
}

/// Whether classes that have become empty take part of large ones after the last of these rounds: until splitting once brought
/// nothing more.
pub fn may_split(rounds: &[RoundResult], iterations_max: usize) -> bool {
    let ever_settled = (1..=rounds.len()).any(|count| has_settled(&rounds[..count]));
    !ever_settled && rounds.len() + ROUNDS_UNSPLIT <= iterations_max
}

/// Whether no more rounds are needed: nothing changed for a while, and no class was split meanwhile.
pub fn has_converged(rounds: &[RoundResult]) -> bool {
    let last_split = rounds.iter().rposition(|round| round.split_count > 0);
    // The round after a split starts from classes that nobody settled in.
    let since = last_split.map_or(0, |at| at + 1).min(rounds.len());
    has_settled(&rounds[since..])
}

fn has_settled(rounds: &[RoundResult]) -> bool {
    let Some(before) = rounds
        .len()
        .checked_sub(ROUNDS_WITHOUT_GAIN)
        .filter(|before| *before > 0)
    else {
        return false;
    };
    let (before, last) = rounds.split_at(before);
    let finest = |rounds: &[RoundResult]| rounds.iter().map(|round| round.resolved_rings).max();
    let fewest = |rounds: &[RoundResult]| {
        let changed = rounds.iter().filter_map(|round| round.changed);
        changed.fold(f64::INFINITY, f64::min)
    };
    let changes_still_fall =
        fewest(last) >= CHANGED_MIN && fewest(last) < STILL_SETTLING * fewest(before);
    finest(last) <= finest(before) && !changes_still_fall
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds that resolve so many rings, change so many particles, and after which so many classes were split.
    fn rounds(of: &[(usize, f64, usize)]) -> Vec<RoundResult> {
        let round =
            |(at, (resolved_rings, changed, split_count)): (usize, &(usize, f64, usize))| {
                RoundResult {
                    resolved_rings: *resolved_rings,
                    changed: (at > 0).then_some(*changed),
                    split_count: *split_count,
                }
            };
        of.iter().enumerate().map(round).collect()
    }

    #[test]
    fn ends_once_nothing_comes_to_rest_and_nothing_finer_comes() {
        let converged = |of: &[(usize, f64, usize)]| has_converged(&rounds(of));
        assert!(!converged(&[]));
        assert!(!converged(&[(5, 0.0, 0), (5, 0.0, 0), (5, 0.0, 0)]));
        let settling = [(5, 0.0, 0), (8, 0.5, 0), (9, 0.3, 0), (9, 0.2, 0)];
        assert!(!converged(&settling));
        // Junk never rests.
        let at_rest = [&settling[..], &[(9, 0.19, 0), (9, 0.21, 0), (8, 0.2, 0)]].concat();
        assert!(converged(&at_rest));
        // Finer detail.
        let finer = [&settling[..], &[(9, 0.19, 0), (10, 0.21, 0), (8, 0.2, 0)]].concat();
        assert!(!converged(&finer));
        // Hardly a particle moves, and ever fewer.
        let still = [
            &settling[..],
            &[(9, 0.004, 0), (9, 0.002, 0), (9, 0.001, 0)],
        ]
        .concat();
        assert!(converged(&still));
    }

    #[test]
    fn classes_that_were_split_are_given_time() {
        let mut of = rounds(&[(9, 0.2, 1); 8]);
        assert!(may_split(&of[..4], 25) && !may_split(&of[..5], 25));
        assert!(!may_split(&of[..3], 8), "too late to settle");
        assert!(!has_converged(&of));
        for (at, round) in of.iter_mut().enumerate() {
            round.split_count = usize::from(at < 4);
        }
        assert!(has_converged(&of) && !has_converged(&of[..7]));
        assert!(!may_split(&of, 25), "split again");
    }
}
