//! A network namespace of one worker's own, with a cable that can be pulled: what the kernel does to a machine that is
//! cut off, rather than what a proxy makes of it. Needs root and Debian's iproute2.

use anyhow::Result;
use dewar_testkit::output;
use std::{
    net::Ipv4Addr,
    process::{Command, id},
};

/// Namespaces of one run at the most: each has four addresses of a net of 256.
const COUNT_MAX: u8 = 64;

/// A namespace and its cable. Dropped, both are removed.
pub(super) struct Namespace {
    /// As `ip netns exec` knows it.
    pub(super) name: String,
    /// This side of the cable.
    link: String,
    /// This side's address, which the namespace can reach.
    pub(super) host: Ipv4Addr,
}

impl Namespace {
    /// Makes the `n`-th namespace of this process. Names and addresses hold its process id, so that runs side by side do
    /// not meet.
    ///
    /// # Errors
    /// If it may not be made here.
    pub(super) fn create(n: u8) -> Result<Self> {
        anyhow::ensure!(n < COUNT_MAX, "{COUNT_MAX} namespaces are enough");
        let [.., high, low] = id().to_be_bytes();
        let address = |last| Ipv4Addr::new(10, 128 + high % 128, low, 4 * n + last);
        let namespace = Self {
            name: format!("dewar-chaos-{}-{n}", id()),
            link: format!("dw{}h{n}", id()),
            host: address(1),
        };
        let (name, link) = (&namespace.name, &namespace.link);
        let far_link = format!("dw{}w{n}", id());
        ip(&["netns", "add", name])?;
        // From here on, what was made is removed if the rest fails.
        ip(&[
            "link", "add", link, "type", "veth", "peer", "name", &far_link,
        ])?;
        ip(&["link", "set", &far_link, "netns", name])?;
        ip(&["addr", "add", &format!("{}/30", address(1)), "dev", link])?;
        ip(&["link", "set", link, "up"])?;
        let far_address = format!("{}/30", address(2));
        ip(&["-n", name, "addr", "add", &far_address, "dev", &far_link])?;
        ip(&["-n", name, "link", "set", &far_link, "up"])?;
        Ok(namespace)
    }

    /// Pulls the cable, or puts it in again.
    ///
    /// # Errors
    /// If that is refused.
    pub(super) fn plug(&self, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        ip(&["link", "set", &self.link, state])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The cable goes with either end; what never came to be need not be removed.
        let _ = ip(&["link", "del", &self.link]);
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(words: &[&str]) -> Result<()> {
    output(Command::new("ip").args(words)).map(drop)
}
