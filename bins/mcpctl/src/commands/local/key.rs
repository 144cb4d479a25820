//! `mcpctl local key`: the local key, for clients that run a command for their key rather than keep it in a file.

use std::process::ExitCode;

use secrecy::ExposeSecret as _;
use url::Url;

use crate::{Outcome, agent, context::parse_server, failure::Failure};

/// For which address.
#[derive(clap::Args)]
pub struct Args {
    /// Address to which the client will send the key: none is printed unless the agent listens there
    #[arg(long, value_name = "URL")]
    at: Option<String>,
}

/// Prints the key. An error where the agent does not listen at the address, because another user's program may.
pub async fn run(args: Args) -> Outcome {
    let address = agent::address().await?;
    if let Some(at) = &args.at {
        let named = parse_server(at).map_err(Failure::usage)?;
        if !is_same(&named, &address) {
            let shown = address.as_str().trim_end_matches('/');
            return Err(Failure::new(format!(
                "mcplocal listens at {shown}, not at {at}, so no key is given"
            ))
            .hint("set the client up again: mcpctl local env --for CLIENT --write"));
        }
    }
    data!("{}", agent::local_key()?.expose_secret())?;
    Ok(ExitCode::SUCCESS)
}

fn is_same(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin()
}
