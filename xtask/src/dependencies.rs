//! What Dewar is built from, held against `deny.toml` by cargo-deny.
//!
//! Licences, bans and sources are told from the manifests alone. Known weaknesses come from a list on the network: without
//! a network the list of last time serves, and without that nothing is said of them, aloud.

use crate::{root, test_tools::TestTools};
use anyhow::{Result, bail};
use std::process::{Command, Output};

/// Fails on a finding; never for want of a network.
pub fn check(tools: &TestTools) -> Result<()> {
    eprintln!("\n==> cargo deny check");
    let deny = || {
        let mut command = Command::new(tools.program("cargo-deny"));
        command.current_dir(root());
        command
    };
    dewar_testkit::run(deny().args(["check", "bans", "licenses", "sources"]))?;

    let fetched = deny().args(["fetch", "db"]).output()?;
    let is_fresh = fetched.status.success();
    if !is_fresh {
        eprintln!(
            "warning: the list of known weaknesses could not be fetched: {}",
            first_line(&fetched)
        );
    }
    // The list is at hand or is not: a network that fails from here on is not taken for a finding.
    let checked = deny().args(["--offline", "check", "advisories"]).output()?;
    match judge(&checked) {
        Checked::Clean if is_fresh => eprintln!("advisories ok"),
        Checked::Clean => eprintln!("advisories ok, by the list of last time"),
        Checked::NoList if !is_fresh => {
            eprintln!(
                "warning: advisories NOT CHECKED: there is no list of an earlier time either"
            );
        }
        Checked::NoList | Checked::Finding => {
            bail!("cargo deny: {}", String::from_utf8_lossy(&checked.stderr))
        }
    }
    Ok(())
}

/// What came of a check for known weaknesses.
#[derive(Debug, PartialEq, Eq)]
enum Checked {
    Clean,
    Finding,
    NoList,
}

/// A check that came to its end closes with a line of its own; one without a list says that it failed, and no more.
fn judge(checked: &Output) -> Checked {
    let said = [&checked.stdout[..], &checked.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    match checked.status.success() {
        true => Checked::Clean,
        false if said.contains("advisories FAILED") => Checked::Finding,
        false => Checked::NoList,
    }
}

fn first_line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

    #[test]
    fn a_finding_is_told_from_a_missing_list() {
        let check = |code: i32, stdout: &str, stderr: &str, expect| {
            let output = Output {
                status: ExitStatus::from_raw(code << 8),
                stdout: stdout.into(),
                stderr: stderr.into(),
            };
            assert_eq!(judge(&output), expect, "{stdout}{stderr}");
        };
        check(0, "advisories ok\n", "", Checked::Clean);
        check(
            1,
            "",
            "error[vulnerability]\n\nadvisories FAILED\n",
            Checked::Finding,
        );
        check(1, "advisories FAILED\n", "", Checked::Finding);
        check(
            1,
            "",
            "[ERROR] failed to get 'FETCH_HEAD' metadata",
            Checked::NoList,
        );
    }
}
