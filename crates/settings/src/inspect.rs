//! What each setting of a program is, and where it came from.
//!
//! `PROGRAM --settings`, as the first word, prints it as JSON: that is how `dewar config show` asks the daemons, whose flags
//! only they know. Further words count as flags.

use crate::file::{self, SettingsError};
use clap::{Arg, ArgMatches, Command, CommandFactory, parser::ValueSource};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::{OsStr, OsString},
    fs,
    path::PathBuf,
};

/// The first word that asks for it.
pub(crate) const ASKED_BY: &str = "--settings";

/// All settings of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspected {
    /// The program.
    pub program: String,
    /// Its settings file; none if there is none.
    pub file: Option<PathBuf>,
    /// Where it is looked for if none is named.
    pub usual_file: Option<PathBuf>,
    /// Flags that can be set beforehand, in order of their names.
    pub settings: Vec<Setting>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The flag's long name.
    pub name: String,
    /// What it is; none if it is not set and has no default that could be written down.
    pub value: Option<String>,
    /// What won.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub enum Origin {
    /// The command line.
    Flag,
    /// The environment.
    Environment {
        /// The variable.
        variable: String,
    },
    /// The settings file.
    File {
        /// The line, if it could be found.
        line: Option<usize>,
    },
    /// Nobody set it.
    Default,
}

/// Says what each setting of a program would be for a command line.
///
/// # Errors
/// If the settings file is wrong.
pub fn inspect<T: CommandFactory>(
    program: &str,
    arguments: &[OsString],
) -> Result<Inspected, SettingsError> {
    let command = file::with_config::<T>();
    let found = file::find(&command, arguments, program);
    let in_file = match &found {
        Some(file) => {
            // Its mistakes are named as they are at every start.
            file::with_file(command.clone(), file)?;
            let text = fs::read_to_string(file).unwrap_or_default();
            values_in(&command, &text)
        }
        None => BTreeMap::new(),
    };
    let matches = command.clone().ignore_errors(true);
    let matches = matches.try_get_matches_from(arguments).ok();
    let mut names = BTreeSet::new();
    let mut settings = Vec::new();
    for arg in arguments_of(&command) {
        let Some(name) = arg.get_long().filter(|name| *name != "config") else {
            continue;
        };
        let can_be_set = arg.get_env().is_some() || in_file.contains_key(name);
        if can_be_set && names.insert(name.to_owned()) {
            settings.push(setting(arg, name, matches.as_ref(), &in_file));
        }
    }
    settings.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Inspected {
        program: program.to_owned(),
        file: found,
        usual_file: crate::folders::config_file(program),
        settings,
    })
}

/// A value in the settings file, and its line.
type InFile = BTreeMap<String, (String, Option<usize>)>;

fn setting(arg: &Arg, name: &str, matches: Option<&ArgMatches>, in_file: &InFile) -> Setting {
    let variable = |variable: &str| Origin::Environment {
        variable: variable.to_owned(),
    };
    let of = |value: Option<String>, origin| Setting {
        name: name.to_owned(),
        value,
        origin,
    };
    if let Some(value) = matches.and_then(|matches| given(matches, arg.get_id().as_str())) {
        return of(Some(value), Origin::Flag);
    }
    if let Some((value, from)) = arg
        .get_env()
        .and_then(|from| Some((env::var_os(from)?, from)))
    {
        let value = value.to_string_lossy().into_owned();
        return of(Some(value), variable(&from.to_string_lossy()));
    }
    let is_set = |variable: &str| env::var_os(variable).filter(|value| !value.is_empty());
    if name == "token-file" && is_set("DEWAR_TOKEN").is_some() {
        return of(
            Some("(a token, not shown)".to_owned()),
            variable("DEWAR_TOKEN"),
        );
    }
    if let Some(filter) = is_set("RUST_LOG").filter(|_| name == "log") {
        let filter = filter.to_string_lossy().into_owned();
        return of(Some(filter), variable("RUST_LOG"));
    }
    if let Some((value, line)) = in_file.get(name) {
        return of(Some(value.clone()), Origin::File { line: *line });
    }
    let defaults = arg.get_default_values();
    let default =
        (!defaults.is_empty()).then(|| joined(defaults.iter().map(|value| value.as_os_str())));
    of(default, Origin::Default)
}

/// What stands on the command line, at whatever verb.
fn given(matches: &ArgMatches, id: &str) -> Option<String> {
    if let Some((_, below)) = matches.subcommand()
        && let Some(value) = given(below, id)
    {
        return Some(value);
    }
    let is_known = matches.ids().any(|known| known.as_str() == id);
    let is_given = is_known && matches.value_source(id) == Some(ValueSource::CommandLine);
    let values = is_given.then(|| matches.get_raw(id))?;
    // A switch has no words of its own.
    Some(values.map_or_else(|| "true".to_owned(), joined))
}

fn joined<'a>(values: impl Iterator<Item = &'a OsStr>) -> String {
    let values = values.map(|value| value.to_string_lossy().into_owned());
    values.collect::<Vec<_>>().join(", ")
}

fn arguments_of(command: &Command) -> Vec<&Arg> {
    let below = command.get_subcommands().flat_map(arguments_of);
    command.get_arguments().chain(below).collect()
}

fn values_in(command: &Command, text: &str) -> InFile {
    let table: toml::Table = toml::from_str(text).unwrap_or_default();
    let values = table.into_iter().filter_map(|(key, value)| {
        let (_, arg) = file::locate(command, &key)?;
        let values = file::values_for(arg, value).ok()?;
        let line = line_of(text, &key);
        Some((key, (values.join(", "), line)))
    });
    values.collect()
}

/// A key begins its line, in quotes or not.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let begins = |line: &str| {
        let line = line.trim_start();
        let quoted = [format!("\"{key}\""), format!("'{key}'"), key.to_owned()];
        let mut rests = quoted
            .iter()
            .filter_map(|key| line.strip_prefix(key.as_str()));
        rests.any(|rest| rest.trim_start().starts_with('='))
    };
    text.lines().position(begins).map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::io::Write as _;
    use tempfile::NamedTempFile;

    // PATH is set wherever tests run; the others nowhere.
    #[derive(Parser)]
    #[command(name = "example")]
    struct Example {
        #[arg(long, env = "DEWAR_TEST_INSPECT_SLOTS", default_value_t = 1)]
        slots: u16,
        #[arg(long, env = "PATH")]
        search: Option<String>,
        #[arg(long, env = "DEWAR_TEST_INSPECT_SITE")]
        site: Option<String>,
        #[arg(long, env = "DEWAR_TEST_INSPECT_SIZE", default_value = "50GiB")]
        size: String,
        #[arg(long, env = "DEWAR_TEST_INSPECT_INSECURE")]
        insecure: bool,
        #[arg(long)]
        once: bool,
    }

    #[test]
    fn each_setting_says_where_it_came_from() {
        let mut file = NamedTempFile::new().unwrap();
        writeln!(file, "# a comment\nslots = 8\n\n \"size\" = '1TB'").unwrap();
        let path = file.path().to_str().unwrap();
        let line = ["example", "--config", path, "--size", "2GiB", "--insecure"];
        let inspected = inspect::<Example>("example", &line.map(OsString::from)).unwrap();
        assert_eq!(inspected.file.as_deref(), Some(file.path()));
        let find = |name: &str| {
            let found = inspected
                .settings
                .iter()
                .find(|setting| setting.name == name);
            let found = found.unwrap_or_else(|| panic!("no {name} in {inspected:?}"));
            (found.value.clone(), found.origin.clone())
        };
        let some = |value: &str| Some(value.to_owned());
        assert_eq!(find("slots"), (some("8"), Origin::File { line: Some(2) }));
        assert_eq!(find("size"), (some("2GiB"), Origin::Flag));
        assert_eq!(find("insecure"), (some("true"), Origin::Flag));
        assert_eq!(find("site"), (None, Origin::Default));
        let variable = "PATH".to_owned();
        assert_eq!(find("search").1, Origin::Environment { variable });
        // Nobody sets it beforehand.
        assert!(
            inspected
                .settings
                .iter()
                .all(|setting| setting.name != "once")
        );

        let inspected = inspect::<Example>("example", &["example".into()]).unwrap();
        let size = &inspected.settings[3];
        assert_eq!(
            (size.name.as_str(), &size.origin),
            ("size", &Origin::Default)
        );
        assert_eq!(size.value.as_deref(), Some("50GiB"));
    }

    #[test]
    fn lines_are_found_by_their_keys() {
        let text = "slots-more = 1\n# slots = 3\nslots=2\n'a b' = 1";
        assert_eq!(line_of(text, "slots"), Some(3));
        assert_eq!(line_of(text, "a b"), Some(4));
        assert_eq!(line_of(text, "size"), None);
    }
}
