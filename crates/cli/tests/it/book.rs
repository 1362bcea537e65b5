//! The book, held against the programs: its quick start is run, every command in it is taken apart by the real
//! definitions of flags, and its examples do what they say.
//!
//! A command stands in a `console` block after a prompt. `--help` at its end has everything before it checked, names and
//! values of flags alike, and nothing done.

use crate::dewar::{Ran, command, ran};
use dewar_embedded::{Embedded, Options};
use dewar_sdk::Client;
use dewar_task::Registry;
use dewar_testkit::{Guarded, Programs, wait_until};
use std::{
    env, fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

#[path = "../../../../docs/examples/squares.rs"]
mod squares;

/// Long enough for a worker built without optimization to try out its machine.
const PATIENCE: Duration = Duration::from_secs(60);

const PROGRAMS: [&str; 3] = ["dewar", "dewar-broker", "dewar-worker"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Everything people read, with its name.
fn pages() -> Vec<(String, String)> {
    let mut paths = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    for folder in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        paths.extend(entries.map(|entry| entry.unwrap().path()));
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths
        .into_iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// The command lines of a page: what follows a prompt (`$ ` or `host$ `) inside a fence, continued lines joined.
fn commands(page: &str) -> Vec<String> {
    let (mut found, mut is_inside, mut continued) = (Vec::new(), false, String::new());
    for line in page.lines().map(str::trim) {
        if line.starts_with("```") {
            is_inside = !is_inside;
            continue;
        }
        let said = match line.split_once("$ ") {
            Some((host, said)) if host.chars().all(char::is_alphanumeric) => said,
            _ if !continued.is_empty() => line,
            _ => continue,
        };
        if !is_inside {
            continue;
        }
        match said.strip_suffix('\\') {
            Some(said) => continued += said,
            None => found.push(std::mem::take(&mut continued) + said),
        }
    }
    found
}

/// What stands between backticks in a page's prose.
fn spans(page: &str) -> Vec<String> {
    let mut is_inside = false;
    let prose: Vec<&str> = page
        .lines()
        .filter(|line| {
            let is_fence = line.trim_start().starts_with("```");
            is_inside ^= is_fence;
            !is_inside && !is_fence
        })
        .collect();
    let prose = prose.join(" ");
    prose
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// A command's words up to a pipe or a redirection, if it is one of ours, or one of ours that Slurm wraps.
fn words_of_ours(line: &str) -> Option<Vec<&str>> {
    let wrapped = line.split_once("--wrap 'exec ");
    let line = wrapped.map_or(line, |(_, line)| line.trim_end_matches('\''));
    let words: Vec<&str> = line
        .split_whitespace()
        .take_while(|word| !["|", "&&", ">", "&"].contains(word))
        .collect();
    PROGRAMS.contains(words.first()?).then_some(words)
}

/// One of our programs, away from the settings of whoever runs the tests.
fn program(name: &str) -> Command {
    alone(Path::new(command().get_program()).with_file_name(name))
}

fn alone(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut alone = Command::new(program);
    for (variable, value) in command().get_envs() {
        match value {
            Some(value) => alone.env(variable, value),
            None => alone.env_remove(variable),
        };
    }
    alone
}

fn understand(words: &[&str]) -> Ran {
    let mut command = program(words[0]);
    // Where what the words ask for is written, if they do.
    let folder = tempfile::tempdir().unwrap();
    command.current_dir(folder.path());
    ran(command.args(&words[1..]).arg("--help"))
}

#[test]
fn every_command_in_the_book_is_understood() {
    Programs::beside_test().unwrap();
    let mut count = 0;
    for (page, text) in pages() {
        for line in commands(&text).into_iter().chain(spans(&text)) {
            let Some(words) = words_of_ours(&line) else {
                continue;
            };
            count += 1;
            let understood = understand(&words);
            assert_eq!(understood.code, Some(0), "{page}: {line}\n{understood:?}");
        }
    }
    assert!(count > 100, "only {count} commands were found");
}

#[test]
fn a_flag_that_is_none_is_noticed() {
    Programs::beside_test().unwrap();
    for line in [
        "dewar refine a.star --refrence b.mrc",
        "dewar tasks j7 --state lost",
        "dewar-broker --port 9990",
        "dewar-worker --slots none",
        "dewar melt",
    ] {
        let understood = understand(&words_of_ours(line).unwrap());
        assert_eq!(understood.code, Some(2), "{line}: {understood:?}");
    }
}

#[test]
fn commands_are_found_behind_prompts_and_over_lines() {
    let page =
        "$ not here\n```console\n$ dewar status | jq .\ntitan$ dewar \\\n  jobs\noutput $ 5\n```\n";
    let found = commands(page);
    assert_eq!(found, ["dewar status | jq .", "dewar jobs"]);
    assert_eq!(words_of_ours(&found[0]).unwrap(), ["dewar", "status"]);
    assert_eq!(words_of_ours("ssh node7 dewar"), None);
    assert_eq!(
        words_of_ours("sbatch --wrap 'exec dewar jobs'").unwrap(),
        ["dewar", "jobs"]
    );
    assert_eq!(
        spans("a `dewar jobs`,\n```\n`b`\n```\nand `dewar\ntop`"),
        ["dewar jobs", "dewar top"]
    );
}

/// Whoever follows the quick start, in a folder of his own, with nothing set but where the broker is.
struct Reader {
    daemons: Vec<Guarded>,
    folder: tempfile::TempDir,
    address: Option<String>,
}

impl Reader {
    fn follow(&mut self, line: &str) {
        let words = words_of_ours(line).unwrap();
        let mut command = program(words[0]);
        command
            .args(&words[1..])
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path());
        for variable in ["XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"] {
            command.env(variable, self.folder.path().join(variable));
        }
        if let Some(address) = &self.address {
            command.env("DEWAR_BROKER", address);
        }
        match words[0] {
            "dewar" => {
                let did = ran(&mut command);
                assert_eq!(did.code, Some(0), "{line}: {did:?}");
            }
            "dewar-broker" => self.start_broker(command),
            _ => self
                .daemons
                .push(Guarded::start(words[0], &mut command).unwrap()),
        }
    }

    /// The port is any free one, for other brokers may run here.
    fn start_broker(&mut self, mut command: Command) {
        let said = self.folder.path().join("broker.log");
        command
            .env("DEWAR_LISTEN", "127.0.0.1:0")
            .stdout(fs::File::create(&said).unwrap());
        self.daemons
            .push(Guarded::start("dewar-broker", &mut command).unwrap());
        wait_until("the broker listens", PATIENCE, || {
            let text = fs::read_to_string(&said)?;
            let address = text.split_once("listening on ");
            self.address = address.and_then(|(_, rest)| Some(rest.lines().next()?.to_owned()));
            Ok(self.address.is_some() && text.ends_with('\n'))
        })
        .unwrap();
    }
}

#[test]
fn the_quick_start_does_what_it_says() {
    Programs::beside_test().unwrap();
    let page = fs::read_to_string(root().join("docs/quick-start.md")).unwrap();
    let (on_one_machine, _) = page.split_once("## A second machine").unwrap();
    let mut reader = Reader {
        daemons: Vec::new(),
        folder: tempfile::tempdir().unwrap(),
        address: None,
    };
    for line in commands(on_one_machine) {
        let broker = reader.address.clone().unwrap_or_default();
        reader.follow(&line.replace("127.0.0.1:9990", &broker));
    }
    assert_eq!(
        reader.daemons.len(),
        2,
        "a broker and a worker were started"
    );
    let map = |name: &str| fs::read(reader.folder.path().join(name)).unwrap();
    assert!(
        map("refined/map.mrc") == map("refined-together/map.mrc"),
        "the two maps are the same bytes"
    );
    // In the order in which people would.
    while let Some(daemon) = reader.daemons.pop() {
        daemon.stop().unwrap();
    }
}

/// A folder of programs for a script: ours, a Slurm that starts a step here, and a machine that calls itself localhost.
fn stand_ins(folder: &Path) -> PathBuf {
    let bin = folder.join("bin");
    fs::create_dir(&bin).unwrap();
    for name in PROGRAMS {
        std::os::unix::fs::symlink(program(name).get_program(), bin.join(name)).unwrap();
    }
    for (name, does) in [("srun", "exec \"$@\""), ("hostname", "echo localhost")] {
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\n{does}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    bin
}

#[test]
fn the_script_for_a_cluster_where_all_is_in_the_queue_runs_and_ends() {
    Programs::beside_test().unwrap();
    let page = fs::read_to_string(root().join("docs/clusters.md")).unwrap();
    let (_, script) = page.split_once("```bash\n").unwrap();
    let (script, _) = script.split_once("```").unwrap();
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let script = script
        .replace("9990", &port.to_string())
        .replace("--slots 16", "--slots 2")
        .replace("--out refined", "--out refined --iterations 1");

    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let mut simulate = program("dewar");
    simulate.args([
        "simulate",
        "--out",
        ".",
        "--particles",
        "100",
        "--box",
        "32",
    ]);
    simulate.args(["--pixel-size", "8", "--snr", "1"]);
    assert_eq!(ran(simulate.current_dir(here)).code, Some(0));
    fs::rename(here.join("truth.mrc"), here.join("initial.mrc")).unwrap();
    let path = format!("{}:/usr/bin:/bin", stand_ins(here).display());
    // Slurm ends what a script leaves behind.
    let script = format!("trap 'kill $(jobs -p) || true' EXIT\n{script}");
    let mut bash = alone("bash");
    bash.args(["-c", &script])
        .current_dir(here)
        .env("PATH", path)
        .env("HOME", here)
        .env("XDG_CACHE_HOME", here)
        .env("TMPDIR", here)
        .env("SLURM_JOB_ID", "7");
    let did = ran(&mut bash);
    assert_eq!(did.code, Some(0), "{did:?}");
    assert!(here.join("refined/map.mrc").exists());
    assert!(
        !here.join("dewar-token-7").exists(),
        "the token's copy is gone"
    );
}

/// A broker and a worker that can square.
async fn able_to_square(folder: &Path) -> Embedded {
    let options = Options {
        data_dir: folder.to_owned(),
        slot_count: 2,
        exports: Vec::new(),
        kernels: Registry::default().with(squares::Square),
    };
    Embedded::start(options).await.unwrap()
}

#[tokio::test]
async fn the_example_of_the_sdk_squares() {
    let folder = tempfile::tempdir().unwrap();
    let lab = able_to_square(folder.path()).await;
    let client = Client::connect(lab.address(), lab.token().parse().unwrap());
    let client = client.await.unwrap();
    assert_eq!(
        squares::squares(&client, &[2, 3, 5]).await.unwrap(),
        [4, 9, 25]
    );
    let refused = squares::squares(&client, &[u32::MAX]).await.unwrap_err();
    assert!(
        refused.to_string().contains("too large to square"),
        "{refused}"
    );
    lab.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_python_squares() {
    let Some(python) = env::var_os("DEWAR_TEST_PYTHON") else {
        eprintln!(
            "the_example_in_python_squares: skipped, since DEWAR_TEST_PYTHON names no Python with grpcio-tools"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let lab = able_to_square(&folder.path().join("broker")).await;
    let token_file = folder.path().join("token");
    fs::write(&token_file, lab.token()).unwrap();
    let mut example = Command::new(python);
    example
        .arg(root().join("docs/examples/squares.py"))
        .arg(lab.address())
        .arg(&token_file)
        .arg(root().join("proto"))
        .args(["2", "3", "65536"]);
    let said = tokio::task::spawn_blocking(move || ran(&mut example)).await;
    let mut lines: Vec<String> = said
        .unwrap()
        .ok()
        .stdout
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "j1.0: 2 squared is 4",
            "j1.1: 3 squared is 9",
            "j1.2: 65536 is too large to square",
        ]
    );
    lab.stop();
}
