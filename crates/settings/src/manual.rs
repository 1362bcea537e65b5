//! What else is made of the definitions of flags: completions for shells, and pages of the manual.
//!
//! `PROGRAM --completions SHELL` prints the former, `PROGRAM --man DIR` writes the latter. They are for whoever installs
//! a program, count only as its first word, and are not among the flags that `--help` lists.

use clap::Command;
use clap_complete::Shell;
use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::Path,
};

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManualError {
    /// No such shell.
    #[error("--completions takes bash, zsh, fish, elvish or powershell")]
    Shell,
    /// No folder was named.
    #[error("--man takes a folder")]
    Folder,
    /// The file system said no.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

impl ManualError {
    /// As everywhere: 1 the work failed, 2 the command line was wrong.
    pub(crate) fn exit_code(&self) -> i32 {
        match self {
            Self::Write(_) => 1,
            Self::Shell | Self::Folder => 2,
        }
    }
}

/// Writes what the first word asks for; nothing if it asks for something else.
pub(crate) fn write_if_asked(
    mut command: Command,
    arguments: &[OsString],
) -> Option<Result<(), ManualError>> {
    let object = arguments.get(2);
    match arguments.get(1)?.to_str()? {
        "--completions" => {
            let shell = object.and_then(|shell| shell.to_str()?.parse().ok());
            Some(shell.ok_or(ManualError::Shell).and_then(|shell| {
                io::stdout().write_all(&completions(&mut command, shell))?;
                Ok(())
            }))
        }
        "--man" => Some(match object {
            Some(folder) => pages(command, Path::new(folder)),
            None => Err(ManualError::Folder),
        }),
        _ => None,
    }
}

/// Gathered first: a reader that leaves early is an error of writing, and no panic of the generator.
fn completions(command: &mut Command, shell: Shell) -> Vec<u8> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, command, name, &mut script);
    script
}

/// A page for the program, and one for each of its verbs.
fn pages(command: Command, folder: &Path) -> Result<(), ManualError> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn program() -> Command {
        let status = Command::new("status").arg(Arg::new("json").long("json"));
        Command::new("test").subcommand(status)
    }

    fn asked(words: &[&str]) -> Option<Result<(), ManualError>> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        write_if_asked(program(), &words)
    }

    #[test]
    fn completions_know_verbs_and_flags() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(completions(&mut program(), shell)).unwrap();
            assert!(
                script.contains("status") && script.contains("json"),
                "{script}"
            );
        }
    }

    #[test]
    fn each_verb_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let man = folder.path().join("man1");
        asked(&["test", "--man", man.to_str().unwrap()])
            .unwrap()
            .unwrap();
        let page = std::fs::read_to_string(man.join("test-status.1")).unwrap();
        assert!(page.contains("json"), "{page}");
        assert!(man.join("test.1").exists());
    }

    #[test]
    fn only_the_first_word_asks() {
        assert!(asked(&["test"]).is_none());
        assert!(asked(&["test", "status", "--man"]).is_none());
        assert_eq!(
            asked(&["test", "--man"]).unwrap().unwrap_err().exit_code(),
            2
        );
        let no_shell = asked(&["test", "--completions", "dos"]).unwrap();
        assert_eq!(no_shell.unwrap_err().exit_code(), 2);
    }
}
