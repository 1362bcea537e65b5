//! A short reign of chaos, and a broker killed many times: nothing accepted is lost.

use anyhow::Result;
use dewar_proof::chaos::{Options, run};

/// Printed, and enough to strike the same way again.
const SEED: u64 = 3;

#[test]
fn a_minute_of_chaos_costs_no_task_and_no_byte() -> Result<()> {
    run(&Options {
        minutes: 0.75,
        seed: Some(SEED),
        no_refinement: false,
        kills: None,
    })
}

#[test]
fn what_was_acknowledged_survives_two_hundred_deaths_of_the_broker() -> Result<()> {
    run(&Options {
        minutes: 0.0,
        seed: Some(SEED),
        no_refinement: true,
        kills: Some(200),
    })
}
