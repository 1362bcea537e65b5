//! The plug is pulled: what a disk has at some moment, and nothing that the kernel still kept, must hold all that was
//! acknowledged by then.
//!
//! The disk is a file system in a file, on a loop device. A child writes on it and says what is durable; it is stopped,
//! the file copied, and the copy mounted: its journal is replayed as after a power cut.

use super::{
    flushes::{Device, flushes_of_commits},
    *,
};
use crate::store::Packs;
use dewar_queue::{Kind, Payload, TaskSpec};
use std::sync::{Arc, mpsc};

const CHILD_FOLDER: &str = "DEWAR_TEST_POWER_FOLDER";
const CHILD_PART: &str = "DEWAR_TEST_POWER_PART";
const DISK_BYTES: u64 = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// Jobs the child keeps; older ones it forgets.
const KEPT_JOB_COUNT: u64 = 10;

/// Not a test by itself: what writes when the plug is pulled, and what looks at what is left.
#[test]
fn powered_child() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER).map(PathBuf::from) else {
        return;
    };
    match std::env::var(CHILD_PART).unwrap().as_str() {
        "write" => write(&folder),
        "look" => look(&folder),
        "count" => match flushes_of_commits(&folder) {
            Ok(count) => println!("flushes {count}"),
            Err(reason) => panic!("{reason}"),
        },
        part => unreachable!("{part}"),
    }
}

fn write(folder: &Path) {
    let mut store = SledStore::open(&folder.join("store")).unwrap();
    let mut packs = Packs::open(&folder.join("packs")).unwrap();
    for job in 1.. {
        let parameters = packs.append(&[&payload(job)]).unwrap().remove(0);
        store.append(&events(job, parameters)).unwrap();
        if job > KEPT_JOB_COUNT {
            store.append(&[forget(job - KEPT_JOB_COUNT)]).unwrap();
        }
        println!("ack {job}");
        if job.is_multiple_of(6) {
            store.compact().unwrap();
        }
    }
}

/// Prints the jobs that are there, each with all that it had.
fn look(folder: &Path) {
    let mut store = SledStore::open(&folder.join("store")).unwrap();
    let packs = Packs::open(&folder.join("packs")).unwrap().reader();
    let mut events = replayed(&mut store);
    events.retain(|event| !matches!(event, Event::JobForgotten { .. }));
    for pair in events.chunks(2) {
        let [
            Event::JobCreated { job, .. },
            Event::TasksSubmitted {
                job: same, specs, ..
            },
        ] = pair
        else {
            panic!("a batch was torn: {pair:?}");
        };
        assert_eq!(job, same);
        let bytes = packs.read_all(&[specs[0].parameters.clone()]).unwrap();
        assert_eq!(bytes, [payload(job.0)]);
        println!("job {}", job.0);
    }
}

fn payload(job: u64) -> Vec<u8> {
    job.to_le_bytes().repeat(700)
}

fn events(job: u64, parameters: Payload) -> Vec<Event> {
    let created = every_durable_event(job).remove(0);
    let spec = {
        let Event::TasksSubmitted { specs, .. } = &every_durable_event(job)[1] else {
            unreachable!("tasks come second");
        };
        TaskSpec {
            parameters,
            kind: Kind {
                name: "test".into(),
                version: 1,
            },
            ..(*specs[0]).clone()
        }
    };
    let submitted = Event::TasksSubmitted {
        job: JobNumber(job),
        first_index: 0,
        specs: vec![Arc::new(spec)],
    };
    vec![created, submitted]
}

#[test]
fn a_power_cut_loses_nothing_acknowledged() {
    let room = tempfile::tempdir().unwrap();
    let disk = match Disk::make(room.path()) {
        Ok(disk) => disk,
        Err(reason) => {
            eprintln!("skipped: {reason}");
            return;
        }
    };
    let counted = disk.run("count").remove(0);
    assert!(
        counted
            .strip_prefix("flushes ")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            >= 40
    );
    for round in 0..6 {
        let (copy, acknowledged) = disk.pull_the_plug(1 + 9 * round, &room.path().join("copy"));
        let jobs: Vec<u64> = copy
            .run("look")
            .iter()
            .map(|line| number(line, "job "))
            .collect();
        check(&jobs, acknowledged);
    }
}

/// Beyond what was acknowledged, one more step may be there.
fn check(jobs: &[u64], acknowledged: u64) {
    let (first, last) = (jobs[0], *jobs.last().unwrap());
    assert!(jobs.iter().copied().eq(first..=last), "{jobs:?}");
    assert!(
        (acknowledged..=acknowledged + 1).contains(&last),
        "{acknowledged} acknowledged, {jobs:?}"
    );
    let kept = |job: u64| (job + 1).saturating_sub(KEPT_JOB_COUNT).max(1);
    assert!(
        (kept(acknowledged)..=kept(last)).contains(&first),
        "{acknowledged} acknowledged, {jobs:?}"
    );
}

fn number(line: &str, prefix: &str) -> u64 {
    line.strip_prefix(prefix).unwrap().parse().unwrap()
}

/// A file system in a file, mounted while this lives.
struct Disk {
    image: PathBuf,
    mounted: PathBuf,
}

impl Disk {
    /// Makes one, or says why that cannot be had here.
    fn make(room: &Path) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root may mount".into());
        }
        if !Path::new("/dev/loop-control").exists() {
            return Err("there are no loop devices".into());
        }
        let image = room.join("image");
        fs::File::create(&image)
            .unwrap()
            .set_len(DISK_BYTES)
            .unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        Self::mount(image, room.join("disk"))
    }

    fn mount(image: PathBuf, mounted: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&mounted).unwrap();
        // The loop device made by this goes with the mount.
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", "loop"])
            .arg(&image)
            .arg(&mounted))?;
        Ok(Self { image, mounted })
    }

    fn child(&self, part: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "store::sled::tests::power::powered_child",
                "--nocapture",
            ])
            .env(CHILD_FOLDER, &self.mounted)
            .env(CHILD_PART, part);
        command
    }

    /// What a part of the child has to say. A process of its own, so that nothing keeps the disk busy afterwards.
    fn run(&self, part: &str) -> Vec<String> {
        let output = self.child(part).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let said = |line: &&str| line.starts_with("job ") || line.starts_with("flushes ");
        text.lines().filter(said).map(str::to_owned).collect()
    }

    /// Lets the child write until it has acknowledged so much and some more, and gives the disk as it was then.
    fn pull_the_plug(&self, count: u64, copy: &Path) -> (Self, u64) {
        for folder in ["store", "packs"] {
            if self.mounted.join(folder).exists() {
                fs::remove_dir_all(self.mounted.join(folder)).unwrap();
            }
        }
        let mut command = self.child("write");
        let mut child = Killed(
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let output = BufReader::new(child.0.stdout.take().unwrap());
        let (sender, acknowledgements) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if line.starts_with("ack ") {
                    sender.send(number(&line, "ack ")).unwrap();
                }
            }
        });
        let mut acknowledged = 0;
        while acknowledged < count {
            acknowledged = acknowledgements
                .recv_timeout(PATIENCE)
                .expect("the child writes");
        }
        child.signal("STOP");
        // What it said before it stopped is a promise too.
        wait_until_stopped(child.0.id());
        let image = self.copy_image(&copy.with_extension("image"));
        drop(child);
        reader.join().unwrap();
        acknowledged = acknowledgements.iter().last().unwrap_or(acknowledged);
        (Self::mount(image, copy.to_owned()).unwrap(), acknowledged)
    }

    /// Copies what the device has, while nothing changes it.
    fn copy_image(&self, copy: &Path) -> PathBuf {
        let device = Device::of(&self.mounted).unwrap();
        for _ in 0..50 {
            let before = device.write_count();
            fs::copy(&self.image, copy).unwrap();
            if device.write_count() == before {
                return copy.to_owned();
            }
        }
        panic!("the disk of a stopped process does not come to rest");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = run(Command::new("umount").arg(&self.mounted));
        if unmounted.is_err() {
            // Something still looks at it; the disk goes when that does.
            let _ = run(Command::new("umount").arg("--lazy").arg(&self.mounted));
        }
    }
}

/// A child that is killed when it is done with.
struct Killed(Child);

impl Killed {
    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        run(Command::new("kill").args(["-s", name, &pid])).unwrap();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process stops a moment after it was told to.
fn wait_until_stopped(pid: u32) {
    let ends_at = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < ends_at {
        let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let state = status
            .rsplit(')')
            .next()
            .unwrap()
            .trim_start()
            .chars()
            .next();
        if state == Some('T') {
            return;
        }
        std::thread::yield_now();
    }
    panic!("the child does not stop");
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}
