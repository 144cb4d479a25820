//! `mcpctl token`: the caller's own tokens, for which a person needs no rule. Tokens of all accounts are resources: `mcpctl get tokens`.

use std::process::ExitCode;

use clap::Subcommand;
use mcpctl_api::{
    Kind, Name,
    question::WhoAmI,
    token_status::{TokenStatus, TokenStatusList},
};
use mcpctl_client::Client;

use super::{
    create::credentials::TokenOptions,
    rotate::{Rotation, Times},
    writing::{DryRunArg, WriteArgs},
};
use crate::{
    Outcome,
    context::{Global, Identity},
    failure::Failure,
    output::{
        self, Shape,
        table::{Table, age, until},
    },
};

/// What to do with them.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List them: how each begins, when it was made, when it ends and when it was last used
    List {
        /// With the sessions that `mcpctl login` began
        #[arg(long)]
        sessions: bool,
        /// table, wide, json or yaml
        #[arg(long, short, value_enum, default_value = "table")]
        output: Shape,
    },
    /// Make one; printed once, on standard output
    Create {
        /// What it is called, e.g. laptop; your own name is put before it
        name: String,
        #[command(flatten)]
        options: TokenOptions,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Give one a new secret: without a name the one in use, which its context then has
    Rotate {
        /// Its name or id
        name: Option<String>,
        #[command(flatten)]
        times: Times,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Revoke tokens: requests with them are refused from then on
    Revoke {
        /// Their names or ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        run: DryRunArg,
    },
}

/// Runs the command.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let identity = global.identity()?;
    let context = identity.context.clone();
    let caller = Caller::find(identity).await?;
    match args.command {
        Command::List { sessions, output } => caller.list(sessions, output).await,
        Command::Create { name, options, write } => {
            let name = caller.own_name(&name)?;
            options.issue(&caller.client, name, caller.me.subject, write).await
        }
        Command::Rotate { name, times, write } => {
            let (name, prints_saved) = match name {
                Some(name) => (caller.resolve(&name).await?, true),
                None => (caller.in_use()?, false),
            };
            let Caller { client, me, .. } = caller;
            Rotation { context, in_use: me.token, name, times, prints_saved, write }
                .run(global, &client)
                .await
        }
        Command::Revoke { names, run } => {
            let client = run.client(caller.client.clone());
            let suffix = run.suffix();
            for name in names {
                let name = caller.resolve(&name).await?;
                if !run.is_client_side() {
                    output::warnings(&client.delete(Kind::Token, &name, None).await?);
                }
                data!("tokens/{name} revoked{suffix}")?;
                if suffix.is_empty() && caller.me.token.as_ref().is_some_and(|own| own.as_str() == name) {
                    note!("it was the one in use; sign in again: {}", caller.renewal);
                }
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Who asks.
struct Caller {
    client: Client,
    me: WhoAmI,
    /// What to do where its token is no longer valid.
    renewal: String,
}

impl Caller {
    async fn find(identity: Identity) -> Result<Self, Failure> {
        let renewal = identity.renewal.clone();
        let client = identity.client()?;
        let me = client.whoami().await?;
        Ok(Self { client, me, renewal })
    }

    async fn tokens(&self) -> Result<TokenStatusList, Failure> {
        Ok(self.client.tokens_of(&self.me.subject).await?)
    }

    async fn list(&self, sessions: bool, output: Shape) -> Outcome {
        let mut tokens = self.tokens().await?;
        tokens.items.retain(|token| sessions || !token.session);
        if output.print(&tokens)? {
            return Ok(ExitCode::SUCCESS);
        }
        let header = ["NAME", "BEGINS WITH", "STATUS", "AGE", "EXPIRES", "LAST USED", "MAY ONLY"];
        let mut table = Table::new(&header)
            .wrapping("LAST USED")
            .unbroken(&["STATUS", "AGE", "EXPIRES", "BEGINS WITH"])
            .where_they_fit(&["AGE", "BEGINS WITH"])
            .without_empty()
            .in_one_line(output == Shape::Wide);
        for token in &tokens.items {
            table.row(self.row(token));
        }
        table.print()?;
        Ok(ExitCode::SUCCESS)
    }

    fn row(&self, token: &TokenStatus) -> [String; 7] {
        let in_use = self.me.token.as_ref() == Some(&token.token);
        let rules = token.rules.iter().flatten().map(ToString::to_string).collect::<Vec<_>>();
        [
            token.token.to_string(),
            beginning(token),
            token.state.as_str().to_owned(),
            token.created_at.map(age).unwrap_or_default(),
            until(token.expires_at),
            if in_use { "now, by this command".to_owned() } else { output::last_used(token) },
            rules.join("; "),
        ]
    }

    /// The name of a new token: the account's before it, as mcpd wants it of those who make tokens for themselves.
    fn own_name(&self, given: &str) -> Result<Name, Failure> {
        let account = &self.me.subject.name;
        let whole = format!("{account}-{given}");
        let starts = given.strip_prefix(account.as_str()).is_some_and(|rest| rest.starts_with('-'));
        let name = if starts { given } else { whole.as_str() };
        name.parse().map_err(Failure::usage)
    }

    /// The name of an own token that is given by its name, with or without the account's before it, or by its id.
    async fn resolve(&self, given: &str) -> Result<String, Failure> {
        let whole = format!("{}-{given}", self.me.subject.name);
        let tokens = self.tokens().await?.items;
        let found = |wanted: &str| {
            tokens.iter().find(|token| token.token.as_str() == wanted || token.id.as_str() == wanted)
        };
        match found(given).or_else(|| found(&whole)) {
            Some(token) => Ok(token.token.to_string()),
            None => Err(Failure::new(format!("{} has no token `{given}`", self.me.subject))
                .hint("`mcpctl token list` shows your own; `mcpctl get tokens` those that you may view")),
        }
    }

    fn in_use(&self) -> Result<String, Failure> {
        match &self.me.token {
            Some(token) => Ok(token.to_string()),
            None => Err(Failure::new("mcpd does not name the token in use").hint("name it")),
        }
    }
}

/// How a token begins; of those that older versions of mcpd made it is not known.
pub(super) fn beginning(token: &TokenStatus) -> String {
    token.prefix.as_ref().map(|prefix| format!("{}…", output::one_line(prefix))).unwrap_or_default()
}
