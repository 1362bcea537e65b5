//! Classes that have become empty go on from halves of the largest.

use super::tasks::RoundOutput;
use dewar_compute::search::{ClassAverage, ClassGrid};

/// A class with less than this part of the mean population is empty.
const EMPTY: f64 = 0.02;

/// Gives classes that have become empty a part in the largest ones: each of the two goes on from the particles of every
/// other block. Where a class holds two views, the halves drift apart; where it holds one, it is shown twice. Gives how many
/// were split.
pub(super) fn split(
    grid: &ClassGrid,
    output: &RoundOutput,
    tau_factor: f64,
    averages: &mut [ClassAverage],
) -> usize {
    let mut count = 0;
    for (empty, large) in splits(&output.class_weights) {
        let [even, odd] = output
            .halves
            .each_ref()
            .map(|half| half.average(grid, large, tau_factor));
        let has_signal = |half: &ClassAverage| half.samples.iter().any(|value| value.re != 0.0);
        // Few particles are one block.
        if has_signal(&even) && has_signal(&odd) {
            (averages[large], averages[empty]) = (even, odd);
            count += 1;
        }
    }
    count
}

/// Which empty class takes part of which large one: the largest first, none twice, and none that is smaller than the mean.
fn splits(weights: &[f64]) -> Vec<(usize, usize)> {
    let average = weights.iter().sum::<f64>() / weights.len().max(1) as f64;
    let mut large: Vec<usize> = (0..weights.len())
        .filter(|class| weights[*class] > average)
        .collect();
    large.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]));
    let empty = (0..weights.len()).filter(|class| weights[*class] < EMPTY * average);
    empty.zip(large).collect()
}

#[cfg(test)]
mod tests {
    use super::splits;

    #[test]
    fn empty_classes_take_from_the_largest_and_no_class_gives_twice() {
        assert_eq!(splits(&[100.0, 0.0, 300.0, 1.0]), [(1, 2)]);
        assert_eq!(splits(&[250.0, 0.0, 350.0, 0.0, 0.0]), [(1, 2), (3, 0)]);
        assert_eq!(splits(&[100.0, 90.0, 110.0]), []);
        assert_eq!(splits(&[]), []);
    }
}
