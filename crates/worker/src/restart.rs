//! A worker process that begins anew, which rids it of a kernel that does not stop.

use std::{env, ffi::OsStr, io, os::unix::process::CommandExt as _, process::Command};
use uuid::Uuid;

/// Tells the new program whose results and whose id are its own. Set by [`begin_anew`] alone.
const IDENTITY: &str = "DEWAR_WORKER_IDENTITY";

/// This process's program. Its file may have been replaced or removed since, when its name leads nowhere.
const MYSELF: &str = "/proc/self/exe";

/// Puts this program, with the same arguments, in the place of this process. The worker keeps its id, so that the broker
/// knows it again at once. Comes back only if that fails.
pub fn begin_anew(worker_id: Uuid) -> io::Error {
    let name = env::args_os().next().unwrap_or_else(|| MYSELF.into());
    let begin = |program: &OsStr| {
        let mut command = Command::new(program);
        command
            .arg0(&name)
            .args(env::args_os().skip(1))
            .env(IDENTITY, worker_id.to_string());
        command.exec()
    };
    let error = begin(OsStr::new(MYSELF));
    tracing::warn!(%error, "the program of this process cannot be run again; trying its name");
    begin(&name)
}

/// Who this process was before it began anew.
pub(crate) fn identity() -> Option<Uuid> {
    Uuid::try_parse(&env::var(IDENTITY).ok()?).ok()
}
