//! `dewar config show`: settings of all three programs, and where each came from.

use crate::{
    dewar::{Ran, command, keys, ran},
    documented::documented,
};
use serde_json::Value;
use std::fs;

#[test]
fn settings_tell_where_they_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("dewar");
    fs::create_dir(&config).unwrap();
    fs::write(config.join("dewar-worker.toml"), "\nslots = 3\n").unwrap();
    // The name that the broker's had before.
    fs::write(config.join("broker.toml"), "comeback = '90s'\n").unwrap();
    dewar_testkit::Programs::beside_test().unwrap();
    let show = |words: &[&str]| -> Ran {
        let mut command = command();
        command
            .args(["config", "show"])
            .args(words)
            .env("XDG_CONFIG_HOME", folder.path())
            .env("DEWAR_CACHE_SIZE", "7GiB");
        ran(&mut command).ok()
    };
    let shown = show(&["--json", "--broker", "titan:9990"]);
    assert!(shown.stderr.contains("rename it to"), "{shown:?}");
    let shown = shown.json();
    let programs = shown["programs"].as_array().unwrap();
    let names: Vec<_> = programs.iter().map(|program| &program["program"]).collect();
    assert_eq!(names, ["dewar", "dewar-broker", "dewar-worker"]);
    let find = |program: usize, name: &str| {
        let settings = programs[program]["settings"].as_array().unwrap().iter();
        let mut found = settings.filter(|setting| setting["name"] == name);
        found.next().unwrap_or_else(|| panic!("no {name}")).clone()
    };
    let told = |setting: &Value| (setting["value"].clone(), setting["from"].clone());
    assert_eq!(
        told(&find(0, "broker")),
        ("titan:9990".into(), "flag".into())
    );
    assert_eq!(told(&find(1, "comeback")), ("90s".into(), "file".into()));
    let slots = find(2, "slots");
    assert_eq!(
        (told(&slots), &slots["line"]),
        (("3".into(), "file".into()), &2.into())
    );
    let size = find(2, "cache-size");
    assert_eq!(
        (told(&size), &size["variable"]),
        (
            ("7GiB".into(), "environment".into()),
            &"DEWAR_CACHE_SIZE".into()
        )
    );
    assert_eq!(told(&find(2, "nice")), ("10".into(), "default".into()));
    let always: Vec<_> = keys(&find(2, "nice"))
        .into_iter()
        .map(str::to_owned)
        .collect();
    assert_eq!(always, documented("## `dewar config show`"));

    fs::rename(config.join("broker.toml"), config.join("dewar-broker.toml")).unwrap();
    let text = show(&["--program", "dewar-broker"]);
    assert_eq!(text.stderr, "");
    assert!(
        text.stdout.contains("file, line 1") && text.stdout.contains("dewar-broker.toml"),
        "{text:?}"
    );
}
