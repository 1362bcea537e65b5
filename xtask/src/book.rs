//! The book in `docs/`, built by mdbook. What it warns of is an error; links are checked in `tests/book.rs`.

use crate::{root, target_dir, test_tools::TestTools};
use anyhow::{Result, ensure};
use std::process::Command;

/// Builds it into the target folder.
pub fn build(tools: &TestTools) -> Result<()> {
    eprintln!("\n==> mdbook build docs");
    let built = Command::new(tools.program("mdbook"))
        .args(["build", "docs", "--dest-dir"])
        .arg(target_dir().join("book"))
        .current_dir(root())
        .output()?;
    let said = String::from_utf8_lossy(&built.stderr);
    let complains = said
        .lines()
        .any(|line| line.contains("WARN") || line.contains("ERROR"));
    ensure!(built.status.success() && !complains, "mdbook: {said}");
    Ok(())
}
