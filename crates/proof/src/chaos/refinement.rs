//! A small refinement, again and again: each must give the bytes that it gave in peace.

use anyhow::{Context, Result, ensure};
use dewar_testkit::{
    Guarded, Programs,
    refinement::{Case, differing_outputs},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The data set, and what came of it in peace.
pub(super) struct Refinement {
    programs: Programs,
    case: Case,
    folder: PathBuf,
    address: String,
    token_file: PathBuf,
    running: Option<(Guarded, PathBuf)>,
    begun_count: usize,
    pub(super) finished_count: usize,
}

/// Simulates the particles, and refines them in one process. The folder of the data, and the case.
pub(super) fn prepare(programs: &Programs, folder: &Path) -> Result<(PathBuf, Case)> {
    let data = folder.join("data");
    // Over 256 particles in each half, so that there are several blocks and shards.
    let flags = "--particles 600 --snr 0.5 --box 32 --pixel-size 7 --seed 5";
    let flags: Vec<&str> = flags.split(' ').collect();
    let refine = ["--iterations", "3", "--diameter", "170"];
    let case = Case::simulate(programs, &data, &flags, &refine)?;
    case.refine_in_process(programs, 2, &folder.join("peace"))?;
    Ok((data, case))
}

impl Refinement {
    pub(super) fn new(
        programs: Programs,
        case: Case,
        folder: &Path,
        address: &str,
        token_file: &Path,
    ) -> Self {
        Self {
            programs,
            case,
            folder: folder.to_owned(),
            address: address.to_owned(),
            token_file: token_file.to_owned(),
            running: None,
            begun_count: 0,
            finished_count: 0,
        }
    }

    /// Starts one if none runs and more are wanted; looks at one that ended. Whether one runs.
    pub(super) fn go_on(&mut self, more: bool) -> Result<bool> {
        if let Some((process, _)) = &mut self.running {
            let goes_on = process.is_running();
            if goes_on.context("a refinement failed under chaos")? {
                return Ok(true);
            }
            self.conclude()?;
        }
        if more {
            self.begun_count += 1;
            let out = self.folder.join(format!("refined-{}", self.begun_count));
            let process =
                self.case
                    .start_refine_at(&self.programs, &self.address, &self.token_file, &out)?;
            self.running = Some((process, out));
        }
        Ok(more)
    }

    fn conclude(&mut self) -> Result<()> {
        let Some((_, out)) = self.running.take() else {
            return Ok(());
        };
        let differing = differing_outputs(&self.folder.join("peace"), &out)?;
        ensure!(
            differing.is_empty(),
            "refinement {} differs from peace in {}",
            self.begun_count,
            differing.join(", ")
        );
        self.finished_count += 1;
        fs::remove_dir_all(&out)?;
        Ok(())
    }
}
