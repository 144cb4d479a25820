//! `mcpctl passwd`: the caller's own password, or for an administrator another user's.

use std::{io::IsTerminal as _, process::ExitCode};

use mcpctl_api::{Kind, Name, credential, question::PasswordChange, spec::SecretValue};
use serde_json::json;

use super::files;
use crate::{
    Outcome,
    context::Global,
    failure::Failure,
    output::{self, terminal},
    suggest,
};

/// Whose password, and from where.
#[derive(clap::Args)]
pub struct Args {
    /// Another user, whose present password is not asked for; takes the verb `grant` on that user
    name: Option<Name>,
    /// Read them from standard input, one a line: the present password, unless it is another user's, and the new one
    #[arg(long)]
    stdin: bool,
}

/// Changes the password.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let client = global.client()?;
    let me = client.whoami().await?.subject;
    let mut source = Source::open(args.stdin)?;
    let Some(name) = args.name else {
        let current = source.present(&format!("Present password of {}", me.name))?;
        let change = PasswordChange { current, new: source.new_one(&me.name)? };
        source.end()?;
        client.change_password(&change).await?;
        note!("the password of {me} is changed, and other sessions have ended");
        return Ok(ExitCode::SUCCESS);
    };
    if matches!(source, Source::Terminal)
        && let Err(error) = client.get(Kind::User, name.as_str()).await
        && error.is_missing()
    {
        return Err(suggest::not_found(&client, Kind::User, name.as_str(), error).await);
    }
    let password = source.new_one(&name)?;
    source.end()?;
    let changed = client.patch(Kind::User, name.as_str(), &json!({"password": password}), None).await;
    let changed = changed.map_err(|error| {
        let failure = Failure::from(error);
        if me.name == name {
            failure.hint("`mcpctl passwd`, without a name, changes your own")
        } else {
            failure
        }
    })?;
    output::warnings(&changed.warnings);
    note!("the password of User {name} is changed, and its sessions have ended");
    if me.name != name {
        note!(
            "it allows no more than you may do or grant, and is void when your account is disabled or deleted"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What standard input has.
const LINES: &str = "one a line: the present one, unless it is another user's, and the new one";

/// From where passwords are read: prompts on the terminal, without an echo, or lines of standard input.
enum Source {
    Terminal,
    Lines(std::vec::IntoIter<String>),
}

impl Source {
    fn open(stdin: bool) -> Result<Self, Failure> {
        match stdin {
            true => {
                let text = files::stdin()?;
                let text = credential::without_line_end(&text);
                let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line).to_owned());
                Ok(Self::Lines(lines.collect::<Vec<_>>().into_iter()))
            }
            false if std::io::stdin().is_terminal() => Ok(Self::Terminal),
            false => Err(Failure::usage("there is no terminal to ask for a password").hint("pass --stdin")),
        }
    }

    fn present(&mut self, prompt: &str) -> Result<SecretValue, Failure> {
        match self {
            Self::Terminal => terminal::ask_secret(prompt, false).map(SecretValue::new),
            Self::Lines(lines) => line(lines, "the present password"),
        }
    }

    fn new_one(&mut self, name: &Name) -> Result<SecretValue, Failure> {
        match self {
            Self::Terminal => {
                terminal::ask_secret(&format!("New password of {name}"), true).map(SecretValue::new)
            }
            Self::Lines(lines) => line(lines, "the new password"),
        }
    }

    /// Rejects further lines: they show that another order was meant.
    fn end(self) -> Result<(), Failure> {
        match self {
            Self::Lines(lines) if lines.len() > 0 => {
                Err(Failure::usage("standard input has more lines than passwords").hint(LINES))
            }
            Self::Lines(_) | Self::Terminal => Ok(()),
        }
    }
}

fn line(lines: &mut impl Iterator<Item = String>, what: &str) -> Result<SecretValue, Failure> {
    match lines.next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(SecretValue::new(line)),
        None => Err(Failure::usage(format!("standard input lacks {what}")).hint(LINES)),
    }
}
