//! Hours of faults in virtual time: promises hold, and a seed is a history.

use anyhow::Result;
use dewar_proof::sim::{Options, Story, simulate};

fn story(seed: u64, hours: f64) -> Result<Story> {
    simulate(&Options {
        seed,
        hours,
        trace: false,
    })
}

#[test]
fn an_hour_of_faults_breaks_no_promise() -> Result<()> {
    for seed in 1..=4 {
        let counts = story(seed, 1.0)?.counts;
        assert!(counts.outcomes > 500, "seed {seed}: {counts}");
        assert!(counts.broker_deaths > 2, "seed {seed}: {counts}");
        assert!(counts.worker_deaths > 2, "seed {seed}: {counts}");
        assert!(counts.cuts > 20, "seed {seed}: {counts}");
        assert!(counts.cancels > 2, "seed {seed}: {counts}");
        assert!(counts.reruns > 2, "seed {seed}: {counts}");
        assert!(counts.reused > 10, "seed {seed}: {counts}");
        assert!(counts.walks_away > 2, "seed {seed}: {counts}");
    }
    Ok(())
}

#[test]
fn the_same_seed_gives_the_same_history_and_another_seed_another() -> Result<()> {
    let first = story(7, 1.0)?;
    assert_eq!(first, story(7, 1.0)?);
    assert_ne!(first.digest, story(8, 1.0)?.digest);
    Ok(())
}
