//! `mcpctl rotate`: a new secret for a token.

use std::process::ExitCode;

use clap::Subcommand;
use mcpctl_api::{
    HumanDuration,
    question::{IssuedToken, RotationRequest},
};

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
    if me.token.as_ref() == Some(&issued.name)
        && let Some(context) = context
    {
        save(global, &context.name, &issued)?;
        note!("context `{}` uses the new one", context.name);
    }
    Ok(ExitCode::SUCCESS)
}

fn save(global: &Global, context: &str, issued: &IssuedToken) -> Result<(), Failure> {
    let (path, mut config) = global.config()?;
    if let Some(context) = config.contexts.iter_mut().find(|known| known.name == context) {
        context.token = Some(issued.token.clone());
        context.expires_at = Some(issued.expires_at);
        config.save(&path)?;
    }
    Ok(())
}
