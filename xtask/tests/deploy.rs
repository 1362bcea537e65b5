//! The systemd units, checked by systemd itself where it is installed.

use std::{
    fs,
    path::Path,
    process::{Command, ExitStatus},
};

const UNITS: [&str; 2] = ["dewar-broker.service", "dewar-worker.service"];

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name);
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
            "DynamicUser=yes",
            "Restart=on-failure",
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
