//! A bound on connections: those beyond it are told so, call by call, rather than left hanging.

use futures::{Stream, StreamExt as _};
use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tonic::{Request, Status, transport::server::Connected};

/// Connections at a time: the 10,000 workers one broker is made for, and their customers.
pub(super) const CONNECTION_COUNT_MAX: usize = 12_000;

/// A connection that is counted for as long as it lives.
pub(super) struct Counted {
    stream: TcpStream,
    standing: Standing,
    ends: Option<Ends>,
    count: Arc<AtomicUsize>,
}

/// What is known of a connection. In the extensions of its every call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connection {
    pub(crate) standing: Standing,
    /// Unknown if it broke at once.
    pub(crate) ends: Option<Ends>,
}

/// The addresses of a connection's two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The caller's.
    pub(crate) remote: IpAddr,
    /// Ours.
    pub(crate) local: IpAddr,
}

impl Ends {
    /// Whether the caller seems to be on this machine: its address is our own.
    pub(crate) fn is_same_machine(self) -> bool {
        self.remote == self.local
    }
}

/// The ends of the connection a call came on.
pub(super) fn ends<T>(request: &Request<T>) -> Option<Ends> {
    request.extensions().get::<Connection>()?.ends
}

/// Whether a connection came when there were too many.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Standing {
    /// It is one of those the broker has room for.
    Welcome,
    /// It is one too many.
    OneTooMany,
}

/// Counts connections as they come and go.
pub(super) fn counted(
    incoming: impl Stream<Item = io::Result<TcpStream>>,
) -> impl Stream<Item = io::Result<Counted>> {
    let count = Arc::new(AtomicUsize::new(0));
    incoming.map(move |stream| {
        let stream = stream?;
        let before = count.fetch_add(1, Ordering::Relaxed);
        let remote = stream.peer_addr().map(|address| address.ip());
        let local = stream.local_addr().map(|address| address.ip());
        Ok(Counted {
            stream,
            ends: remote
                .ok()
                .zip(local.ok())
                .map(|(remote, local)| Ends { remote, local }),
            standing: if before < CONNECTION_COUNT_MAX {
                Standing::Welcome
            } else {
                Standing::OneTooMany
            },
            count: count.clone(),
        })
    })
}

impl Standing {
    /// Refuses the calls of a connection too many.
    pub(super) fn check(self) -> Result<(), Status> {
        match self {
            Self::Welcome => Ok(()),
            Self::OneTooMany => Err(Status::resource_exhausted(format!(
                "{CONNECTION_COUNT_MAX} connections are open already; the broker takes no more"
            ))),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connected for Counted {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        Connection {
            standing: self.standing,
            ends: self.ends,
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn the_one_too_many_is_told_and_room_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = futures::stream::unfold(listener, |listener| async move {
            let stream = listener.accept().await.map(|(stream, _)| stream);
            Some((stream, listener))
        });
        let mut connections = std::pin::pin!(counted(accepted));
        let mut ends = vec![TcpStream::connect(address).await.unwrap()];
        let first = connections.next().await.unwrap().unwrap();
        assert!(first.standing.check().is_ok());
        // As if the others were there.
        first.count.store(CONNECTION_COUNT_MAX, Ordering::Relaxed);
        ends.push(TcpStream::connect(address).await.unwrap());
        let second = connections.next().await.unwrap().unwrap();
        let refused = second.standing.check().unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("12000 connections"));
        drop((first, second));
        ends.push(TcpStream::connect(address).await.unwrap());
        let third = connections.next().await.unwrap().unwrap();
        assert!(third.standing.check().is_ok());
    }
}
