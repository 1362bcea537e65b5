//! A question before something that cannot be taken back.

use crate::failure::Failure;
use anyhow::anyhow;
use std::io::{self, IsTerminal as _, Write as _};

/// Asks on the terminal whether to go on. Where nobody can answer, a script has decided already.
///
/// # Errors
/// If the answer is no.
pub fn confirm(question: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Ok(());
    }
    eprint!("{question} [y/N] ");
    // Without an answer there is no consent.
    let _ = io::stderr().flush();
    let mut answer = String::new();
    let is_yes = io::stdin().read_line(&mut answer).is_ok()
        && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if is_yes {
        Ok(())
    } else {
        Err(Failure::work(anyhow!("nothing was changed")))
    }
}
