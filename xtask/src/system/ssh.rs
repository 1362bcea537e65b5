//! Workers started over ssh, by OpenSSH's own daemon.

use super::{
    Kit,
    lab::{ACCOUNT, LIMIT, Lab},
};
use anyhow::{Result, ensure};
use dewar_testkit::wait_until;

pub fn run(kit: &Kit) -> Result<()> {
    let lab = Lab::open(kit)?;
    lab.machine.run(
        "printf '127.0.1.1 node1\\n127.0.1.1 node2\\n' >> /etc/hosts
         systemctl start ssh",
    )?;
    dewar_testkit::run(&mut lab.person(
        "mkdir --mode 700 .ssh
         ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519
         cp .ssh/id_ed25519.pub .ssh/authorized_keys
         echo 'StrictHostKeyChecking accept-new' > .ssh/config
         dewar worker-script ssh --slots 1 --token-file dewar-token --exit-when-idle 5s > workers.sh
         sh workers.sh node1 node2",
    ))?;
    lab.await_workers(2)?;
    let token = lab
        .machine
        .ask(&format!("stat --format %a /home/{ACCOUNT}/.dewar-token"))?;
    ensure!(token.trim() == "600", "the token's copy has mode {token}");
    let refinement = lab.start_refinement("over-ssh")?;
    lab.finish(refinement, "over-ssh")?;
    wait_until("the workers to leave", LIMIT, || {
        let left = lab
            .machine
            .ask(&format!("pgrep -u {ACCOUNT} dewar-worker || true"))?;
        Ok(left.is_empty())
    })
}
