//! Which broker to talk to, and the token that opens it.

use crate::broker_data_dir;
use clap::Args;
use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// Flags of everything that connects to a broker.
#[derive(Debug, Clone, Args)]
pub struct ConnectArgs {
    /// The broker's address.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "DEWAR_BROKER",
        default_value = "127.0.0.1:9990",
        global = true
    )]
    pub broker: String,
    /// File that holds the token. Without it: DEWAR_TOKEN, else that of this account's own broker on this machine.
    #[arg(long, value_name = "FILE", env = "DEWAR_TOKEN_FILE", global = true)]
    pub token_file: Option<PathBuf>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file named for it cannot be read.
    #[error("cannot read the token file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody named one, and no broker of this account left one here.
    #[error(
        "no token: give --token-file FILE or DEWAR_TOKEN with the contents of the broker's file `token` \
         (this account's own broker would have left it at {})",
        looked_at.display()
    )]
    None {
        /// Where a broker of this account would have left it.
        looked_at: PathBuf,
    },
}

impl ConnectArgs {
    /// Finds the token's text.
    ///
    /// # Errors
    /// If none was named or left, or its file cannot be read.
    pub fn token(&self) -> Result<String, TokenError> {
        if let Some(path) = &self.token_file {
            return read(path);
        }
        if let Some(token) = env::var("DEWAR_TOKEN")
            .ok()
            .filter(|token| !token.is_empty())
        {
            return Ok(token);
        }
        let own = broker_data_dir().unwrap_or_default().join("token");
        if own.exists() {
            read(&own)
        } else {
            Err(TokenError::None { looked_at: own })
        }
    }
}

fn read(path: &Path) -> Result<String, TokenError> {
    match fs::read_to_string(path) {
        Ok(token) => Ok(token.trim().to_owned()),
        Err(source) => Err(TokenError::File {
            path: path.to_owned(),
            source,
        }),
    }
}
