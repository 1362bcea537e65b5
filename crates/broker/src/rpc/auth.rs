//! Who calls: the token on every call, whose name is the owner of what is submitted with it, and what that owner may change.

use super::connections::Connection;
use crate::tokens::{Rank, Tokens};
use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};
use tonic::{Request, Status, service::Interceptor};

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Name of the token the call came with.
    pub(crate) owner: Arc<str>,
    /// What that token opens.
    pub(crate) rank: Rank,
}

impl Caller {
    /// Owners change what is theirs, administrators everything.
    ///
    /// # Errors
    /// If it is another's; the text names whose.
    pub(crate) fn may_change(&self, what: impl fmt::Display, owner: &str) -> Result<(), Status> {
        if self.rank == Rank::Administrator || *self.owner == *owner {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "{what} belongs to {owner}, and your token is {}'s; only {owner} may change it, or an administrator with the \
             broker's own token",
            self.owner
        )))
    }

    /// What is done to everybody's is an administrator's to do.
    ///
    /// # Errors
    /// If the caller is none; the text says what is possible instead.
    pub(crate) fn may_change_all(&self, what: &str, instead: &str) -> Result<(), Status> {
        if self.rank == Rank::Administrator {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "{what} belong to several owners, and your token is {}'s; {instead}, or ask an administrator, who has the \
             broker's own token",
            self.owner
        )))
    }
}

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
        match token.and_then(|token| self.tokens.holder_of(token)) {
            Some((owner, rank)) => {
                if let Some(connection) = request.extensions().get::<Connection>() {
                    connection.has_shown_token.store(true, Ordering::Relaxed);
                }
                request.extensions_mut().insert(Caller { owner, rank });
                Ok(request)
            }
            None => Err(Status::unauthenticated(
                "the token is not this broker's; its file `token` has the right one",
            )),
        }
    }
}

/// Who calls. Only calls without [`Auth`] before them have none.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>();
    caller
        .cloned()
        .ok_or_else(|| Status::unauthenticated("no token"))
}
