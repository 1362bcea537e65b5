//! The network between one worker and the broker, as bad as told: cut, half-open, or slow.

use anyhow::Result;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::sleep,
};

/// What a slow network adds to everything that is read at once.
const DELAY: Duration = Duration::from_millis(100);

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Open,
    /// Connections are closed, and new ones at once.
    Cut,
    /// Connections stay, and nothing travels.
    Held,
    /// Everything travels late.
    Slow,
}

/// A listening proxy. Dropped, it goes on until the runtime ends.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    /// Forwards to `broker` whatever connects to `host`.
    pub(super) async fn start(host: Ipv4Addr, broker: String) -> Result<Self> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        let (mode, changes) = watch::channel(Mode::Open);
        tokio::spawn(async move {
            while let Ok((worker, _)) = listener.accept().await {
                tokio::spawn(relay(worker, broker.clone(), changes.clone()));
            }
        });
        Ok(Self { address, mode })
    }

    pub(super) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

/// One connection, until either end closes it, or it is cut.
async fn relay(worker: TcpStream, broker: String, mode: watch::Receiver<Mode>) {
    let mut cut = mode.clone();
    let forwarded = async {
        let broker = TcpStream::connect(broker).await?;
        broker.set_nodelay(true)?;
        worker.set_nodelay(true)?;
        let (from_worker, to_worker) = worker.into_split();
        let (from_broker, to_broker) = broker.into_split();
        tokio::select! {
            ended = pump(from_worker, to_broker, mode.clone()) => ended,
            ended = pump(from_broker, to_worker, mode.clone()) => ended,
        }
    };
    // However it ends, both ends see their connection closed.
    tokio::select! {
        _ = forwarded => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
) -> io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        let is_slow = match mode.wait_for(|mode| *mode != Mode::Held).await {
            Ok(mode) => *mode == Mode::Slow,
            Err(_) => return Ok(()),
        };
        if is_slow {
            sleep(DELAY).await;
        }
        to.write_all(&bytes[..count]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A server that says everything again.
    async fn parrot() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut peer, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = peer.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn a_held_connection_says_nothing_until_it_is_open_and_a_cut_one_ends() {
        let proxy = Proxy::start(Ipv4Addr::LOCALHOST, parrot().await)
            .await
            .unwrap();
        let mut peer = TcpStream::connect(proxy.address).await.unwrap();
        let mut heard = [0; 2];
        peer.write_all(b"hi").await.unwrap();
        timeout(PATIENCE, peer.read_exact(&mut heard))
            .await
            .unwrap()
            .unwrap();
        proxy.set(Mode::Held);
        peer.write_all(b"yo").await.unwrap();
        let early = timeout(Duration::from_millis(50), peer.read_exact(&mut heard)).await;
        assert!(early.is_err(), "nothing travels");
        proxy.set(Mode::Open);
        timeout(PATIENCE, peer.read_exact(&mut heard))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&heard, b"yo");
        proxy.set(Mode::Cut);
        let ended = timeout(PATIENCE, peer.read(&mut heard)).await.unwrap();
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
}
