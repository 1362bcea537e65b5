use super::*;
use clap::{Parser, Subcommand};
use std::io::Write as _;
use tempfile::NamedTempFile;

// No variable of these names is set where tests run, and tests must not set any: other tests read them meanwhile.
// PATH is the exception: it is always set.
#[derive(Debug, Parser, PartialEq)]
#[command(name = "example")]
struct Example {
    #[arg(long, default_value_t = 1)]
    slots: u16,
    #[arg(long, env = "PATH", default_value = "nowhere")]
    search: String,
    #[arg(long)]
    export: Vec<String>,
    #[arg(long)]
    insecure: bool,
    #[arg(long)]
    data_dir: PathBuf,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand, PartialEq)]
enum Verb {
    Refine {
        #[arg(long, default_value_t = 5)]
        iterations: u32,
    },
}

fn parse_with(text: &str, arguments: &[&str]) -> Result<Example, String> {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    let line = ["example", "--config", path];
    try_parse_from("example", line.iter().chain(arguments))
        .map_err(|error| error.to_string().replace(path, "FILE"))
}

#[test]
fn the_file_gives_defaults() {
    let example = parse_with(
        "slots = 8\nexport = ['/a', '/b']\ninsecure = true\ndata-dir = '/data'\niterations = 7",
        &["refine"],
    );
    let expected = Example {
        slots: 8,
        search: env::var("PATH").unwrap(),
        export: vec!["/a".to_owned(), "/b".to_owned()],
        insecure: true,
        data_dir: "/data".into(),
        verb: Some(Verb::Refine { iterations: 7 }),
    };
    assert_eq!(example, Ok(expected));
}

#[test]
fn flags_beat_environment_beats_file() {
    let file = "slots = 8\nsearch = 'file'\nexport = '/a'\ndata-dir = '/data'";
    let example = parse_with(file, &["--slots", "3", "--export", "/c"]).unwrap();
    assert_eq!(example.slots, 3);
    assert_eq!(example.export, ["/c"]);
    assert_eq!(example.search, env::var("PATH").unwrap());
    let example = parse_with(file, &["--search", "flag"]).unwrap();
    assert_eq!(example.search, "flag");
}

#[test]
fn mistakes_name_file_and_key() {
    for (text, expected) in [
        ("slot = 8", "FILE: unknown key \"slot\""),
        ("config = 'x'", "FILE: unknown key \"config\""),
        (
            "slots = 'many'",
            "FILE: key \"slots\": invalid value 'many'",
        ),
        ("slots = -1", "FILE: key \"slots\": invalid value '-1'"),
        ("slots = [1, 2]", "FILE: key \"slots\": expected one value"),
        (
            "insecure = 'yes'",
            "FILE: key \"insecure\": expected true or false",
        ),
        (
            "data-dir = 1979-05-27",
            "FILE: key \"data-dir\": expected a text",
        ),
        (
            "iterations = 'x'",
            "FILE: key \"iterations\": invalid value 'x'",
        ),
        ("slots = ", "FILE is not TOML"),
    ] {
        // A flag on the command line does not hide the mistake.
        let error = parse_with(text, &["--slots", "2", "--data-dir", "d"]).unwrap_err();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn a_named_file_must_be_there() {
    let line = [
        "example",
        "--config=/nonexistent/file.toml",
        "--data-dir",
        "d",
    ];
    let error = try_parse_from::<Example>("example", line).unwrap_err();
    assert!(matches!(error, SettingsError::Read { .. }), "{error}");
}

#[test]
fn what_a_flag_requires_is_still_required() {
    let error = parse_with("slots = 2", &[]).unwrap_err();
    assert!(error.contains("--data-dir"), "{error}");
}
