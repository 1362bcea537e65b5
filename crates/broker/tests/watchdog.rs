//! What the daemon tells systemd: that it serves, that it still answers, that it stops.

use dewar_testkit::{Guarded, NotifySocket, Signal};
use std::{
    process::{Command, Stdio},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn systemd_hears_that_the_engine_answers_until_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let systemd = NotifySocket::bind().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dewar-broker"));
    command
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path().join("data"))
        .env("NOTIFY_SOCKET", systemd.path())
        .env("WATCHDOG_USEC", "100000")
        .env_remove("WATCHDOG_PID")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let daemon = Guarded::start("dewar-broker", &mut command).unwrap();
    assert_eq!(systemd.hear(LIMIT).unwrap(), "READY=1");
    for _ in 0..3 {
        assert_eq!(systemd.hear(LIMIT).unwrap(), "WATCHDOG=1");
    }
    daemon.signal(Signal::TERM).unwrap();
    // Some beats may have been on their way.
    while systemd.hear(LIMIT).unwrap() != "STOPPING=1" {}
}
