//! Machines that are network namespaces, cabled to one switch, and the broker's cable made slow.
//!
//! The switch is a bridge in a namespace of its own, so that the machine's own rules for bridges do not reach it. Names
//! and addresses hold the process id: runs side by side do not meet. What a killed run left behind is removed by the
//! next. Needs root, and `ip` and `tc` of iproute2.

use anyhow::{Context, Result, ensure};
use dewar_testkit::output;
use serde_json::Value;
use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    process::{self, Command},
};

/// What all names begin with, before the process id.
const PREFIX: &str = "dewar-bench-";

/// Addresses of one run: a net of 16, of which the first and the last are not for machines.
const ADDRESSES: u32 = 16;

/// The broker, workers, and the process that measures.
pub(super) const WORKERS_MAX: usize = 8;

/// Networks in 198.18.0.0/15, which are for benchmarks and nothing else.
const NETWORKS: u32 = (1 << 17) / ADDRESSES;

/// The link from the broker, as `tc` has it. The queue holds what a cheap router holds.
const LIMIT: [&str; 7] = ["tbf", "rate", "100mbit", "burst", "64kb", "latency", "50ms"];

/// What [`LIMIT`] lets through in a second.
pub(super) const LINK_BYTES_PER_S: f64 = 100e6 / 8.0;

/// A switch and its machines. Dropped, all are removed.
pub(super) struct Network {
    run: String,
    /// Made so far, to be removed.
    spaces: Vec<String>,
}

impl Network {
    /// Makes a network of a broker and so many workers, and connects this process to it.
    ///
    /// # Errors
    /// If it may not be made here; the text says why.
    pub(super) fn create(worker_count: usize) -> Result<Self> {
        ensure!(worker_count <= WORKERS_MAX, "at most {WORKERS_MAX} workers");
        ensure!(
            rustix::process::geteuid().is_root(),
            "network namespaces need root"
        );
        remove_leftovers();
        let mut network = Self {
            run: format!("{PREFIX}{}-", process::id()),
            spaces: Vec::new(),
        };
        // From here on, what was made is removed if the rest fails.
        network.make_switch()?;
        for n in 0..=worker_count {
            network.make_machine(n)?;
        }
        network.limit_broker()?;
        Ok(network)
    }

    /// The namespace of the broker.
    pub(super) fn broker(&self) -> &str {
        &self.spaces[1]
    }

    /// The namespace of the `n`-th worker, from 0.
    pub(super) fn worker(&self, n: usize) -> &str {
        &self.spaces[2 + n]
    }

    /// Where the broker listens, on any port.
    pub(super) fn broker_listen(&self) -> String {
        format!("{}:0", address(0))
    }

    /// Bytes that left the broker's machine, headers and all.
    pub(super) fn sent_bytes(&self) -> Result<u64> {
        let words = ["-n", self.broker(), "-s", "-j", "link", "show", "eth0"];
        let links: Value = serde_json::from_str(&output(Command::new("ip").args(words))?)?;
        links[0]["stats64"]["tx"]["bytes"]
            .as_u64()
            .context("ip counts what a link sent")
    }

    fn make_switch(&mut self) -> Result<()> {
        let switch = self.make_space("switch")?;
        ip(&format!("-n {switch} link add bridge0 type bridge"))?;
        ip(&format!("-n {switch} link set bridge0 up"))?;
        let (own, id) = (own_link(), process::id());
        ip(&format!(
            "-n {switch} link add own type veth peer name {own} netns {id}"
        ))?;
        ip(&format!("-n {switch} link set own master bridge0 up"))?;
        let address = address(WORKERS_MAX + 1);
        ip(&format!("addr add {address}/28 dev {own}"))?;
        ip(&format!("link set {own} up"))
    }

    fn make_machine(&mut self, n: usize) -> Result<()> {
        let switch = self.spaces[0].clone();
        let space = self.make_space(&n.to_string())?;
        ip(&format!(
            "-n {switch} link add port{n} type veth peer name eth0 netns {space}"
        ))?;
        ip(&format!("-n {switch} link set port{n} master bridge0 up"))?;
        let address = address(n);
        ip(&format!("-n {space} addr add {address}/28 dev eth0"))?;
        ip(&format!("-n {space} link set eth0 up"))?;
        ip(&format!("-n {space} link set lo up"))
    }

    fn make_space(&mut self, name: &str) -> Result<String> {
        let space = format!("{}{name}", self.run);
        ip(&format!("netns add {space}"))?;
        self.spaces.push(space.clone());
        Ok(space)
    }

    fn limit_broker(&self) -> Result<()> {
        let place = ["-n", self.broker(), "qdisc", "add", "dev", "eth0", "root"];
        output(Command::new("tc").args(place).args(LIMIT)).map(drop)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // It goes with its namespace too, but only some time later, and the next network has one of the same name.
        let _ = ip(&format!("link del {}", own_link()));
        for space in &self.spaces {
            // What is gone already need not be removed.
            let _ = ip(&format!("netns del {space}"));
        }
    }
}

/// This process's cable to the switch.
fn own_link() -> String {
    format!("dw{}", process::id())
}

/// The address of machine `n` in this run's net.
fn address(n: usize) -> Ipv4Addr {
    let net = u32::from(Ipv4Addr::new(198, 18, 0, 0));
    let n = u32::try_from(n).expect("a net has few addresses");
    Ipv4Addr::from(net + process::id() % NETWORKS * ADDRESSES + 1 + n)
}

/// Removes namespaces of runs that are dead, and ends the daemons that still run in them.
fn remove_leftovers() {
    for space in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let space = space.file_name().to_string_lossy().into_owned();
        if !is_leftover(&space, process::id()) {
            continue;
        }
        eprintln!("bench: removing {space}, which a run that was killed left behind");
        let pids = output(Command::new("ip").args(["netns", "pids", &space]));
        for pid in pids.unwrap_or_default().lines() {
            end(pid);
        }
        // Somebody else may have been quicker.
        let _ = ip(&format!("netns del {space}"));
    }
}

fn end(pid: &str) {
    let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may end by itself meanwhile.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Whether a namespace belongs to a run other than this one that is over. What has this process's id and is there
/// before this process made any was left by another, long ago.
fn is_leftover(space: &str, own: u32) -> bool {
    let rest = space.strip_prefix(PREFIX);
    let Some(pid) = rest.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok()) else {
        return false;
    };
    pid == own || !Path::new(&format!("/proc/{pid}")).exists()
}

fn ip(words: &str) -> Result<()> {
    output(Command::new("ip").args(words.split(' '))).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_dead_runs_made_is_left_over() {
        let own = process::id();
        assert!(is_leftover(&format!("{PREFIX}{own}-switch"), own));
        // Process 1 lives as long as the machine.
        assert!(!is_leftover(&format!("{PREFIX}1-3"), own));
        assert!(is_leftover(&format!("{PREFIX}4294967295-3"), own));
        assert!(!is_leftover("dewar-chaos-4294967295-3", own));
        assert!(!is_leftover(&format!("{PREFIX}x-3"), own));
    }

    #[test]
    fn addresses_stay_in_the_net_for_benchmarks() {
        for n in 0..=WORKERS_MAX + 1 {
            let [a, b, _, last] = address(n).octets();
            assert!(a == 198 && (b == 18 || b == 19));
            assert!(!matches!(last % 16, 0 | 15), "{last}");
        }
    }
}
