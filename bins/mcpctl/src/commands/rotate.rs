//! `mcpctl rotate`: a new secret for a token.

use std::process::ExitCode;

use clap::Subcommand;
use mcpctl_api::{
    HumanDuration, Kind, Name,
    question::{IssuedToken, RotationRequest},
};
use mcpctl_client::{
    Client,
    config::{self, ConfigError, Context},
};

use super::{
    create::credentials::{check_token_output, print_issued},
    writing::{DryRun, WriteArgs},
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
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    write: WriteArgs,
}

/// How long the two secrets are good for.
#[derive(clap::Args)]
pub(super) struct Times {
    /// How long the old secret stays good, e.g. 1h; it ends at once without this
    #[arg(long, value_name = "DURATION")]
    grace: Option<HumanDuration>,
    /// How long the new one is good for, e.g. 90d; as long as the old one was made for without this
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<HumanDuration>,
}

/// Rotates it.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let What::Token(Token { name, times, write }) = args.what;
    let identity = global.identity()?;
    let context = identity.context.clone();
    let client = identity.client()?;
    let me = client.whoami().await?;
    Rotation { context, in_use: me.token, name, times, prints_saved: true, write }.run(global, &client).await
}

/// The rotation of one token.
pub(super) struct Rotation {
    /// The context of the credential in use.
    pub context: Option<Context>,
    /// The name of the token in use. Where it is the one that is rotated, its context gets the new one, so that its owner stays
    /// signed in.
    pub in_use: Option<Name>,
    /// Name or id of the token.
    pub name: String,
    /// How long the secrets are good for.
    pub times: Times,
    /// Whether a token that its context has got is printed too.
    pub prints_saved: bool,
    /// Whether it is a dry run, and what is printed.
    pub write: WriteArgs,
}

impl Rotation {
    /// Rotates the token, saves it where it is the one in use, and prints it.
    pub async fn run(self, global: &Global, client: &Client) -> Outcome {
        let Self { context, in_use, name, times: Times { grace, expires_in }, prints_saved, write } = self;
        check_token_output(write)?;
        let wanted = RotationRequest { grace, expires_in };
        if write.dry_run() == DryRun::Server {
            let token = client.try_rotation(&name, &wanted).await?;
            let mut report = write.report();
            report.add(Kind::Token, &token.name, Some(&token), "rotated")?;
            return report.finish();
        }
        let issued = client.rotate_token(&name, &wanted).await?;
        let mut saved = Ok(None);
        if in_use.as_ref() == Some(&issued.name)
            && let Some(context) = context
        {
            // Before it is printed, so that output that cannot be written does not lose it. What cannot be saved is printed all the same.
            saved = save(global, &context.name, &issued).map(|()| Some(context.name));
        }
        let printed = prints_saved || !matches!(saved, Ok(Some(_)));
        if printed {
            print_issued(&issued, write)?;
        }
        let old = match grace.filter(|grace| !grace.is_zero()) {
            Some(grace) => format!("the old secret is good for {grace} more"),
            None => "the old secret is no longer good".to_owned(),
        };
        let shown = if printed { "; it is shown this once" } else { "" };
        note!("tokens/{} rotated, expires {}{shown}; {old}", issued.name, until(issued.expires_at));
        if let Some(context) = saved? {
            note!("context `{context}` uses the new one");
        }
        Ok(ExitCode::SUCCESS)
    }
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
