//! The map and the land: `docs/architecture.md` against the crates, and who may know whom against the manifests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a crate is built from; what only its tests need does not count.
#[derive(Debug, Clone)]
struct Manifest {
    /// Crates of ours, by folder. True if optional.
    ours: BTreeMap<String, bool>,
    /// Everybody else's.
    others: BTreeSet<String>,
    /// What its build script needs.
    build: BTreeSet<String>,
}

/// The manifests of `crates/*`, by folder.
fn manifests() -> BTreeMap<String, Manifest> {
    let folders = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let names = folders.map(|name| name.into_string().unwrap());
    names
        .map(|name| {
            (
                name.clone(),
                manifest(&read(format!("crates/{name}/Cargo.toml"))),
            )
        })
        .collect()
}

fn manifest(text: &str) -> Manifest {
    let manifest: toml::Table = toml::from_str(text).unwrap();
    let section = |name: &str| {
        manifest
            .get(name)
            .and_then(toml::Value::as_table)
            .cloned()
            .unwrap_or_default()
    };
    let mut found = Manifest {
        ours: BTreeMap::new(),
        others: BTreeSet::new(),
        build: section("build-dependencies").keys().cloned().collect(),
    };
    for (name, value) in section("dependencies") {
        let is_optional = value.get("optional").and_then(toml::Value::as_bool) == Some(true);
        match name.strip_prefix("dewar-") {
            Some(ours) => found.ours.insert(ours.to_owned(), is_optional).is_none(),
            None => found.others.insert(name),
        };
    }
    found
}

/// What the design forbids, as sentences: empty where it holds.
fn trespasses(manifests: &BTreeMap<String, Manifest>) -> Vec<String> {
    let mut found = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            found.push(what);
        }
    };
    for (name, manifest) in manifests {
        let knows = |other: &str| manifest.ours.contains_key(other);
        for other in manifest.ours.keys() {
            let is_island =
                ["queue", "compute", "formats", "task", "settings"].contains(&name.as_str());
            must(!is_island, format!("{name} knows {other}"));
            must(
                !["cli", "testkit", "proof"].contains(&other.as_str())
                    || (name == "proof" && other == "testkit"),
                format!("{name} knows {other}"),
            );
            let is_foreign = [
                "kernels", "compute", "formats", "refine", "sdk", "worker", "task",
            ]
            .contains(&other.as_str());
            must(
                name != "broker" || !is_foreign,
                format!("broker knows {other}"),
            );
            must(
                other != "queue" || ["broker", "proof"].contains(&name.as_str()),
                format!("{name} knows queue"),
            );
        }
        must(
            !(knows("broker") && knows("worker")) || ["embedded", "proof"].contains(&name.as_str()),
            format!("{name} knows both daemons"),
        );
        must(
            !["sdk", "worker", "kernels", "refine"].contains(&name.as_str()) || !knows("broker"),
            format!("{name} knows broker"),
        );
        must(
            name != "sdk" || !knows("worker"),
            "sdk knows worker".to_owned(),
        );
        must(
            name == "sdk" || !knows("embedded"),
            format!("{name} knows embedded"),
        );

        let uses = |other: &str| manifest.others.contains(other);
        must(
            name == "proto"
                || manifest.build.is_disjoint(
                    &["protox", "tonic-prost-build", "prost-build"]
                        .map(str::to_owned)
                        .into(),
                ),
            format!("{name} compiles protos"),
        );
        must(
            name == "broker" || !uses("sled"),
            format!("{name} knows sled"),
        );
        let is_pure = ["queue", "compute"].contains(&name.as_str());
        for outside in ["tokio", "tonic", "prost", "tracing", "rayon", "memmap2"] {
            must(
                !(is_pure && uses(outside)),
                format!("{name} uses {outside}"),
            );
        }
        let is_synchronous = ["formats", "kernels", "task"].contains(&name.as_str());
        must(
            !(is_synchronous && (uses("tokio") || uses("tonic"))),
            format!("{name} is async"),
        );
    }
    let embedded = manifests
        .get("sdk")
        .and_then(|sdk| sdk.ours.get("embedded"));
    must(
        embedded == Some(&true),
        "sdk builds a broker for every customer".to_owned(),
    );
    found
}

#[test]
fn the_map_lists_every_crate_and_no_other() {
    let map = read("docs/architecture.md");
    let listed: Vec<&str> = map
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    let as_set: BTreeSet<String> = listed.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(as_set, manifests().into_keys().collect());
    assert_eq!(listed.len(), as_set.len(), "a crate is listed twice");
}

#[test]
fn nobody_knows_whom_it_must_not() {
    assert_eq!(trespasses(&manifests()), [""; 0]);
}

#[test]
fn the_sdk_brings_no_broker_unless_asked() {
    let sdk: toml::Table = toml::from_str(&read("crates/sdk/Cargo.toml")).unwrap();
    let features = sdk["features"].as_table().unwrap();
    assert!(!features.contains_key("default"), "{features:?}");
    assert!(features.contains_key("embedded"), "{features:?}");
}

#[test]
fn trespasses_are_noticed() {
    for (name, other, expected) in [
        ("queue", "dewar-proto", "queue knows proto"),
        ("broker", "dewar-kernels", "broker knows kernels"),
        ("sdk", "dewar-broker", "sdk knows broker"),
        ("refine", "dewar-cli", "refine knows cli"),
        ("worker", "dewar-testkit", "worker knows testkit"),
        ("cli", "dewar-proof", "cli knows proof"),
        ("cli", "dewar-embedded", "cli knows embedded"),
        ("worker", "sled", "worker knows sled"),
        ("compute", "tokio", "compute uses tokio"),
    ] {
        let mut manifests = manifests();
        let text = read(format!("crates/{name}/Cargo.toml"));
        let text = text.replacen(
            "[dependencies]\n",
            &format!("[dependencies]\n{other} = \"1\"\n"),
            1,
        );
        manifests.insert(name.to_owned(), manifest(&text));
        let found = trespasses(&manifests);
        assert!(
            found.iter().any(|found| found == expected),
            "{expected}: {found:?}"
        );
    }
}

/// The queue's purity is more than its manifest: the standard library has clocks and disks too.
#[test]
fn the_pure_crates_touch_neither_clock_nor_disk() {
    for name in ["queue", "compute"] {
        for (path, text) in sources(&root().join("crates").join(name).join("src")) {
            // Tests may do what they like, and stand last in their file or in one of their own.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for word in [
                "std::time::Instant",
                "SystemTime",
                "Instant::now",
                "std::fs",
                "std::net",
                "std::thread",
                "std::env",
            ] {
                let is_test = path.ends_with("tests.rs")
                    || path.components().any(|part| part.as_os_str() == "tests");
                assert!(
                    is_test || !code.contains(word),
                    "{} uses {word}",
                    path.display()
                );
            }
        }
    }
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.clone(), fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(!found.is_empty(), "{} has no sources", folder.display());
    found
}
