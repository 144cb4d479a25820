//! `mcpctl rotate`: a new secret for a token.

use std::process::ExitCode;

use clap::Subcommand;
use mcpctl_api::{
    HumanDuration,
    question::{IssuedToken, RotationRequest},
};
use mcpctl_client::config::{self, ConfigError};

use crate::{Outcome, context::Global, failure::Failure, output::table::until};

/// What to rotate.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// A token: a new secret with the same name, account and rules; printed once, on standard output
    Token(Token),
}

/// A token.
#[derive(clap::Args)]
struct Token {
    /// Its name or id
    name: String,
    /// How long the old secret stays good, e.g. 1h; it ends at once without this
    #[arg(long, value_name = "DURATION")]
    grace: Option<HumanDuration>,
    /// How long the new one is good for, e.g. 90d; as long as the old one was made for without this
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<HumanDuration>,
}

/// Rotates it. The token of the context in use is saved there, so that its owner stays signed in.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let What::Token(Token { name, grace, expires_in }) = args.what;
    let identity = global.identity()?;
    let context = identity.context.clone();
    let client = identity.client()?;
    let me = client.whoami().await?;
    let issued = client.rotate_token(&name, &RotationRequest { grace, expires_in }).await?;
    let mut saved = Ok(None);
    if me.token.as_ref() == Some(&issued.name)
        && let Some(context) = context
    {
        // Before it is printed, so that output that cannot be written does not lose it. What cannot be saved is printed all the same.
        saved = save(global, &context.name, &issued).map(|()| Some(context.name));
    }
    // The token alone, so that it can go straight into a file or a variable.
    data!("{}", issued.token.expose())?;
    let old = match grace.filter(|grace| !grace.is_zero()) {
        Some(grace) => format!("the old secret is good for {grace} more"),
        None => "the old secret is no longer good".to_owned(),
    };
    note!(
        "tokens/{} rotated, expires {}; it is shown this once; {old}",
        issued.name,
        until(issued.expires_at)
    );
    if let Some(context) = saved? {
        note!("context `{context}` uses the new one");
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts the new token into a context.
fn save(global: &Global, context: &str, issued: &IssuedToken) -> Result<(), Failure> {
    let (path, _) = global.config()?;
    config::update(&path, |config| {
        let known = config.contexts.iter_mut().find(|known| known.name == context);
        let found = known.is_some();
        if let Some(known) = known {
            known.token = Some(issued.token.clone());
            known.expires_at = Some(issued.expires_at);
        }
        Ok::<_, ConfigError>((found, ()))
    })?;
    Ok(())
}
