//! The text of a script that starts workers. Nothing is read and nothing is run here.
//!
//! The worker takes the place of the shell (`exec`), so that it is the one to hear the batch system's SIGTERM, on which it
//! hands its tasks back at once.

use clap::ValueEnum;
use std::{fmt, str::FromStr};

/// What starts workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Starter {
    /// Slurm.
    Slurm,
    /// PBS Pro and OpenPBS.
    Pbs,
    /// Sun's Grid Engine and its heirs; the parallel environment is called `smp`.
    Sge,
    /// LSF.
    Lsf,
    /// ssh, to the hosts that the script is given.
    Ssh,
}

/// How long a worker may run, to the minute, as all batch systems can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallTime {
    hours: u32,
    minutes: u32,
}

/// A script, before it is text.
#[derive(Debug, Clone)]
pub struct Script {
    pub starter: Starter,
    pub broker: String,
    pub token_file: String,
    /// None: one core of a batch system, all of a machine reached by ssh.
    pub slots: Option<u16>,
    pub worker_count: u32,
    pub time: Option<WallTime>,
    pub site: Option<String>,
    pub exit_when_idle: String,
    pub exit_when_unreachable: String,
}

impl Starter {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slurm => "slurm",
            Self::Pbs => "pbs",
            Self::Sge => "sge",
            Self::Lsf => "lsf",
            Self::Ssh => "ssh",
        }
    }

    /// The command that runs a script saved as `workers.sh`.
    pub fn submit(self) -> &'static str {
        match self {
            Self::Slurm => "sbatch workers.sh",
            Self::Pbs | Self::Sge => "qsub workers.sh",
            Self::Lsf => "bsub < workers.sh",
            Self::Ssh => "sh workers.sh HOST...",
        }
    }
}

impl FromStr for WallTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(hours, minutes)| {
            let are_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
            if minutes.len() != 2 || !are_digits(hours) || !are_digits(minutes) {
                return None;
            }
            let (hours, minutes) = (hours.parse().ok()?, minutes.parse().ok()?);
            (minutes < 60 && (hours, minutes) != (0, 0)).then_some(Self { hours, minutes })
        });
        parsed.ok_or_else(|| "expected hours and minutes, such as 12:00".to_owned())
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.hours, self.minutes)
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "#!/bin/sh")?;
        for line in self.directives() {
            writeln!(f, "{line}")?;
        }
        writeln!(
            f,
            "# Workers for the Dewar broker at {}: {}",
            one_line(&self.broker),
            self.starter.submit()
        )?;
        writeln!(f, "set -eu")?;
        match self.starter {
            Starter::Ssh => f.write_str(&self.over_ssh()),
            _ => writeln!(f, "exec {}", self.command(&quoted(&self.token_file))),
        }
    }
}

impl Script {
    /// What the batch system reads. It stops reading at the first command.
    fn directives(&self) -> Vec<String> {
        let (count, cores) = (self.worker_count, self.slots.unwrap_or(1));
        let is_array = count > 1;
        let time = |form: &dyn Fn(WallTime) -> String| self.time.map(form);
        let array = |line: String| is_array.then_some(line);
        let lines = match self.starter {
            Starter::Slurm => vec![
                Some("#SBATCH --job-name=dewar-worker".to_owned()),
                array(format!("#SBATCH --array=1-{count}")),
                Some("#SBATCH --nodes=1 --ntasks=1".to_owned()),
                Some(format!("#SBATCH --cpus-per-task={cores}")),
                // To the script itself, for which the worker stands; else only what `srun` started hears it.
                Some("#SBATCH --signal=B:TERM@60".to_owned()),
                time(&|time| format!("#SBATCH --time={time}:00")),
            ],
            Starter::Pbs => vec![
                Some("#PBS -N dewar-worker".to_owned()),
                array(format!("#PBS -J 1-{count}")),
                Some(format!("#PBS -l select=1:ncpus={cores}")),
                time(&|time| format!("#PBS -l walltime={time}:00")),
            ],
            Starter::Sge => vec![
                Some("#$ -N dewar-worker".to_owned()),
                Some("#$ -S /bin/sh".to_owned()),
                Some("#$ -cwd".to_owned()),
                array(format!("#$ -t 1-{count}")),
                (cores > 1).then(|| format!("#$ -pe smp {cores}")),
                time(&|time| format!("#$ -l h_rt={time}:00")),
            ],
            Starter::Lsf => vec![
                Some(match is_array {
                    true => format!("#BSUB -J dewar-worker[1-{count}]"),
                    false => "#BSUB -J dewar-worker".to_owned(),
                }),
                Some(format!("#BSUB -n {cores}")),
                Some("#BSUB -R span[hosts=1]".to_owned()),
                time(&|time| format!("#BSUB -W {time}")),
            ],
            Starter::Ssh => Vec::new(),
        };
        lines.into_iter().flatten().collect()
    }

    /// The worker's command line, for a shell.
    fn command(&self, token_file: &str) -> String {
        let slots = match (self.slots, self.starter) {
            (Some(slots), _) => Some(slots),
            (None, Starter::Ssh) => None,
            (None, _) => Some(1),
        };
        let mut words = vec![
            "dewar-worker".to_owned(),
            format!("--broker {}", quoted(&self.broker)),
            format!("--token-file {token_file}"),
        ];
        words.extend(slots.map(|slots| format!("--slots {slots}")));
        words.extend(
            self.site
                .as_deref()
                .map(|site| format!("--site {}", quoted(site))),
        );
        words.push(format!("--exit-when-idle {}", quoted(&self.exit_when_idle)));
        words.push(format!(
            "--exit-when-unreachable {}",
            quoted(&self.exit_when_unreachable)
        ));
        words.join(" \\\n    ")
    }

    /// Brings the token to each host, and starts a worker there that outlasts the connection.
    fn over_ssh(&self) -> String {
        let token = quoted(&self.token_file);
        let worker = self.command("\"$HOME/.dewar-token\"");
        let remote = format!("nohup {worker} >> dewar-worker.log 2>&1 < /dev/null &");
        format!(
            "[ $# -gt 0 ] || {{ echo 'usage: sh workers.sh HOST...' >&2; exit 2; }}\n\
             for host in \"$@\"; do\n    \
             ssh \"$host\" 'umask 077; cat > \"$HOME/.dewar-token\"' < {token}\n    \
             ssh -n \"$host\" {}\n    \
             echo \"worker started on $host, its log there in dewar-worker.log\"\n\
             done\n",
            quoted(&remote)
        )
    }
}

/// One word for the shell, whatever it holds.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:,@%+=".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// For a comment, which ends with its line.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests;
