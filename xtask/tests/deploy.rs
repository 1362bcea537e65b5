//! The systemd units, checked by systemd itself where it is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

const UNITS: [&str; 2] = ["dewar-broker.service", "dewar-worker.service"];

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name)
}

fn unit(name: &str) -> String {
    let path = deploy(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What systemd thinks of a unit whose program is replaced by one that every machine has, so that it need not be
/// installed.
fn verify(name: &str, text: &str) -> (ExitStatus, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let program = format!("/usr/bin/{}", name.trim_end_matches(".service"));
    assert!(
        text.contains(&format!("\nExecStart={program}")),
        "{name} starts {program}"
    );
    fs::write(
        &path,
        text.replace(&format!("ExecStart={program}"), "ExecStart=/bin/true"),
    )
    .unwrap();
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&path)
        .output()
        .unwrap();
    (
        output.status,
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Whether there is a systemd to ask; says so if a test has to be skipped.
fn has_systemd(test: &str) -> bool {
    let has = Command::new("systemd-analyze").arg("--version").output();
    if has.is_err() {
        eprintln!("{test}: skipped, since there is no systemd-analyze");
    }
    has.is_ok()
}

/// Whether systemd thinks that a unit leaves no more open than the best that it calls OK: 2.0 of 10.
fn is_closed(name: &str, text: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    let judged = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20"])
        .arg(&path)
        .output()
        .unwrap();
    judged.status.success()
}

#[test]
fn systemd_rates_the_units_as_closed() {
    if !has_systemd("systemd_rates_the_units_as_closed") {
        return;
    }
    for name in UNITS {
        let text = unit(name);
        assert!(is_closed(name, &text), "{name} leaves too much open");
        let opened = text.replace("SystemCallFilter=@system-service", "");
        assert!(
            !is_closed(name, &opened),
            "{name}: the rating means nothing"
        );
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !has_systemd("systemd_finds_nothing_wrong_with_the_units") {
        return;
    }
    for name in UNITS {
        let (status, complaints) = verify(name, &unit(name));
        assert!(
            status.success() && complaints.is_empty(),
            "{name}: {complaints}"
        );
    }
    // A unit with a mistake is told from one without.
    let (_, complaints) = verify(
        UNITS[0],
        &unit(UNITS[0]).replace("Restart=on-failure", "Restrat=on-failure"),
    );
    assert!(complaints.contains("Restrat"), "{complaints}");
}

#[test]
fn the_units_close_what_the_daemons_do_not_need() {
    for name in UNITS {
        let text = unit(name);
        for line in [
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "Restart=on-failure",
            "Type=notify",
            "WatchdogSec=120",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{name} lacks {line}"
            );
        }
    }
    assert!(unit(UNITS[0]).contains("\nStateDirectory=dewar\n"));
    assert!(unit(UNITS[1]).contains("\nCacheDirectory=dewar\n"));
}

/// The accounts that the units run under are made by systemd-sysusers, and own the folders that systemd-tmpfiles makes.
#[test]
fn the_accounts_and_folders_of_the_units_are_made() {
    if !has_systemd("the_accounts_and_folders_of_the_units_are_made") {
        return;
    }
    for (role, account, folder) in [
        ("broker", "dewar", "/var/lib/dewar"),
        ("worker", "dewar-worker", "/var/cache/dewar"),
    ] {
        assert!(unit(&format!("dewar-{role}.service")).contains(&format!("\nUser={account}\n")));
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        for program in ["sysusers", "tmpfiles"] {
            let mut command = Command::new(format!("systemd-{program}"));
            if program == "tmpfiles" {
                command.arg("--create");
            }
            let made = command
                .arg(format!("--root={}", root.path().display()))
                .arg(deploy(&format!("{program}.d/dewar-{role}.conf")))
                .output()
                .unwrap();
            // Who is not root cannot give folders away; the accounts are told all the same.
            let complaints = String::from_utf8_lossy(&made.stderr);
            assert!(
                made.status.success() || complaints.contains("Operation not permitted"),
                "{program}.d/dewar-{role}.conf: {complaints}"
            );
        }
        let accounts = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
        let account = accounts
            .lines()
            .find(|line| line.starts_with(&format!("{account}:")));
        let account = account.unwrap_or_else(|| panic!("no account in {accounts}"));
        assert!(account.contains(folder), "{account}");
        assert!(account.ends_with("nologin"), "{account}");
        assert!(root.path().join(folder.trim_start_matches('/')).is_dir());
    }
}
