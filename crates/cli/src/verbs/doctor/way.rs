//! The way to the broker: its name, its port, what answers there, the token, the protocol.

use super::finding::Finding;
use dewar_sdk::{BrokerStatus, CallError, Client, ConnectError, ConnectOptions, Token};
use dewar_settings::ConnectArgs;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// How long a name may take to be resolved.
const NAME_WITHIN: Duration = Duration::from_secs(10);

/// How long a port may take to answer: the other end of the world takes a third of a second.
const PORT_WITHIN: Duration = Duration::from_secs(3);

/// How long the broker may take to answer for the first time, once its port did.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What others send first who wait for nobody's word, such as ssh.
const GREETING_WITHIN: Duration = Duration::from_millis(300);

/// Opens nothing, but a broker refuses it in words of its own.
const NO_TOKEN: &str = "doctor.none";

/// Goes the way as far as it leads.
pub async fn examine(
    connect: &ConnectArgs,
    findings: &mut Vec<Finding>,
) -> Option<(Client, BrokerStatus)> {
    let address = &connect.broker;
    let token = token(connect, findings);
    let resolved = name(address, findings).await;
    let port = match &resolved {
        Some(addresses) => port(address, addresses, findings).await,
        None => {
            findings.push(Finding::skipped("port", "the name is not resolved"));
            None
        }
    };
    let Some(port) = port else {
        for check in ["broker", "access", "protocol"] {
            findings.push(Finding::skipped(check, "no port answers"));
        }
        return None;
    };
    broker(address, port, token, findings).await
}

fn token(connect: &ConnectArgs, findings: &mut Vec<Finding>) -> Option<Token> {
    const TRIED: &str = "find a token (--token-file, DEWAR_TOKEN, this account's own broker)";
    const CURE: &str = "copy the file `token` from the broker's data folder to this machine, and name it with --token-file";
    let token = match connect.token() {
        Ok(token) => token,
        Err(error) => {
            findings.push(Finding::failed("token", TRIED, text_of(&error), CURE));
            return None;
        }
    };
    match token.parse::<Token>() {
        Ok(parsed) => {
            let owner = token.rsplit_once('.').map_or("", |(owner, _)| owner);
            findings.push(Finding::ok("token", TRIED, format!("one of {owner}")));
            Some(parsed)
        }
        Err(error) => {
            findings.push(Finding::failed("token", TRIED, error.to_string(), CURE));
            None
        }
    }
}

async fn name(address: &str, findings: &mut Vec<Finding>) -> Option<Vec<SocketAddr>> {
    let host = address
        .rsplit_once(':')
        .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let Some((host, _)) = host else {
        let tried = format!("read the address {address:?}");
        let cure = "write HOST:PORT, such as titan:9990, after --broker or into DEWAR_BROKER";
        findings.push(Finding::failed("name", tried, "it is not HOST:PORT", cure));
        return None;
    };
    let tried = format!("resolve {host}");
    let cure = format!(
        "check the spelling of {host}; `getent hosts {host}` must find it on this machine; else give the broker's IP address instead"
    );
    let came = match timeout(NAME_WITHIN, lookup_host(address)).await {
        Ok(Ok(addresses)) => {
            let addresses: Vec<_> = addresses.collect();
            if !addresses.is_empty() {
                let ips = addresses.iter().map(|address| address.ip().to_string());
                let ips = ips.collect::<Vec<_>>().join(", ");
                findings.push(Finding::ok("name", tried, ips));
                return Some(addresses);
            }
            "no address".to_owned()
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", NAME_WITHIN.as_secs()),
    };
    findings.push(Finding::failed("name", tried, came, cure));
    None
}

async fn port(
    address: &str,
    addresses: &[SocketAddr],
    findings: &mut Vec<Finding>,
) -> Option<SocketAddr> {
    let mut came = Vec::new();
    let mut is_refused = false;
    for candidate in addresses {
        match timeout(PORT_WITHIN, TcpStream::connect(candidate)).await {
            Ok(Ok(_)) => {
                let tried = format!("connect to {candidate}");
                findings.push(Finding::ok("port", tried, "it answers"));
                return Some(*candidate);
            }
            Ok(Err(error)) => {
                is_refused |= error.kind() == io::ErrorKind::ConnectionRefused;
                came.push(format!("{candidate}: {error}"));
            }
            Err(_) => came.push(format!(
                "{candidate}: no answer within {} s",
                PORT_WITHIN.as_secs()
            )),
        }
    }
    let cure = if is_refused {
        "the machine is there, but nothing listens on that port: start dewar-broker on it (for other machines to reach it with \
         --listen 0.0.0.0:9990 --insecure), or correct the port; it prints where it listens"
    } else {
        "is the machine up, and does a firewall on the way let that TCP port pass? `nc -vz` with host and port tries the same"
    };
    findings.push(Finding::failed(
        "port",
        format!("connect to {address}"),
        came.join("; "),
        cure,
    ));
    None
}

async fn broker(
    address: &str,
    port: SocketAddr,
    token: Option<Token>,
    findings: &mut Vec<Finding>,
) -> Option<(Client, BrokerStatus)> {
    let has_token = token.is_some();
    let token = token.or_else(|| NO_TOKEN.parse().ok())?;
    let options = ConnectOptions {
        reach_within: ANSWER_WITHIN,
        ..ConnectOptions::default()
    };
    let tried = format!("ask what is at {address}");
    let access_tried = "show it the token";
    let is_broker = |findings: &mut Vec<Finding>| {
        findings.push(Finding::ok("broker", tried.clone(), "a dewar-broker"));
    };
    match Client::connect_with(address, token, options).await {
        Ok(client) => {
            is_broker(findings);
            findings.push(Finding::ok("access", access_tried, "accepted"));
            let status = timeout(ANSWER_WITHIN, client.status()).await;
            let Ok(Ok(status)) = status else {
                let cure = "it answered a moment ago: try again, and look at its log";
                findings.push(Finding::failed(
                    "protocol",
                    "ask for its status",
                    "no answer",
                    cure,
                ));
                return None;
            };
            findings.push(protocol(&status));
            Some((client, status))
        }
        Err(ConnectError::Call(CallError::Token { message })) => {
            is_broker(findings);
            findings.push(match has_token {
                true => Finding::failed(
                    "access",
                    access_tried,
                    message,
                    "the token is another broker's, or was taken away: copy the file `token` from this broker's data folder again, or \
                     have its administrator make one with dewar-broker --add-owner",
                ),
                false => Finding::skipped("access", "there is no token to show"),
            });
            findings.push(Finding::skipped(
                "protocol",
                "the broker does not answer without a token",
            ));
            None
        }
        Err(ConnectError::Incompatible(error)) => {
            is_broker(findings);
            findings.push(Finding::ok("access", access_tried, "accepted"));
            let tried = "compare protocols";
            let cure = format!(
                "install the same release on both machines; this one has dewar {}",
                env!("CARGO_PKG_VERSION")
            );
            findings.push(Finding::failed("protocol", tried, error.to_string(), cure));
            None
        }
        Err(error) => {
            let greeting = greeting(port).await;
            let came = match (&error, greeting) {
                (_, Some(greeting)) => format!("something else: it says {greeting:?}"),
                (ConnectError::NotReached { reason, .. }, None) => {
                    format!("something answers the port, but not as a dewar-broker does: {reason}")
                }
                (error, None) => text_of(error),
            };
            let cure = "another program listens on that port (on its machine, `ss -ltnp` says which): give the port that dewar-broker \
                        printed when it started, 9990 to 9999 unless --listen says otherwise";
            findings.push(Finding::failed("broker", tried, came, cure));
            for check in ["access", "protocol"] {
                findings.push(Finding::skipped(check, "there is no broker to ask"));
            }
            None
        }
    }
}

/// What a server says before it is asked, in a word.
async fn greeting(port: SocketAddr) -> Option<String> {
    let mut stream = timeout(PORT_WITHIN, TcpStream::connect(port))
        .await
        .ok()?
        .ok()?;
    let mut bytes = [0; 64];
    let count = timeout(GREETING_WITHIN, stream.read(&mut bytes))
        .await
        .ok()?
        .ok()?;
    let said = std::str::from_utf8(&bytes[..count]).ok()?.trim();
    (!said.is_empty()).then(|| said.to_owned())
}

fn protocol(status: &BrokerStatus) -> Finding {
    let own = dewar_sdk::PROTOCOL;
    let tried = format!("compare protocols, {}.{} here", own.major, own.minor);
    let theirs = status.protocol;
    let came = format!(
        "{}.{} there, of dewar {} beside {} here",
        theirs.major,
        theirs.minor,
        status.program_version,
        env!("CARGO_PKG_VERSION")
    );
    if theirs.minor < own.minor {
        let cure = "work goes on, but some verbs need a later broker: install this release there when it suits";
        return Finding::warning("protocol", tried, came, cure);
    }
    Finding::ok("protocol", tried, came)
}

/// An error and its causes in one line.
pub fn text_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
