//! A bound on connections: those a little beyond it are told so, call by call, and more are closed at once.
//!
//! Whoever can reach the port can open one, token or not, so each must say the first words of HTTP/2 soon and show a token
//! before long, and together they leave files for the store to open: a broker that cannot write ends. Browsers, which say
//! HTTP/1.1, have few places and less time, so that they never take those of workers.

use super::jobs::OPEN_ON_CONNECTION_MAX;
use futures::{Stream, StreamExt as _};
use rustix::process::{Resource, getrlimit};
use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Request, Status, transport::server::Connected};

/// Connections at a time: the 10,000 workers one broker is made for, and their customers.
const CONNECTION_COUNT_MAX: usize = 12_000;

/// Files that are left to the store, the blobs and the imports, however many connections there could be.
const FILE_COUNT_RESERVE: usize = 1024;

/// Connections beyond the bound that are told so.
const TOLD_COUNT_MAX: usize = 32;

/// Bytes with which every client of HTTP/2 begins (RFC 9113, 3.4).
const PREFACE_BYTES: u64 = 24;

/// How long a connection may take to say them, and how long one too many is kept.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one may be open without a token: enough for whoever only asks after the broker's health.
const TOKEN_PATIENCE: Duration = Duration::from_secs(60);

/// The first bytes of that preface: no request of HTTP/1 begins so.
const PREFACE_BEGIN: &[u8] = b"PRI ";

/// Connections of browsers and scrapers at a time. Each may make the broker hold as many bytes of headers as HTTP/1's
/// parser takes: 400 kB.
const HTTP1_COUNT_MAX: usize = 256;

/// How long one of those may be open without a token: enough to fetch the form in which one is typed.
const HTTP1_TOKEN_PATIENCE: Duration = Duration::from_secs(20);

/// Pause after a connection could not be taken: for want of files that would be at once, and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    count_max: usize,
    told_count_max: usize,
    http1_count_max: usize,
}

/// A connection that is counted for as long as it lives.
pub(super) struct Counted {
    stream: TcpStream,
    standing: Standing,
    ends: Option<Ends>,
    read_bytes: Arc<AtomicU64>,
    /// When it is closed, until it has shown a token.
    closes: Option<Closes>,
    has_shown_token: Arc<AtomicBool>,
    http1: Http1,
    count: Arc<AtomicUsize>,
}

/// Whether a connection is one of HTTP/1, which have few places.
enum Http1 {
    /// Its first bytes have not come.
    Unknown {
        begun: Vec<u8>,
        places: Arc<Semaphore>,
    },
    /// It is not.
    No,
    /// It is, and has a place.
    Yes(#[allow(dead_code, reason = "held for as long as the connection")] OwnedSemaphorePermit),
}

/// What ends a connection that has shown no token.
struct Closes {
    time: Pin<Box<Sleep>>,
    /// The broker stops. It says goodbye to whoever has begun; the others would keep it waiting.
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What is known of a connection. In the extensions of its every call.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) standing: Standing,
    /// Unknown if it broke at once.
    pub(crate) ends: Option<Ends>,
    /// Turns of its submits.
    pub(crate) submits: Arc<Semaphore>,
    /// Set by the first call with a token of this broker.
    pub(crate) has_shown_token: Arc<AtomicBool>,
    /// What has come on it so far: a message that is on its way on a slow link is no silence.
    pub(crate) read_bytes: Arc<AtomicU64>,
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
    OneTooMany {
        /// For how many there is room.
        count_max: usize,
    },
}

impl Bounds {
    /// What this process may open, which its limit on files may make less.
    pub(super) fn of_process() -> Self {
        let file_count = getrlimit(Resource::Nofile).current;
        let file_count =
            file_count.map_or(usize::MAX, |count| count.try_into().unwrap_or(usize::MAX));
        Self::within(file_count)
    }

    fn within(file_count: usize) -> Self {
        let reserve = FILE_COUNT_RESERVE.min(file_count / 2);
        let count_max = CONNECTION_COUNT_MAX.min(file_count - reserve);
        Self {
            count_max,
            told_count_max: TOLD_COUNT_MAX.min(count_max / 8),
            http1_count_max: HTTP1_COUNT_MAX.min(count_max / 4),
        }
    }
}

/// Counts connections as they come and go.
pub(super) fn counted(
    incoming: impl Stream<Item = io::Result<TcpStream>>,
    bounds: Bounds,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<Counted>> {
    let count = Arc::new(AtomicUsize::new(0));
    let places = Arc::new(Semaphore::new(bounds.http1_count_max));
    incoming.filter_map(move |stream| {
        let counted = stream.map(|stream| Counted::new(stream, &count, &places, bounds, &stop));
        async move {
            if counted.is_err() {
                sleep(ACCEPT_PAUSE).await;
            }
            counted.transpose()
        }
    })
}

impl Counted {
    /// None if not even to be told.
    fn new(
        stream: TcpStream,
        count: &Arc<AtomicUsize>,
        places: &Arc<Semaphore>,
        bounds: Bounds,
        stop: &CancellationToken,
    ) -> Option<Self> {
        let Bounds {
            count_max,
            told_count_max,
            ..
        } = bounds;
        let before = count.fetch_add(1, Ordering::Relaxed);
        if before >= count_max + told_count_max {
            count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let remote = stream.peer_addr().map(|address| address.ip());
        let local = stream.local_addr().map(|address| address.ip());
        let ends = remote.ok().zip(local.ok());
        Some(Self {
            stream,
            ends: ends.map(|(remote, local)| Ends { remote, local }),
            standing: match before < count_max {
                true => Standing::Welcome,
                false => Standing::OneTooMany { count_max },
            },
            read_bytes: Arc::default(),
            closes: Some(Closes {
                time: Box::pin(sleep(PATIENCE)),
                stop: Box::pin(stop.clone().cancelled_owned()),
            }),
            has_shown_token: Arc::default(),
            http1: Http1::Unknown {
                begun: Vec::with_capacity(PREFACE_BEGIN.len()),
                places: places.clone(),
            },
            count: count.clone(),
        })
    }
}

impl Counted {
    /// Sees to it that it ends when it has not shown in time what it must.
    ///
    /// # Errors
    /// Once it has to end.
    fn keep_time(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let is_welcome = matches!(self.standing, Standing::Welcome);
        if is_welcome && self.has_shown_token.load(Ordering::Relaxed) {
            self.closes = None;
        }
        let is_over = self.closes.as_mut().is_some_and(|closes| {
            closes.time.as_mut().poll(context).is_ready()
                || closes.stop.as_mut().poll(context).is_ready()
        });
        if is_over {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// Finds out from the first bytes what a connection speaks.
    ///
    /// # Errors
    /// If it is one of HTTP/1 too many.
    fn tell_protocol(&mut self, came: &[u8]) -> io::Result<()> {
        let Http1::Unknown { begun, places } = &mut self.http1 else {
            return Ok(());
        };
        let wanted = PREFACE_BEGIN.len() - begun.len();
        begun.extend(came.iter().take(wanted));
        if *begun == PREFACE_BEGIN {
            self.http1 = Http1::No;
        } else if !PREFACE_BEGIN.starts_with(begun) {
            let place = places.clone().try_acquire_owned();
            let place = place.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            self.http1 = Http1::Yes(place);
        }
        Ok(())
    }

    fn token_patience(&self) -> Duration {
        match self.http1 {
            Http1::Yes(_) => HTTP1_TOKEN_PATIENCE,
            Http1::No | Http1::Unknown { .. } => TOKEN_PATIENCE,
        }
    }
}

impl Standing {
    /// Refuses the calls of a connection too many.
    pub(super) fn check(self) -> Result<(), Status> {
        match self {
            Self::Welcome => Ok(()),
            Self::OneTooMany { count_max } => Err(Status::resource_exhausted(format!(
                "{count_max} connections are open already; the broker takes no more"
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
            submits: Arc::new(Semaphore::new(OPEN_ON_CONNECTION_MAX)),
            has_shown_token: self.has_shown_token.clone(),
            read_bytes: self.read_bytes.clone(),
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.keep_time(context)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let came = (buffer.filled().len() - before) as u64;
        let fresh = &buffer.filled()[before..];
        if let Err(error) = self.tell_protocol(fresh) {
            return Poll::Ready(Err(error));
        }
        let read_before = self.read_bytes.fetch_add(came, Ordering::Relaxed);
        let had_begun = read_before >= PREFACE_BYTES;
        let has_begun = read_before + came >= PREFACE_BYTES;
        if has_begun && !had_begun && matches!(self.standing, Standing::Welcome) {
            let patience = self.token_patience();
            if let Some(closes) = &mut self.closes {
                closes.time.as_mut().reset(Instant::now() + patience);
            }
        }
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Also here: whoever takes no answers is not read from any more.
        self.keep_time(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.keep_time(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.keep_time(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
