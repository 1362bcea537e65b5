//! A worker process that begins anew, which rids it of a kernel that does not stop.

use std::{env, io, os::unix::process::CommandExt as _, process::Command};
use uuid::Uuid;

/// Tells the new program whose results and whose id are its own. Set by [`begin_anew`] alone.
const IDENTITY: &str = "DEWAR_WORKER_IDENTITY";

/// Puts this program, with the same arguments, in the place of this process. The worker keeps its id, so that the broker
/// knows it again at once. Comes back only if that fails.
pub fn begin_anew(worker_id: Uuid) -> io::Error {
    let program = match env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut command = Command::new(program);
    command
        .args(env::args_os().skip(1))
        .env(IDENTITY, worker_id.to_string());
    command.exec()
}

/// Who this process was before it began anew.
pub(crate) fn identity() -> Option<Uuid> {
    Uuid::try_parse(&env::var(IDENTITY).ok()?).ok()
}
