//! What a refinement moves: particles in its first round, and never again.

use crate::{
    dewar::{dewar, word},
    precache::Fleet,
};
use dewar_testkit::wait_until;
use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

const NODES: [(u8, &str); 2] = [(2, "node2"), (3, "node3")];

/// Files of cached chunks by name: which file it is, and how many bytes.
fn chunks(cache: &Path) -> BTreeMap<String, (u64, u64)> {
    let shelves = fs::read_dir(cache.join("chunks")).unwrap();
    let entries = shelves.flat_map(|shelf| fs::read_dir(shelf.unwrap().path()).unwrap());
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, (metadata.ino(), metadata.len()))
        })
        .collect()
}

/// Names of the chunks that the cache lists of blobs of a size.
fn chunks_of_size(cache: &Path, size_bytes: u64) -> Vec<String> {
    let lists = fs::read_dir(cache.join("lists")).unwrap();
    let paths = lists.map(|list| list.unwrap().path());
    let of_size = paths.filter(|path| word(path).ends_with(&format!("-{size_bytes}")));
    let digests: Vec<u8> = of_size.flat_map(|path| fs::read(path).unwrap()).collect();
    let hex = |digest: &[u8]| digest.iter().map(|byte| format!("{byte:02x}")).collect();
    digests.chunks_exact(32).map(hex).collect()
}

/// Bytes that the workers fetched since they came.
fn fetched_bytes(fleet: &Fleet) -> u64 {
    let fetched = NODES.iter().flat_map(|(_, name)| {
        let worker = fleet.worker(name);
        ["fetched_from_broker_bytes", "fetched_from_peers_bytes"]
            .map(|key| worker[key].as_u64().unwrap())
    });
    fetched.sum()
}

#[test]
fn the_second_round_moves_no_particle_data() {
    let mut fleet = Fleet::start();
    for (host, _) in NODES {
        fleet.add_worker(host, "cache", &[]);
    }
    let set = fleet.folder().join("export/set");
    let simulate = ["simulate", "--particles", "40", "--box", "32"];
    let more = ["--pixel-size", "8", "--snr", "1", "--out", word(&set)];
    dewar(simulate.into_iter().chain(more)).ok();
    let files = [set.join("particles.star"), set.join("truth.mrc")];
    let (out, cache) = (fleet.folder().join("refined"), fleet.folder().join("cache"));
    let refine = |rounds| {
        let words = ["refine", word(&files[0]), "--reference", word(&files[1])];
        let more = ["--out", word(&out), "--low-pass", "40"];
        let words: Vec<_> = words.into_iter().chain(more).collect();
        fleet
            .dewar(&[&words[..], &["--iterations", rounds]].concat())
            .ok();
    };
    let stack_bytes = fs::metadata(set.join("particles.mrcs")).unwrap().len();

    refine("1");
    let first = chunks(&cache);
    let first_bytes: u64 = first.values().map(|(_, bytes)| bytes).sum();
    let is_told = || Ok(fetched_bytes(&fleet) == first_bytes);
    wait_until("all that came is told", Duration::from_secs(20), is_told).unwrap();
    let stack = chunks_of_size(&cache, stack_bytes);
    assert!(!stack.is_empty() && stack.iter().all(|chunk| first.contains_key(chunk)));

    // It goes on with the second round.
    refine("2");
    let mut came = chunks(&cache);
    came.retain(|name, file| first.get(name) != Some(file));
    assert!(
        stack.iter().all(|chunk| !came.contains_key(chunk)),
        "{came:?}"
    );
    let came_bytes: u64 = came.values().map(|(_, bytes)| bytes).sum();
    assert!(came_bytes > 0, "there are new maps to align with");
    let is_told = || Ok(fetched_bytes(&fleet) == first_bytes + came_bytes);
    wait_until("nothing else came", Duration::from_secs(20), is_told).unwrap();
}
