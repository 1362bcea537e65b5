//! `dewar config`: the settings of all three programs, and where each came from.

use super::Arguments;
use crate::{
    failure::Failure,
    output,
    table::{Column, Table},
};
use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use dewar_settings::ConnectArgs;
use serde_json::{Value, json};
use std::{env, io, path::PathBuf, process::Command};

/// Shows settings, and where each came from.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar config show\n  dewar config show --program dewar-worker\n  \
    dewar config show --json | jq '.programs[].settings[] | select(.from != \"default\")'\n\n\
    A flag beats the environment, which beats the settings file, which beats the default. What is shown holds for this account and this \
    shell: a service has an environment of its own. The files are dewar.toml, dewar-broker.toml and dewar-worker.toml in \
    ~/.config/dewar, or what --config names; their keys are the long names of flags.\n\
    JSON keys: programs; of each program, file (the settings file; null if there is none), usual_file (where it is looked for), settings; \
    of each name, value (null: not set), from (flag, environment, file or default), variable (of the environment), line (in the file; null \
    if it could not be found)"
)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Each setting, its value, and where it came from.
    #[command(
        after_help = "Examples:\n  dewar config show\n  dewar config show --program dewar-worker --json"
    )]
    Show(Show),
}

#[derive(Args)]
struct Show {
    /// Only this program's [default: all three].
    #[arg(long, value_name = "PROGRAM")]
    program: Option<Program>,
    // Not asked here: a flag that is given is shown as what wins.
    #[command(flatten)]
    _connect: ConnectArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Program {
    Dewar,
    DewarBroker,
    DewarWorker,
}

/// Runs the verb.
pub fn run(
    Options {
        what: What::Show(show),
    }: &Options,
) -> Result<(), Failure> {
    let programs = match show.program {
        Some(program) => vec![program],
        None => vec![Program::Dewar, Program::DewarBroker, Program::DewarWorker],
    };
    let mut inspected = Vec::new();
    for program in programs {
        match program.inspect()? {
            Some(settings) => inspected.push(settings),
            None if show.program.is_some() => {
                let error = anyhow!(
                    "{} is not installed beside dewar, nor on the PATH",
                    program.name()
                );
                return Err(Failure::input(error).try_next("ask on the machine where it runs"));
            }
            None => eprintln!("{} is not installed here", program.name()),
        }
    }
    if show.json {
        return output::print_json(&json!({ "programs": inspected }));
    }
    let pages: Vec<String> = inspected.iter().map(to_text).collect();
    output::print(&pages.join("\n"))
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Dewar => "dewar",
            Self::DewarBroker => "dewar-broker",
            Self::DewarWorker => "dewar-worker",
        }
    }

    /// Its settings as it tells them; none if it is not here.
    fn inspect(self) -> Result<Option<Value>, Failure> {
        if self == Self::Dewar {
            let arguments: Vec<_> = env::args_os().collect();
            let settings = dewar_settings::inspect::<Arguments>(self.name(), &arguments);
            let settings = settings.map_err(Failure::input)?;
            return serde_json::to_value(settings)
                .map(Some)
                .map_err(Failure::work);
        }
        let asked = Command::new(self.place()).arg("--settings").output();
        let output = match asked {
            Ok(output) => output,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let error = anyhow!(error).context(format!("cannot run {}", self.name()));
                return Err(Failure::work(error));
            }
        };
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            let said = said.trim().trim_start_matches("error: ").to_owned();
            return Err(Failure::input(anyhow!("{}: {said}", self.name())));
        }
        said.lines().for_each(|line| eprintln!("{line}"));
        serde_json::from_slice(&output.stdout)
            .with_context(|| {
                format!(
                    "what {} says of its settings is not understood; install the same release",
                    self.name()
                )
            })
            .map(Some)
            .map_err(Failure::work)
    }

    /// Beside this program, as they are installed; else where the shell finds it.
    fn place(self) -> PathBuf {
        let beside = env::current_exe().ok();
        let beside = beside.map(|dewar| dewar.with_file_name(self.name()));
        beside
            .filter(|place| place.exists())
            .unwrap_or_else(|| PathBuf::from(self.name()))
    }
}

fn to_text(inspected: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let file = match (&inspected["file"], &inspected["usual_file"]) {
        (Value::String(file), _) => format!("settings file {file}"),
        (_, Value::String(usual)) => format!("no settings file; {usual} would be read"),
        _ => "no settings file".to_owned(),
    };
    let mut table = Table::new(&[
        Column::Text("SETTING"),
        Column::Text("VALUE"),
        Column::Text("FROM"),
    ]);
    for setting in inspected["settings"].as_array().into_iter().flatten() {
        let value = match &setting["value"] {
            Value::String(value) => value.clone(),
            _ => "-".to_owned(),
        };
        let from = match (setting["from"].as_str(), &setting["line"]) {
            (Some("environment"), _) => format!("environment, {}", text(&setting["variable"])),
            (Some("file"), Value::Number(line)) => format!("file, line {line}"),
            (from, _) => from.unwrap_or_default().to_owned(),
        };
        table.add(&[text(&setting["name"]), value, from]);
    }
    let heading = format!("{}: {file}", text(&inspected["program"]));
    format!("{}\n{}", output::printable(&heading), table.render())
}
