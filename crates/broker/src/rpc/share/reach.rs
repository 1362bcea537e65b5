//! Where a worker is: its address, whether that leads to it, and its site.

use super::convert;
use crate::swarm::{SwarmHandle, Unreached};
use dewar_blobs::{BlobClient, Digest};
use dewar_proto::{Token, transport};
use dewar_queue::WorkerId;
use std::{net::IpAddr, time::Duration};
use tokio::time::{sleep, timeout};
use tonic::Status;

/// How long a worker's data port may take to answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Pauses before tries to reach it: it may hear of its token only a moment after the broker dials.
const DIAL_PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

/// Offers a worker to others once the broker has reached it itself.
pub(super) async fn dial(
    swarm: &SwarmHandle,
    (worker, session): (WorkerId, u64),
    address: String,
    peer_token: &str,
) {
    for pause in DIAL_PAUSES {
        sleep(pause).await;
        match reach(&address, peer_token).await {
            Ok(()) => {
                // If the swarm is gone, nobody is offered.
                let _ = swarm.reached(worker, session, address.into()).await;
                return;
            }
            Err(reason) => {
                tracing::debug!(%address, reason, "a worker's data port was not reached");
                let unreached = Unreached {
                    address: address.as_str().into(),
                    reason: reason.into(),
                };
                let _ = swarm.unreached(worker, session, unreached).await;
            }
        }
    }
    tracing::info!(%address, "a worker cannot be reached, so others do not fetch from it");
}

async fn reach(address: &str, token: &str) -> Result<(), String> {
    let token: Token = token
        .parse()
        .map_err(|_| "the token is malformed".to_owned())?;
    let channel = transport::channel(address, token).map_err(|error| error.to_string())?;
    let client = BlobClient::new(channel);
    match timeout(DIAL_TIMEOUT, client.stat(&Digest([0; 32]))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err("no answer".to_owned()),
    }
}

/// Where peers reach a worker, if it says so. A host left out is the one the broker sees.
pub(super) fn data_address(said: &str, remote: Option<IpAddr>) -> Result<Option<String>, Status> {
    const FIELD: &str = "hello.data_address";
    if said.is_empty() {
        return Ok(None);
    }
    let said = convert::name(FIELD, said)?;
    let Some((host, port)) = said.rsplit_once(':') else {
        return Err(convert::invalid(FIELD, "is not HOST:PORT"));
    };
    if port.parse::<u16>().is_err() {
        return Err(convert::invalid(FIELD, "has no port"));
    }
    let host = match (host, remote) {
        ("", Some(IpAddr::V6(ip))) => format!("[{ip}]"),
        ("", Some(ip)) => ip.to_string(),
        ("", None) => return Ok(None),
        (host, _) => host.to_owned(),
    };
    Ok(Some(format!("{host}:{port}")))
}

/// The site of a worker that names none: its subnet.
pub(in crate::rpc) fn subnet(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => subnet(ip.into()),
            None => {
                let [a, b, c, d, ..] = ip.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_without_a_host_are_where_the_broker_sees_the_worker() {
        let seen = Some("10.1.2.3".parse().unwrap());
        let check = |said, remote| data_address(said, remote).ok();
        assert_eq!(check("", seen), Some(None));
        assert_eq!(check(":7000", seen), Some(Some("10.1.2.3:7000".into())));
        let six = Some("fd00::1".parse().unwrap());
        assert_eq!(check(":7000", six), Some(Some("[fd00::1]:7000".into())));
        assert_eq!(check("node7:7000", seen), Some(Some("node7:7000".into())));
        assert_eq!(check(":7000", None), Some(None));
        assert_eq!(check("node7", seen), None);
        assert_eq!(check("node7:99999", seen), None);
    }

    #[test]
    fn a_subnet_is_the_site_of_those_who_name_none() {
        let check = |ip: &str| subnet(ip.parse().unwrap());
        assert_eq!(check("10.1.2.3"), "10.1.2.0/24");
        assert_eq!(check("::ffff:10.1.2.3"), "10.1.2.0/24");
        assert_eq!(check("fd00:1:2:3:4::5"), "fd00:1:2:3::/64");
    }
}
