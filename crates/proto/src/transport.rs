//! How customers and workers connect: the channel's settings and the token on every call.

use crate::limits;
use std::{net::IpAddr, str::FromStr, time::Duration};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

/// The name and secret that open a broker: `NAME.SECRET`. The name is the owner of what is submitted with it.
#[derive(Clone)]
pub struct Token {
    header: MetadataValue<Ascii>,
}

/// A token that is not of the form `NAME.SECRET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token has the form NAME.SECRET, printable and without spaces, as in the broker's file `token`"
)]
pub struct MalformedToken;

impl FromStr for Token {
    type Err = MalformedToken;

    fn from_str(text: &str) -> Result<Self, MalformedToken> {
        let text = text.trim();
        let (name, secret) = text.rsplit_once('.').ok_or(MalformedToken)?;
        if name.is_empty() || secret.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(MalformedToken);
        }
        let mut header =
            MetadataValue::from_str(&format!("Bearer {text}")).map_err(|_| MalformedToken)?;
        header.set_sensitive(true);
        Ok(Self { header })
    }
}

impl Token {
    /// What every call shows: a secret, to be hashed where it is to be told from another.
    pub fn shown(&self) -> &[u8] {
        self.header.as_bytes()
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert("authorization", self.header.clone());
        Ok(request)
    }
}

/// A connection that carries its token on every call.
pub type AuthorizedChannel = InterceptedService<Channel, Token>;

/// A channel to `HOST:PORT` that connects when first used and again whenever it must.
///
/// # Errors
/// If `address` is not a host and a port.
pub fn channel(address: &str, token: Token) -> Result<AuthorizedChannel, tonic::transport::Error> {
    channel_from(None, address, token)
}

/// As [`channel`], with connections made from an address of this machine.
///
/// # Errors
/// If `address` is not a host and a port.
pub fn channel_from(
    local: Option<IpAddr>,
    address: &str,
    token: Token,
) -> Result<AuthorizedChannel, tonic::transport::Error> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .local_address(local)
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .tcp_keepalive(Some(Duration::from_secs(20)))
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_frame_size(limits::FRAME_BYTES)
        .connect_lazy();
    Ok(InterceptedService::new(channel, token))
}
