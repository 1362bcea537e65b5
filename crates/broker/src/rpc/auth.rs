//! Who calls: the token on every call, whose name is the owner of what is submitted with it.

use super::connections::Standing;
use std::sync::Arc;
use tonic::{Request, Status, service::Interceptor};

/// Name of the token a call came with.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Arc<str>);

/// Lets calls pass that carry the broker's token.
#[derive(Clone)]
pub(crate) struct Auth {
    caller: Caller,
    /// Hashes are compared, in constant time, so that the time taken says nothing about the token.
    expected: blake3::Hash,
}

impl Auth {
    /// For a token `NAME.SECRET`.
    pub(crate) fn new(token: &str) -> Self {
        let name = token.rsplit_once('.').map_or(token, |(name, _)| name);
        Self {
            caller: Caller(name.into()),
            expected: blake3::hash(token.as_bytes()),
        }
    }
}

impl Interceptor for Auth {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(standing) = request.extensions().get::<Standing>() {
            standing.check()?;
        }
        let header = request.metadata().get("authorization");
        let header = header.ok_or_else(|| {
            Status::unauthenticated(
                "no token: send `authorization: Bearer` with the contents of the broker's file `token`",
            )
        })?;
        let token = header.as_bytes().strip_prefix(b"Bearer ");
        if token.is_some_and(|token| blake3::hash(token) == self.expected) {
            request.extensions_mut().insert(self.caller.clone());
            Ok(request)
        } else {
            Err(Status::unauthenticated(
                "the token is not this broker's; its file `token` has the right one",
            ))
        }
    }
}

/// The caller's name. Only calls without [`Auth`] before them have none.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>();
    caller
        .cloned()
        .ok_or_else(|| Status::unauthenticated("no token"))
}
