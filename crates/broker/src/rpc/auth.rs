//! Who calls: the token on every call, whose name is the owner of what is submitted with it.

use super::connections::Connection;
use crate::tokens::Tokens;
use std::sync::{Arc, atomic::Ordering};
use tonic::{Request, Status, service::Interceptor};

/// Name of the token a call came with.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Arc<str>);

/// Lets calls pass that carry a token of this broker.
#[derive(Clone)]
pub(crate) struct Auth {
    tokens: Arc<Tokens>,
}

impl Auth {
    pub(crate) fn new(tokens: Tokens) -> Self {
        Self {
            tokens: Arc::new(tokens),
        }
    }

    /// The tokens themselves.
    pub(crate) fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }
}

impl Interceptor for Auth {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(connection) = request.extensions().get::<Connection>() {
            connection.standing.check()?;
        }
        let header = request.metadata().get("authorization");
        let header = header.ok_or_else(|| {
            Status::unauthenticated(
                "no token: send `authorization: Bearer` with the contents of the broker's file `token`",
            )
        })?;
        let token = header.as_bytes().strip_prefix(b"Bearer ");
        match token.and_then(|token| self.tokens.owner_of(token)) {
            Some(owner) => {
                if let Some(connection) = request.extensions().get::<Connection>() {
                    connection.has_shown_token.store(true, Ordering::Relaxed);
                }
                request.extensions_mut().insert(Caller(owner));
                Ok(request)
            }
            None => Err(Status::unauthenticated(
                "the token is not this broker's; its file `token` has the right one",
            )),
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
