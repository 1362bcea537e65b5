//! The two programs, told the same.

use crate::interrupt::noticed;
use anyhow::{Context, Result, bail, ensure};
use dewar_testkit::Programs;
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tokio::{runtime::Runtime, task::spawn_blocking, time::timeout};

/// How long a program may take to end when the bench is interrupted.
const GOODBYE: Duration = Duration::from_secs(10);

/// What both programs are told.
pub(super) struct Setting<'a> {
    /// The folder of a simulated data set.
    pub data: &'a Path,
    pub symmetry: &'a str,
    pub diameter_angstrom: &'a str,
    pub low_pass_angstrom: &'a str,
}

/// What one of them made.
pub(super) struct Refined {
    pub seconds: f64,
    pub particles: PathBuf,
    pub map: PathBuf,
    /// Unfiltered.
    pub half_maps: [PathBuf; 2],
}

/// Installs Debian's package unless `relion_refine_mpi` is there.
pub(super) fn install_relion() -> Result<()> {
    if Command::new("relion_refine_mpi")
        .arg("--version")
        .output()
        .is_ok()
    {
        return Ok(());
    }
    eprintln!("bench: installing relion with apt-get");
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--no-install-recommends", "relion"]);
    dewar_testkit::run(install.env("DEBIAN_FRONTEND", "noninteractive"))
        .context("RELION could not be installed; `apt-get install relion` must work, as root")
}

/// RELION's auto-refinement with the settings its window suggests, on three ranks: one that leads and two that compute.
pub(super) fn relion(setting: &Setting<'_>) -> Result<Refined> {
    // Inside: image names in what it writes count from where it runs.
    let out = setting.data.join("relion");
    fs::create_dir(&out)?;
    let mut command = Command::new("mpirun");
    command.current_dir(setting.data);
    // Root in a container is the rule where benches run.
    command
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.args(["-n", "3", "--oversubscribe", "relion_refine_mpi"]);
    command.args([
        "--auto_refine",
        "--split_random_halves",
        "--i",
        "particles.star",
    ]);
    command.args([
        "--ref",
        "truth.mrc",
        "--ini_high",
        setting.low_pass_angstrom,
    ]);
    command.arg("--o").arg(out.join("run"));
    command.args([
        "--particle_diameter",
        setting.diameter_angstrom,
        "--sym",
        setting.symmetry,
    ]);
    // Without the second flag 3.1 takes the reference as one with the CTF in it.
    command.args(["--ctf", "--ctf_corrected_ref", "--firstiter_cc"]);
    command.args([
        "--flatten_solvent",
        "--zero_mask",
        "--norm",
        "--scale",
        "--pad",
        "2",
    ]);
    command.args([
        "--oversampling",
        "1",
        "--healpix_order",
        "2",
        "--auto_local_healpix_order",
        "4",
    ]);
    command.args([
        "--offset_range",
        "5",
        "--offset_step",
        "2",
        "--low_resol_join_halves",
        "40",
    ]);
    command.args(["--dont_combine_weights_via_disc", "--j", "1"]);
    let seconds = timed(&mut command)?;
    Ok(Refined {
        seconds,
        particles: out.join("run_data.star"),
        map: out.join("run_class001.mrc"),
        half_maps: [1, 2].map(|half| out.join(format!("run_half{half}_class001_unfil.mrc"))),
    })
}

/// `dewar refine` on two threads.
pub(super) fn dewar(programs: &Programs, setting: &Setting<'_>) -> Result<Refined> {
    let out = setting.data.join("refined");
    let mut command = programs.dewar();
    command
        .arg("refine")
        .arg(setting.data.join("particles.star"));
    command
        .arg("--reference")
        .arg(setting.data.join("truth.mrc"));
    command.args([
        "--low-pass",
        setting.low_pass_angstrom,
        "--symmetry",
        setting.symmetry,
    ]);
    command.args([
        "--diameter",
        setting.diameter_angstrom,
        "--parallel",
        "thread:2",
    ]);
    command.arg("--out").arg(&out);
    let seconds = timed(&mut command)?;
    Ok(Refined {
        seconds,
        particles: out.join("particles.star"),
        map: out.join("map.mrc"),
        half_maps: [1, 2].map(|half| out.join(format!("half{half}.mrc"))),
    })
}

/// Runs a program and takes its time; what it says is shown only if it fails. It does not outlive an interrupted bench, nor do
/// those that it started.
pub(super) fn timed(command: &mut Command) -> Result<f64> {
    let started = Instant::now();
    let runtime = Runtime::new()?;
    let interrupted = noticed(&runtime)?;
    // A group of its own: what mpirun starts is ended with it.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::piped()).process_group(0);
    let child = command.spawn();
    let child = child.with_context(|| format!("could not start {command:?}"))?;
    let group = Pid::from_child(&child);
    let output = runtime.block_on(async {
        let mut running = spawn_blocking(move || child.wait_with_output());
        tokio::select! {
            output = &mut running => anyhow::Ok(output??),
            () = interrupted.cancelled() => {
                // It may have ended just now.
                let _ = kill_process_group(group, Signal::TERM);
                if timeout(GOODBYE, running).await.is_err() {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                bail!("interrupted")
            }
        }
    })?;
    if !output.status.success() {
        bail!(
            "{command:?} failed: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(started.elapsed().as_secs_f64())
}

impl Refined {
    /// Fails if a file is not there.
    pub(super) fn check(&self) -> Result<()> {
        for path in [&self.particles, &self.map]
            .into_iter()
            .chain(&self.half_maps)
        {
            ensure!(
                fs::metadata(path).is_ok(),
                "{} was not made",
                path.display()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dewar_testkit::wait_until;
    use rustix::process::{getpid, kill_process, test_kill_process};

    /// Signals end the whole process if nobody catches them, and nextest gives each test a process of its own.
    #[test]
    fn an_interrupted_program_ends_with_those_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("started");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let running = std::thread::spawn(move || timed(Command::new("sh").args(["-c", &script])));
        let started = || Pid::from_raw(fs::read_to_string(&file).ok()?.trim().parse().ok()?);
        let patience = Duration::from_secs(30);
        wait_until("a grandchild", patience, || Ok(started().is_some())).unwrap();
        let grandchild = started().unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        assert!(running.join().unwrap().is_err());
        wait_until("its end", patience, || {
            Ok(test_kill_process(grandchild).is_err())
        })
        .unwrap();
    }
}
