//! View tokens: what opens the broker's web page and its metrics, and nothing else.
//!
//! One is made of each owner's token, by whoever has that: a browser or a Prometheus that is given it can look and change
//! nothing, and when the owner's token is taken away it is worth nothing either.

use crate::Token;

/// What makes this hash another than all others. Never changes: it would close all browsers out.
const CONTEXT: &str = "dewar 2026-11-30 token that only looks";

/// The view token of an owner's token: `view.NAME.SECRET`.
#[must_use]
pub fn view_token(token: &str) -> String {
    let name = token.rsplit_once('.').map_or(token, |(name, _)| name);
    let secret = blake3::derive_key(CONTEXT, token.as_bytes());
    format!("view.{name}.{}", blake3::Hash::from_bytes(secret).to_hex())
}

impl Token {
    /// What opens the web page of the brokers that this token opens.
    #[must_use]
    pub fn view_token(&self) -> String {
        let shown = String::from_utf8_lossy(self.shown());
        view_token(shown.strip_prefix("Bearer ").unwrap_or(&shown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_changes_and_is_no_token_of_a_broker() {
        let token = "ann.0123456789abcdef";
        let view = view_token(token);
        assert_eq!(
            view,
            "view.ann.95ed6f41b39227c6aee233016a2d1f4e0fdccdd94fa785dbd72f4f020cdeda06"
        );
        assert_eq!(token.parse::<Token>().unwrap().view_token(), view);
        assert_ne!(view_token("ann.0123456789abcdee"), view);
        assert_ne!(view_token(&view), view);
    }
}
