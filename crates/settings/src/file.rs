//! The configuration file: its keys are the long names of flags, its values become their defaults.
//!
//! Feeding them to clap as defaults gives the order of precedence for nothing: a flag beats the environment, which
//! beats a default. Every value is checked, used or not, so that a mistake is found when it is made.

use crate::{folders, inspect, manual};
use clap::{
    Arg, ArgAction, Command, CommandFactory, FromArgMatches, builder::OsStr, error::ErrorKind,
};
use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

/// Why the settings of a program are not known.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The command line is wrong, or asks for help.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not TOML: {source}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What the parser met.
        source: toml::de::Error,
    },
    /// No flag has this name.
    #[error("{}: unknown key {key:?}; keys are the long names of flags, without the dashes", file.display())]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
    },
    /// The flag does not take this value.
    #[error("{}: key {key:?}: {problem}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Reads the settings of this process; on a mistake says so and exits with code 2.
///
/// `program` names the configuration file looked for when `--config` is not given: `dewar/PROGRAM.toml` in the
/// account's configuration folder.
///
/// A command line that begins with `--completions`, `--man` or `--settings` is answered from the definitions of the flags, and the
/// process exits.
pub fn parse<T: CommandFactory + FromArgMatches>(program: &str) -> T {
    let arguments: Vec<OsString> = env::args_os().collect();
    if let Some(written) = manual::write_if_asked(with_config::<T>(), &arguments) {
        match written {
            Ok(()) => std::process::exit(0),
            Err(error) => {
                eprintln!("error: {error}");
                std::process::exit(error.exit_code());
            }
        }
    }
    if arguments
        .get(1)
        .is_some_and(|word| word == inspect::ASKED_BY)
    {
        print_settings::<T>(program, arguments);
    }
    match try_parse_from(program, arguments) {
        Ok(settings) => settings,
        Err(SettingsError::CommandLine(error)) => error.exit(),
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(2);
        }
    }
}

/// What `--settings` is answered with: a document for machines.
fn print_settings<T: CommandFactory>(program: &str, mut arguments: Vec<OsString>) -> ! {
    arguments.remove(1);
    let code = match inspect::inspect::<T>(program, &arguments) {
        Ok(inspected) => {
            let text = serde_json::to_string(&inspected);
            println!("{}", text.expect("names and values are text"));
            0
        }
        Err(error) => {
            eprintln!("error: {error}");
            2
        }
    };
    std::process::exit(code)
}

/// [`parse`] of a given command line.
///
/// # Errors
/// If the command line or the file is wrong.
pub fn try_parse_from<T: CommandFactory + FromArgMatches>(
    program: &str,
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<T, SettingsError> {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let mut command = with_config::<T>();
    if let Some(file) = find(&command, &arguments, program) {
        command = with_file(command, &file)?;
    }
    if let Some(filter) = env::var_os("RUST_LOG").filter(|filter| !filter.is_empty()) {
        command = with_default(command, "log", vec![filter.into()]);
    }
    let mut matches = command.try_get_matches_from(&arguments)?;
    Ok(T::from_arg_matches_mut(&mut matches)?)
}

pub(crate) fn with_config<T: CommandFactory>() -> Command {
    T::command().arg(config_arg())
}

fn config_arg() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env("DEWAR_CONFIG")
        .global(true)
        .value_parser(clap::value_parser!(PathBuf))
        .help("TOML file with settings; its keys are the long names of flags")
}

/// The file that was named, or the one in its usual place if there is one.
pub(crate) fn find(command: &Command, arguments: &[OsString], program: &str) -> Option<PathBuf> {
    let named = command
        .clone()
        .ignore_errors(true)
        .try_get_matches_from(arguments)
        .ok()
        .and_then(|matches| matches.get_one::<PathBuf>("config").cloned());
    named.or_else(|| in_usual_place(program))
}

/// The file of a program, or the one under the name that earlier releases looked for.
fn in_usual_place(program: &str) -> Option<PathBuf> {
    let file = folders::config_file(program)?;
    let old = old_name(program).and_then(folders::config_file);
    let old = old.filter(|old| old.exists());
    match (file.exists(), old) {
        (true, None) => Some(file),
        (true, Some(old)) => {
            eprintln!(
                "warning: {} is not read, since {} is there; delete the former",
                old.display(),
                file.display()
            );
            Some(file)
        }
        (false, Some(old)) => {
            eprintln!(
                "warning: {} is read under its old name; rename it to {}",
                old.display(),
                file.display()
            );
            Some(old)
        }
        (false, None) => None,
    }
}

fn old_name(program: &str) -> Option<&'static str> {
    match program {
        "dewar-broker" => Some("broker"),
        _ => None,
    }
}

pub(crate) fn with_file(mut command: Command, file: &Path) -> Result<Command, SettingsError> {
    let text = fs::read_to_string(file).map_err(|source| SettingsError::Read {
        file: file.to_owned(),
        source,
    })?;
    let table: toml::Table = toml::from_str(&text).map_err(|source| SettingsError::Syntax {
        file: file.to_owned(),
        source,
    })?;
    for (key, value) in table {
        let (path, arg) = locate(&command, &key).ok_or_else(|| SettingsError::UnknownKey {
            file: file.to_owned(),
            key: key.clone(),
        })?;
        let values = values_for(arg, value)
            .and_then(|values| check(&command, &path, arg, &values).map(|()| values))
            .map_err(|problem| SettingsError::Value {
                file: file.to_owned(),
                key: key.clone(),
                problem,
            })?;
        // The environment beats the file, and DEWAR_TOKEN says the same as a token file.
        if key == "token-file" && env::var_os("DEWAR_TOKEN").is_some() {
            continue;
        }
        command = with_default(command, &key, values.into_iter().map(OsStr::from).collect());
    }
    Ok(command)
}

/// The first flag of this long name, and the subcommands that lead to it.
pub(crate) fn locate<'c>(command: &'c Command, key: &str) -> Option<(Vec<String>, &'c Arg)> {
    let own = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(key) && key != "config");
    if let Some(arg) = own {
        return Some((Vec::new(), arg));
    }
    command.get_subcommands().find_map(|subcommand| {
        let (mut path, arg) = locate(subcommand, key)?;
        path.insert(0, subcommand.get_name().to_owned());
        Some((path, arg))
    })
}

pub(crate) fn values_for(arg: &Arg, value: toml::Value) -> Result<Vec<String>, String> {
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse);
    let takes_many = matches!(arg.get_action(), ArgAction::Append);
    match value {
        toml::Value::Boolean(on) if is_switch => Ok(vec![on.to_string()]),
        _ if is_switch => Err("expected true or false".to_owned()),
        toml::Value::Array(items) if takes_many => items.into_iter().map(scalar).collect(),
        toml::Value::Array(_) => Err("expected one value, not a list".to_owned()),
        value => scalar(value).map(|value| vec![value]),
    }
}

fn scalar(value: toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(on) => Ok(on.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
            Err("expected a text or a number".to_owned())
        }
    }
}

/// Tries the values as if they stood on the command line, alone.
fn check(command: &Command, path: &[String], arg: &Arg, values: &[String]) -> Result<(), String> {
    if matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse) {
        return Ok(());
    }
    let flag = arg.get_long().unwrap_or_default();
    let trial = std::iter::once(command.get_name().to_owned())
        .chain(path.iter().cloned())
        .chain(values.iter().map(|value| format!("--{flag}={value}")));
    match command.clone().try_get_matches_from(trial) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::ValueValidation | ErrorKind::InvalidValue | ErrorKind::InvalidUtf8
            ) =>
        {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            Err(line.trim_start_matches("error: ").to_owned())
        }
        // Whatever else is missing or too much is for the real command line to answer.
        _ => Ok(()),
    }
}

/// Gives a flag another default, wherever it stands.
fn with_default(command: Command, key: &str, values: Vec<OsStr>) -> Command {
    let ids: Vec<_> = command
        .get_arguments()
        .filter(|arg| arg.get_long() == Some(key))
        .map(|arg| arg.get_id().clone())
        .collect();
    let command = ids.into_iter().fold(command, |command, id| {
        let values = values.clone();
        command.mut_arg(id, |arg| arg.required(false).default_values(values))
    });
    command.mut_subcommands(|subcommand| with_default(subcommand, key, values.clone()))
}

#[cfg(test)]
mod tests;
