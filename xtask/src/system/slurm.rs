//! Workers under Slurm: its own daemons, and the lines of the book.

use super::{
    Kit,
    lab::{ACCOUNT, LIMIT, Lab},
};
use anyhow::{Context, Result, ensure};
use dewar_testkit::wait_until;
use std::fs;

/// A cluster of one node, which is said to have more cores than it has.
const CONFIG: &str = "\
ClusterName=lab
SlurmctldHost=titan
SlurmUser=slurm
AuthType=auth/munge
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/lib/slurm/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
NodeName=titan CPUs=4
PartitionName=all Nodes=titan Default=YES MaxTime=INFINITE State=UP
";

/// The page's line for an array of workers, as it stands there.
fn one_line(page: &str) -> Option<String> {
    let (_, line) = page.split_once("cluster$ sbatch")?;
    let (line, _) = line.split_once("```")?;
    Some(format!("sbatch --parsable{}", line.replace("\\\n", " ")))
}

pub fn run(kit: &Kit) -> Result<()> {
    let lab = Lab::open(kit)?;
    fs::write(lab.machine.root().join("etc/slurm/slurm.conf"), CONFIG)?;
    lab.machine.run("systemctl start munge slurmctld slurmd")?;
    wait_until("Slurm's node", LIMIT, || {
        // Its controller may not answer yet.
        let state = lab.machine.ask("sinfo --noheader --format %T || true")?;
        Ok(state.trim() == "idle")
    })?;
    an_array_works_and_leaves(&lab)?;
    time_that_is_up_is_no_failure(&lab)
}

/// Three workers; the one that computes a task is cancelled; the task is done by another, and who has nothing to do leaves.
fn an_array_works_and_leaves(lab: &Lab) -> Result<()> {
    let line = one_line(&Lab::page("clusters.md")?).context("the page has a line for Slurm")?;
    let small = line
        .replace("--array=1-8", "--array=1-3")
        .replace("--cpus-per-task=16", "--cpus-per-task=1")
        .replace("--slots 16", "--slots 1")
        .replace("--exit-when-idle 10m", "--exit-when-idle 5s");
    let array = dewar_testkit::output(&mut lab.person(&small))?;
    let array = array.trim();
    lab.await_workers(3)?;

    let refinement = lab.start_refinement("by-slurm")?;
    let task = lab.await_task()?;
    let member = lab.machine.ask(&format!(
        "tr '\\0' '\\n' < /proc/{}/environ | sed -n 's/^SLURM_ARRAY_TASK_ID=//p'",
        task.worker_pid
    ))?;
    let member = member.trim();
    dewar_testkit::run(&mut lab.person(&format!("scancel {array}_{member}")))?;
    lab.finish(refinement, "by-slurm")?;
    let tries = lab.tries_of(&task)?;
    ensure!(
        tries > 1,
        "task {} was done before its worker was cancelled",
        task.index
    );

    await_no_jobs(lab)?;
    for each in ["1", "2", "3"] {
        let expected = match each == member {
            true => "CANCELLED",
            false => "COMPLETED",
        };
        ended(lab, &format!("{array}_{each}"), expected)?;
    }
    lab.await_workers(0)
}

/// A worker hears of the end of its time, hands its task back, and ends well.
fn time_that_is_up_is_no_failure(lab: &Lab) -> Result<()> {
    lab.machine.run("dewar simulate --out /srv/more --particles 8000 --snr 0.5 --box 48 --pixel-size 5 --seed 8")?;
    dewar_testkit::run(&mut lab.person(
        "dewar worker-script slurm --slots 1 --time 00:01 --token-file dewar-token > workers.sh",
    ))?;
    let worker = dewar_testkit::output(&mut lab.person("sbatch --parsable workers.sh"))?;
    let worker = worker.trim();
    let mut refinement = lab.start_refinement_of("/srv/more", "in-time")?;
    lab.await_task()?;
    // Slurm tells it within its minute.
    await_no_jobs(lab)?;
    ended(lab, worker, "COMPLETED")?;
    let jobs = lab.dewar("jobs --unfinished")?;
    let job = &jobs["jobs"][0];
    ensure!(
        refinement.is_running()? && job["failed_count"] == 0 && job["running_count"] == 0,
        "after the worker's time the job is {job}"
    );
    dewar_testkit::run(&mut lab.person("dewar cancel --all --yes"))
}

fn await_no_jobs(lab: &Lab) -> Result<()> {
    wait_until("the queue to be empty", LIMIT, || {
        Ok(lab.machine.ask("squeue --noheader")?.trim().is_empty())
    })
}

/// Fails unless Slurm says that a job came to this end.
fn ended(lab: &Lab, job: &str, expected: &str) -> Result<()> {
    let told = lab
        .machine
        .ask(&format!("scontrol --oneliner show job {job}"))?;
    let output = lab
        .machine
        .ask(&format!("cat /home/{ACCOUNT}/slurm-*.out"))
        .unwrap_or_default();
    ensure!(
        told.contains(&format!("JobState={expected} ")),
        "job {job} was to be {expected}:\n{told}\n{output}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_line_that_the_test_can_make_smaller() {
        let line = one_line(&Lab::page("clusters.md").unwrap()).unwrap();
        for words in [
            "sbatch --parsable --array=1-8 --cpus-per-task=16 ",
            "--wrap 'exec dewar-worker --broker titan:9990 ",
            "--slots 16 ",
            "--exit-when-idle 10m ",
        ] {
            assert!(line.contains(words), "{words}: {line}");
        }
    }
}
