//! What the daemon tells systemd: that it is ready for work, and that it still decides, also while its broker is away.

use dewar_testkit::{Guarded, NotifySocket};
use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

/// Long enough for a worker built without optimization to try out its machine.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn systemd_hears_that_the_session_decides_without_a_broker_too() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    fs::write(&token_file, "me.0123456789abcdef0123456789abcdef").unwrap();
    let systemd = NotifySocket::bind().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dewar-worker"));
    command
        // Nobody can listen on port 0.
        .args(["--broker", "127.0.0.1:0", "--slots", "1", "--cache-dir"])
        .arg(folder.path().join("cache"))
        .arg("--token-file")
        .arg(&token_file)
        .env("NOTIFY_SOCKET", systemd.path())
        .env("WATCHDOG_USEC", "100000")
        .env_remove("WATCHDOG_PID")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let daemon = Guarded::start("dewar-worker", &mut command).unwrap();
    assert_eq!(systemd.hear(LIMIT).unwrap(), "READY=1");
    for _ in 0..3 {
        assert_eq!(systemd.hear(LIMIT).unwrap(), "WATCHDOG=1");
    }
    daemon.stop().unwrap();
}
