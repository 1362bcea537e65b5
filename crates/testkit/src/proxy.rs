//! The network between two programs, as bad as told: cut, half-open, slow, or clogged.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::sleep,
};

/// What a slow network adds to everything that is read at once.
const DELAY: Duration = Duration::from_millis(100);

/// What a dribbling network carries at once, and how long each of them takes: 20 KB/s.
const DROP_BYTES: usize = 1 << 10;
const DROP_EVERY: Duration = Duration::from_millis(50);

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything travels.
    Open,
    /// Connections are closed, and new ones at once.
    Cut,
    /// Connections stay, and nothing travels.
    Held,
    /// Everything travels late.
    Slow,
    /// Everything travels at 20 KB/s.
    Dribbling,
    /// What has carried about so many bytes one way carries no more that way; each connection counts for itself.
    Clogging(u64),
}

/// A listening proxy. Dropped, it goes on until the runtime ends.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    clogged: watch::Receiver<usize>,
}

/// How one connection is to be, and whom to tell how it is.
#[derive(Clone)]
struct Network {
    mode: watch::Receiver<Mode>,
    /// Ways that carry no more.
    clogged: watch::Sender<usize>,
}

impl Proxy {
    /// Forwards to `target` whatever connects to `host`, from the address `from` of this machine.
    ///
    /// # Errors
    /// If there is no port to be had on `host`.
    pub async fn start(host: Ipv4Addr, from: Ipv4Addr, target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        let (mode, changes) = watch::channel(Mode::Open);
        let (sender, clogged) = watch::channel(0);
        let network = Network {
            mode: changes,
            clogged: sender,
        };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(relay(near, from, target, network.clone()));
            }
        });
        Ok(Self {
            address,
            mode,
            clogged,
        })
    }

    /// Makes the network so from now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Waits until so many ways of connections are clogged, each connection having two.
    pub async fn until_clogged(&self, count: usize) {
        let mut clogged = self.clogged.clone();
        // It is told of for as long as the proxy lives.
        let _ = clogged.wait_for(|clogged| *clogged >= count).await;
    }
}

/// One connection, until either end closes it, or it is cut.
async fn relay(near: TcpStream, from: Ipv4Addr, target: SocketAddr, network: Network) {
    let mut cut = network.mode.clone();
    let forwarded = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let far = socket.connect(target).await?;
        far.set_nodelay(true)?;
        near.set_nodelay(true)?;
        let (from_near, to_near) = near.into_split();
        let (from_far, to_far) = far.into_split();
        tokio::select! {
            ended = pump(from_near, to_far, network.clone()) => ended,
            ended = pump(from_far, to_near, network.clone()) => ended,
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
    mut network: Network,
) -> io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    let mut carried = 0;
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        let Some(mode) = network.passable(carried).await else {
            return Ok(());
        };
        carried += count as u64;
        let at_once = match mode {
            Mode::Dribbling => DROP_BYTES,
            _ => count,
        };
        for piece in bytes[..count].chunks(at_once) {
            match mode {
                Mode::Slow => sleep(DELAY).await,
                Mode::Dribbling => sleep(DROP_EVERY).await,
                Mode::Open | Mode::Cut | Mode::Held | Mode::Clogging(_) => {}
            }
            to.write_all(piece).await?;
        }
    }
}

impl Mode {
    fn is_clogged(self, carried: u64) -> bool {
        matches!(self, Self::Clogging(most) if carried >= most)
    }
}

impl Network {
    /// Waits until something may travel on a way that has carried so much. None when nothing will any more.
    async fn passable(&mut self, carried: u64) -> Option<Mode> {
        if self.mode.borrow().is_clogged(carried) {
            self.clogged.send_modify(|clogged| *clogged += 1);
        }
        let passable = |mode: &Mode| *mode != Mode::Held && !mode.is_clogged(carried);
        let mode = self.mode.wait_for(passable).await;
        mode.ok().map(|mode| *mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A proxy before a server that says everything again.
    async fn parrot() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut peer, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = peer.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        let here = Ipv4Addr::LOCALHOST;
        Proxy::start(here, here, address).await.unwrap()
    }

    #[tokio::test]
    async fn a_held_connection_says_nothing_until_it_is_open_and_a_cut_one_ends() {
        let proxy = parrot().await;
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
    #[tokio::test]
    async fn a_clogged_connection_holds_up_no_other() {
        let proxy = parrot().await;
        proxy.set(Mode::Clogging(2));
        let mut clogged = TcpStream::connect(proxy.address).await.unwrap();
        let mut heard = [0; 2];
        clogged.write_all(b"hi").await.unwrap();
        clogged.read_exact(&mut heard).await.unwrap();
        clogged.write_all(b"yo").await.unwrap();
        timeout(PATIENCE, proxy.until_clogged(1)).await.unwrap();
        let mut other = TcpStream::connect(proxy.address).await.unwrap();
        other.write_all(b"ok").await.unwrap();
        timeout(PATIENCE, other.read_exact(&mut heard))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&heard, b"ok");
        proxy.set(Mode::Dribbling);
        timeout(PATIENCE, clogged.read_exact(&mut heard))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&heard, b"yo");
    }
}
