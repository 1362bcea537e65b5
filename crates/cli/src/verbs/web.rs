//! `dewar web`: the way into the broker's web page.

use crate::{broker, failure::Failure, output};
use anyhow::anyhow;
use clap::Args;
use dewar_sdk::Token;
use dewar_settings::ConnectArgs;
use serde_json::json;

/// The first protocol whose brokers have a page.
const MINOR: u32 = 5;

/// Prints the link to the broker's web page that lets a browser look.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  dewar web\n  dewar web --broker titan:9990\n  \
    ssh -L 9990:127.0.0.1:9990 titan    then open here what `dewar web` prints there\n  \
    curl -H \"Authorization: Bearer $(dewar web --json | jq -r .token)\" http://127.0.0.1:9990/metrics\n\n\
    The link carries a view token, which is made of yours: whoever has it can look at everything and change nothing, for as \
    long as your own token is valid. Prometheus takes it, too: see docs/metrics.md.\n\n\
    JSON keys: url, token"
)]
pub struct Options {
    #[command(flatten)]
    connect: ConnectArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(options: &Options) -> Result<(), Failure> {
    let status = broker::ask(&options.connect, async |client| client.status().await)?;
    let spoken = status.protocol;
    if spoken.minor < MINOR {
        return Err(Failure::work(anyhow!(
            "the broker at {} is dewar {}, which has no web page yet",
            options.connect.broker,
            status.program_version
        ))
        .try_next("dewar top"));
    }
    let token = options.connect.token().map_err(Failure::input)?;
    let token: Token = token.parse().map_err(Failure::input)?;
    let view = token.view_token();
    // After the #, which browsers keep to themselves.
    let url = format!("http://{}/sign-in#token={view}", options.connect.broker);
    if options.json {
        return output::print_json(&json!({ "url": url, "token": view }));
    }
    eprintln!("open this link in a browser; whoever has it can look, and change nothing:");
    output::print(&format!("{url}\n"))
}
