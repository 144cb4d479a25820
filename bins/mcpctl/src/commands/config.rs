//! `mcpctl config`: the contexts.

use std::process::ExitCode;

use clap::Subcommand;
use mcpctl_api::spec::SubjectKind;
use mcpctl_client::config::{self, Context};

use crate::{
    Outcome,
    agent::AgentAccount,
    context::Global,
    failure::Failure,
    output::{
        ListFormat,
        table::{Table, short_fingerprint},
    },
};

/// What to do with contexts.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the contexts
    GetContexts {
        /// table, wide (each in one line) or name
        #[arg(long, short, value_enum, default_value = "table")]
        output: ListFormat,
        /// Leave the header of the table out
        #[arg(long)]
        no_headers: bool,
    },
    /// Print the name of the current one
    CurrentContext,
    /// Use another one from now on
    UseContext {
        /// Its name
        name: String,
    },
    /// Give one another name
    RenameContext {
        /// Its name
        name: String,
        /// Its new name
        new: String,
    },
    /// Forget one
    DeleteContext {
        /// Its name
        name: String,
    },
    /// Print the file, tokens hidden
    View,
}

/// Runs the command.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let (path, mut config) = global.config()?;
    let unknown =
        |name: &str| Failure::new(format!("there is no context `{name}`")).hint("mcpctl config get-contexts");
    match args.command {
        Command::GetContexts { output: ListFormat::Name, .. } => {
            config.contexts.iter().try_for_each(|context| data!("{}", context.name))?;
        }
        Command::GetContexts { output, no_headers } => {
            let mut table = Table::new(&["CURRENT", "NAME", "SERVER", "USER", "PINNED KEY"])
                .wrapping("USER")
                .unbroken(&["NAME", "SERVER", "PINNED KEY"])
                .where_they_fit(&["PINNED KEY"])
                .in_one_line(output == ListFormat::Wide)
                .without_header(no_headers);
            for context in &config.contexts {
                let pinned = config.pins_of(&context.server).and_then(|pins| pins.keys.first());
                let current = config.current_context.as_ref() == Some(&context.name);
                table.row([
                    if current { "*" } else { "" },
                    &context.name,
                    context.server.as_str().trim_end_matches('/'),
                    &account(context),
                    &pinned.map_or_else(
                        || "none".to_owned(),
                        |key| short_fingerprint(key.fingerprint().as_str()),
                    ),
                ]);
            }
            table.print()?;
        }
        Command::CurrentContext => match &config.current_context {
            Some(name) => data!("{name}")?,
            None => return Err(Failure::new("there is no current context").hint("mcpctl login URL")),
        },
        Command::UseContext { name } => {
            let before = AgentAccount::now().await;
            config::update(&path, |config| {
                if config.context(Some(&name)).is_none() {
                    return Err(unknown(&name));
                }
                config.current_context = Some(name.clone());
                Ok((true, ()))
            })?;
            note!("switched to context `{name}`");
            before.report_change().await;
        }
        Command::DeleteContext { name } => {
            let before = AgentAccount::now().await;
            config::update(&path, |config| {
                if config.context(Some(&name)).is_none() {
                    return Err(unknown(&name));
                }
                config.contexts.retain(|context| context.name != name);
                config.current_context = config.current_context.take().filter(|current| *current != name);
                Ok((true, ()))
            })?;
            note!("context `{name}` deleted");
            before.report_change().await;
        }
        Command::RenameContext { name, new } => {
            config::update(&path, |config| {
                if config.context(Some(&new)).is_some() {
                    return Err(Failure::new(format!("there is a context `{new}` already")).hint(format!(
                        "take another name, or remove that one: mcpctl config delete-context {new}"
                    )));
                }
                let context = config.contexts.iter_mut().find(|context| context.name == name);
                context.ok_or_else(|| unknown(&name))?.name.clone_from(&new);
                if config.current_context.as_ref() == Some(&name) {
                    config.current_context = Some(new.clone());
                }
                Ok((true, ()))
            })?;
            note!("context `{name}` is `{new}` now");
        }
        Command::View => {
            for context in &mut config.contexts {
                context.token = context.token.take().map(|_| mcpctl_api::spec::SecretValue::new("REDACTED"));
            }
            data!("{}", crate::output::yaml(&config)?.trim_end())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The account of a context: a user by name, as most are.
fn account(context: &Context) -> String {
    match &context.account {
        Some(account) if account.kind != SubjectKind::User => account.to_string(),
        Some(account) => account.name.to_string(),
        None => context.user.clone().unwrap_or_default(),
    }
}
