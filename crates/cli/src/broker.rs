//! The way to the broker.
//!
//! Work such as a refinement waits for an absent broker without end; a verb that asks one thing and leaves does not.

use crate::{clock, failure::Failure};
use anyhow::anyhow;
use dewar_sdk::{CallError, Client, ConnectError, Link};
use dewar_settings::ConnectArgs;
use std::{future::Future, time::Duration};
use tokio::{runtime, sync::watch, time};

/// How long an answer may take once the broker was reached: it answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Runs `question` against the broker that `connect` names.
///
/// # Errors
/// If the broker is not reached, has gone before it answered, or refuses.
pub fn ask<T, E: Into<Failure>, Answer>(
    connect: &ConnectArgs,
    question: impl FnOnce(Client) -> Answer,
) -> Result<T, Failure>
where
    Answer: Future<Output = Result<T, E>>,
{
    block_on(async {
        let client = reach(connect).await?;
        match time::timeout(ANSWER_WITHIN, question(client)).await {
            Ok(answer) => answer.map_err(Into::into),
            Err(_) => Err(Failure::not_reached(anyhow!(
                "broker at {} did not answer within {} s",
                connect.broker,
                ANSWER_WITHIN.as_secs()
            ))),
        }
    })
}

/// Runs what waits for a broker.
///
/// # Errors
/// Its own, and those of the system.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::work)?;
    runtime.block_on(work)
}

/// Connects, with the token the settings name.
///
/// # Errors
/// If there is no token, or the broker is not reached or refuses.
pub async fn reach(connect: &ConnectArgs) -> Result<Client, Failure> {
    let token = connect.token();
    let token = token.map_err(|error| Failure::input(error).try_next("dewar doctor"))?;
    let token = token
        .parse()
        .map_err(|error| Failure::input(anyhow!("the token cannot be used: {error}")))?;
    Client::connect(&connect.broker, token)
        .await
        .map_err(not_connected)
}

/// Tells when the broker goes and when it is back, for work that waits for it.
pub fn tell_absences(mut link: watch::Receiver<Link>, say: impl Fn(&str) + Send + 'static) {
    tokio::spawn(async move {
        let mut was_away = false;
        while link.changed().await.is_ok() {
            let now = link.borrow_and_update().clone();
            let is_away = now != Link::Up;
            match now {
                Link::Away { since, reason } if !was_away => {
                    let since = clock::time_of_day_utc(since);
                    say(&format!(
                        "broker away since {since} UTC, waiting ({reason})"
                    ));
                }
                Link::Up if was_away => say("broker is back"),
                _ => {}
            }
            was_away = is_away;
        }
    });
}

fn not_connected(error: ConnectError) -> Failure {
    match error {
        ConnectError::NotReached { .. } => Failure::not_reached(error).try_next("dewar doctor"),
        ConnectError::Address { .. } => Failure::input(error),
        ConnectError::Call(error) => error.into(),
        ConnectError::Incompatible(_) => Failure::work(error),
    }
}

impl From<CallError> for Failure {
    /// A wrong name or token is the command line's fault, the rest is the work's.
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotFound { .. } => Self::input(error).try_next("dewar jobs, dewar workers"),
            CallError::Token { .. } => Self::input(error).try_next("dewar doctor"),
            CallError::NotYours { .. } => {
                Self::input(error).try_next("--token-file with the owner's token")
            }
            _ => Self::work(error),
        }
    }
}
