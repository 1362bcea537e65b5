//! The life of the packages on a machine, from their installation to the last trace of them.

use super::{
    Kit,
    lab::{LIMIT, Lab},
};
use anyhow::{Result, anyhow, ensure};
use dewar_testkit::wait_until;
use std::{path::PathBuf, process::Command};

/// Asks Debian's own judge of packages.
pub fn judge(packages: &[PathBuf]) -> Result<()> {
    dewar_testkit::run(
        Command::new("lintian")
            .args(["--fail-on", "error", "--allow-root"])
            .args(packages),
    )
}

pub fn live(kit: &Kit) -> Result<()> {
    let lab = Lab::open(kit)?;
    they_start(&lab)?;
    they_are_upgraded_while_work_runs(&lab, &kit.packages[1])?;
    a_worker_that_hangs_is_started_again(&lab)?;
    a_backup_is_restored(&lab)?;
    they_leave_nothing(&lab)
}

/// The broker at once; the worker when it has a token.
fn they_start(lab: &Lab) -> Result<()> {
    is(
        lab,
        "dewar-broker",
        &["ActiveState=active", "User=dewar", "Type=notify"],
    )?;
    expect(
        lab,
        "stat --format '%U %a' /var/lib/dewar /var/lib/dewar/token",
        "dewar 700\ndewar 600",
    )?;
    is(
        lab,
        "dewar-worker",
        &[
            "ActiveState=inactive",
            "ConditionResult=no",
            "UnitFileState=enabled",
        ],
    )?;
    lab.machine.run(
        "install --mode 600 /var/lib/dewar/token /etc/dewar/token
         printf 'DEWAR_SLOTS=1\\n' >> /etc/dewar/worker.env
         systemctl start dewar-worker",
    )?;
    lab.await_workers(1)?;
    expect(
        lab,
        "stat --format '%U %a' /var/cache/dewar",
        "dewar-worker 700",
    )?;
    expect(
        lab,
        "dewar --version; man1=/usr/share/man/man1; ls $man1/dewar-refine.1.gz",
        &format!(
            "dewar {}\n/usr/share/man/man1/dewar-refine.1.gz",
            env!("CARGO_PKG_VERSION")
        ),
    )
}

/// The broker is replaced under a task, which the worker goes on computing, and then the worker.
fn they_are_upgraded_while_work_runs(lab: &Lab, newer: &[PathBuf]) -> Result<()> {
    let process = "systemctl show --value -p MainPID dewar-broker";
    let before = lab.machine.ask(process)?;
    let refinement = lab.start_refinement("upgraded")?;
    let task = lab.await_task()?;
    let (others, worker): (Vec<_>, Vec<_>) = newer
        .iter()
        .cloned()
        .partition(|package| !package.to_string_lossy().contains("worker"));
    lab.install(&others)?;
    ensure!(
        lab.machine.ask(process)? != before,
        "the broker was not started anew"
    );
    wait_until("the task", LIMIT, || Ok(lab.tries_of(&task).is_ok()))?;
    // Of tries before its start a broker knows nothing.
    let tries = lab.tries_of(&task)?;
    ensure!(
        tries == 0,
        "the task was begun again after the broker was replaced"
    );
    lab.await_task()?;
    lab.install(&worker)?;
    lab.finish(refinement, "upgraded")?;
    expect(
        lab,
        "dpkg-query --show --showformat '${Version} ' dewar dewar-broker dewar-worker",
        &format!("{0}-2 {0}-2 {0}-2", env!("CARGO_PKG_VERSION")),
    )?;
    is(lab, "dewar-broker", &["ActiveState=active", "NRestarts=0"])?;
    is(lab, "dewar-worker", &["ActiveState=active", "NRestarts=0"])
}

/// systemd misses its word, kills it, and starts it again.
fn a_worker_that_hangs_is_started_again(lab: &Lab) -> Result<()> {
    lab.machine.run(
        "mkdir -p /run/systemd/system/dewar-worker.service.d
         printf '[Service]\\nWatchdogSec=2\\nTimeoutStopSec=1\\nRestartSec=0\\n' > /run/systemd/system/dewar-worker.service.d/soon.conf
         systemctl daemon-reload
         systemctl restart dewar-worker
         systemctl kill --signal STOP dewar-worker",
    )?;
    wait_until("the worker to be started again", LIMIT, || {
        Ok(is(lab, "dewar-worker", &["NRestarts=1", "ActiveState=active"]).is_ok())
    })?;
    lab.machine.run(
        "rm -r /run/systemd/system/dewar-worker.service.d
         systemctl daemon-reload
         systemctl restart dewar-worker",
    )?;
    lab.await_workers(1)
}

/// By the lines of the book, word for word.
fn a_backup_is_restored(lab: &Lab) -> Result<()> {
    let page = Lab::page("operations.md")?;
    let [backup, restore] = backup_and_restore(&page)?;
    let jobs = lab.dewar("jobs")?;
    lab.machine.run("mkdir /backup")?;
    lab.machine.run(&backup)?;
    lab.await_workers(1)?;

    // What came after the copy is gone with the disk.
    lab.finish(lab.start_refinement("after-the-copy")?, "after-the-copy")?;
    lab.machine.run(&restore)?;
    lab.await_workers(1)?;
    ensure!(
        lab.dewar("jobs")?["jobs"] == jobs["jobs"],
        "the restored broker knows other jobs"
    );
    lab.finish(lab.start_refinement("restored")?, "restored")
}

/// Removed, they stop and leave what is the lab's own; purged, they leave nothing.
fn they_leave_nothing(lab: &Lab) -> Result<()> {
    lab.machine
        .run("dpkg --remove dewar dewar-broker dewar-worker")?;
    expect(lab, "pgrep dewar", "")?;
    lab.machine
        .run("test -e /var/lib/dewar/token -a -e /etc/dewar/broker.env")?;
    lab.machine
        .run("dpkg --purge dewar-broker dewar-worker; rm -r /root/*.deb /backup")?;
    let units = "systemctl list-units --all --plain --no-legend 'dewar*'";
    expect(lab, units, "")?;
    expect(
        lab,
        "find / -xdev -path /proc -prune -o -path /home -prune -o -path /srv -prune -o -name '*dewar*' -print",
        "",
    )?;
    expect(lab, "systemctl --failed --plain --no-legend", "")
}

/// The commands of the book, without prompts and `sudo`: one fence that makes a backup, and one that restores it.
fn backup_and_restore(page: &str) -> Result<[String; 2]> {
    let chapter = page.split_once("## Backup and restore");
    let chapter = chapter.map_or("", |(_, rest)| rest);
    let chapter = chapter.split("\n## ").next().unwrap_or_default();
    let fences = chapter.split("```").skip(1).step_by(2);
    let scripts: Vec<String> = fences
        .map(|fence| {
            let lines = fence.lines();
            let lines = lines.filter_map(|line| line.strip_prefix("titan$ sudo "));
            lines.collect::<Vec<_>>().join("\n")
        })
        .collect();
    scripts
        .try_into()
        .map_err(|scripts| anyhow!("the page is to have two fences, and has {scripts:?}"))
}

/// Fails unless a unit has all these properties.
fn is(lab: &Lab, unit: &str, properties: &[&str]) -> Result<()> {
    let told = lab.machine.ask(&format!("systemctl show {unit}"))?;
    for property in properties {
        ensure!(
            told.lines().any(|line| line == *property),
            "{unit} is not {property}:\n{}",
            lab.machine
                .ask(&format!("systemctl status --no-pager {unit} || true"))?
        );
    }
    Ok(())
}

fn expect(lab: &Lab, script: &str, expected: &str) -> Result<()> {
    // `is-active` says by its code what it says in words.
    let said = lab.machine.ask(&format!("{script} || true"))?;
    ensure!(
        said.trim() == expected,
        "{script}\nsaid     {:?}\nand not  {expected:?}",
        said.trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_operations_says_how_to_back_up_and_to_restore() {
        let page = Lab::page("operations.md").unwrap();
        let [backup, restore] = backup_and_restore(&page).unwrap();
        for script in [backup, restore] {
            assert!(script.starts_with("systemctl stop"), "{script}");
            assert!(script.contains("\ntar "), "{script}");
            assert!(script.ends_with("systemctl start dewar-broker"), "{script}");
        }
    }
}
