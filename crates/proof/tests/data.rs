//! `bench data`, small: a swarm behind a slow link, with and without trouble.

use anyhow::Result;
use dewar_proof::bench::{
    How,
    data::{Options, measure},
};

#[test]
fn a_small_swarm_gets_a_small_file_once_and_right() -> Result<()> {
    let report = measure(&Options {
        only: vec!["site".to_owned(), "trouble".to_owned()],
        workers: 3,
        how: How {
            scale: 0.08,
            json: false,
            dir: None,
        },
    })?;
    // How long it takes is the machine's doing; and whether anybody asks for the one chunk that is bad here, chance.
    let missed: Vec<_> = report
        .missed()
        .filter(|name| !name.contains("last one complete") && !name.contains("laid to it"))
        .collect();
    assert!(missed.is_empty(), "{missed:?}");
    Ok(())
}
