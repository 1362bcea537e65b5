use super::*;
use std::process::Command;

fn script(starter: Starter) -> Script {
    Script {
        starter,
        broker: "titan:9990".to_owned(),
        token_file: "dewar-token".to_owned(),
        slots: Some(16),
        worker_count: 8,
        time: Some("12:30".parse().unwrap()),
        site: Some("cluster".to_owned()),
        exit_when_idle: "10m".to_owned(),
        exit_when_unreachable: "1h".to_owned(),
    }
}

/// What a shell makes of the words of a script, with a program `dewar-worker` that prints what it is given.
fn run(script: &Script, stand_in: &str, arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workers.sh");
    std::fs::write(&path, script.to_string()).unwrap();
    std::fs::write(folder.path().join("dewar-token"), "me.secret").unwrap();
    let program = folder.path().join(stand_in);
    std::fs::write(&program, "#!/bin/sh\nprintf '[%s]' \"$@\"\ncat\n").unwrap();
    let make_runnable = Command::new("chmod").arg("+x").arg(&program).status();
    assert!(make_runnable.unwrap().success());
    let path_variable = format!("{}:/usr/bin:/bin", folder.path().display());
    let output = Command::new("sh")
        .arg(&path)
        .args(arguments)
        .env("PATH", path_variable)
        .current_dir(folder.path())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn slurm() {
    let text = script(Starter::Slurm).to_string();
    assert_eq!(
        text,
        "#!/bin/sh\n\
         #SBATCH --job-name=dewar-worker\n\
         #SBATCH --array=1-8\n\
         #SBATCH --nodes=1 --ntasks=1\n\
         #SBATCH --cpus-per-task=16\n\
         #SBATCH --signal=B:TERM@60\n\
         #SBATCH --time=12:30:00\n\
         # Workers for the Dewar broker at titan:9990: sbatch workers.sh\n\
         set -eu\n\
         exec dewar-worker \\\n    --broker titan:9990 \\\n    --token-file dewar-token \\\n    --slots 16 \\\n    \
         --site cluster \\\n    --exit-when-idle 10m \\\n    --exit-when-unreachable 1h\n"
    );
}

#[test]
fn the_others_ask_for_as_many_workers_cores_and_time() {
    let check = |starter, lines: &[&str]| {
        let text = script(starter).to_string();
        for line in lines {
            assert!(text.lines().any(|found| found == *line), "{line}: {text}");
        }
    };
    check(
        Starter::Pbs,
        &[
            "#PBS -J 1-8",
            "#PBS -l select=1:ncpus=16",
            "#PBS -l walltime=12:30:00",
        ],
    );
    check(
        Starter::Sge,
        &["#$ -t 1-8", "#$ -pe smp 16", "#$ -l h_rt=12:30:00"],
    );
    check(
        Starter::Lsf,
        &[
            "#BSUB -J dewar-worker[1-8]",
            "#BSUB -n 16",
            "#BSUB -W 12:30",
        ],
    );
}

#[test]
fn one_worker_is_no_array_and_without_slots_takes_one_core() {
    for starter in [Starter::Slurm, Starter::Pbs, Starter::Sge, Starter::Lsf] {
        let text = Script {
            worker_count: 1,
            slots: None,
            time: None,
            ..script(starter)
        }
        .to_string();
        for absent in ["1-1", "12:30", "smp"] {
            assert!(!text.contains(absent), "{text}");
        }
        assert!(text.contains("--slots 1 "), "{text}");
    }
}

#[test]
fn a_shell_gives_the_worker_each_word_as_it_was_said() {
    let site = "the lab's \"own\" $HOME; exit 1";
    for starter in [Starter::Slurm, Starter::Pbs, Starter::Sge, Starter::Lsf] {
        let awkward = Script {
            site: Some(site.to_owned()),
            ..script(starter)
        };
        let words = run(&awkward, "dewar-worker", &[]);
        assert!(
            words.contains(&format!("[--site][{site}][--exit-when-idle][10m]")),
            "{words}"
        );
    }
}

#[test]
fn shells_find_nothing_wrong_with_any() {
    for starter in Starter::value_variants() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workers.sh");
        std::fs::write(&path, script(*starter).to_string()).unwrap();
        for shell in ["sh", "bash"] {
            let read = Command::new(shell).arg("-n").arg(&path).output().unwrap();
            assert!(
                read.status.success() && read.stderr.is_empty(),
                "{starter:?}: {read:?}"
            );
        }
    }
}

#[test]
fn ssh_brings_the_token_and_starts_a_worker_on_each_host() {
    // ssh hands its last word to the shell over there.
    let said = run(&script(Starter::Ssh), "ssh", &["node1", "node2"]);
    for host in ["node1", "node2"] {
        let brought = format!("[{host}][umask 077; cat > \"$HOME/.dewar-token\"]me.secret");
        assert!(said.contains(&brought), "{said}");
        assert!(
            said.contains(&format!("[-n][{host}][nohup dewar-worker")),
            "{said}"
        );
    }
    assert!(
        said.contains("--token-file \"$HOME/.dewar-token\""),
        "{said}"
    );
}

#[test]
fn a_time_is_hours_and_minutes() {
    let check = |text: &str, expect: Option<&str>| {
        let time = text.parse::<WallTime>().ok();
        assert_eq!(
            time.map(|time| time.to_string()).as_deref(),
            expect,
            "{text}"
        );
    };
    check("12:00", Some("12:00"));
    check("1:05", Some("01:05"));
    check("240:00", Some("240:00"));
    for wrong in [
        "12", "12:60", "0:00", ":30", "1:5", "1h", "+1:00", "12:00:00",
    ] {
        check(wrong, None);
    }
}
